"""Flying and static shapes: sprites, motion, labels and the published statistics."""

import hashlib

import numpy as np
import pytest

import data_gen
from data_gen import DataGenError
from data_gen.shapes import SPRITES, FlyingShapes


def lit_per_row(sprite):
    return sprite.sum(1).tolist()


def test_sprites_are_the_published_ones():
    square, up, down = SPRITES[12]
    assert square.shape == (7, 7)
    assert not square[2:5, 2:5].any()
    assert square.sum() == 40
    assert up.shape == (7, 12)
    assert lit_per_row(up) == [2, 4, 6, 6, 6, 12, 12]
    np.testing.assert_array_equal(up, up[:, ::-1])
    edges = [np.flatnonzero(np.diff(row.astype(int), prepend=0, append=0)).tolist() for row in up]
    assert edges == [[5, 7], [4, 8], [3, 9], [2, 5, 7, 10], [1, 4, 8, 11], [0, 12], [0, 12]]
    np.testing.assert_array_equal(down, up[::-1])


@pytest.mark.parametrize(("nr_objects", "overlap", "lit"), [(3, 0.09, 0.16), (4, 0.13, 0.205), (5, 0.165, 0.247)])
def test_share_of_lit_and_of_overlapping_pixels_is_the_published_one(nr_objects, overlap, lit):
    features, groups = FlyingShapes(nr_objects).sequences(np.random.default_rng(0), 1500, "test")
    assert features.mean() == pytest.approx(lit, abs=0.005)
    assert (groups[features == 1] == 0).mean() == pytest.approx(overlap, abs=0.006)


@pytest.mark.parametrize("nr_objects", [1, 3, 9])
def test_groups_say_which_object_and_leave_overlap_out(nr_objects):
    features, groups = FlyingShapes(nr_objects).sequences(np.random.default_rng(0), 40, "test")
    assert features.shape == groups.shape == (21, 40, 28, 28, 1)
    assert features.dtype == groups.dtype == np.uint8
    assert set(np.unique(features)) == {0, 1}
    assert groups.max() == nr_objects
    assert not groups[features == 0].any()
    if nr_objects == 1:
        np.testing.assert_array_equal(groups, features)
    apart = (features == (groups > 0)).all((2, 3, 4))  # frames in which nothing overlaps: each object is whole
    assert apart.any() or nr_objects == 9
    assert not apart.all() or nr_objects == 1
    for label in range(1, nr_objects + 1):
        assert set(np.unique((groups == label).sum((2, 3, 4))[apart])) <= {40, 48}


def one_object(motion="integer", nr_frames=60, n=400, seed=1):
    """Kind (index of the sprite), corner [T, n, (y, x)] and room [n, (y, x)] of one object, read off the pixels.

    Fails where the object is not one of the sprites, whole.
    """
    features, _ = FlyingShapes(1, nr_frames, motion=motion).sequences(np.random.default_rng(seed), n, "test")
    images = features[..., 0].astype(bool)
    corner = np.stack([images.any(3).argmax(2), images.any(2).argmax(2)], -1)
    kinds, rooms = [], []
    for index in range(n):
        fits = []
        for sprite in SPRITES[12]:
            height, width = sprite.shape
            cut = [image[y : y + height, x : x + width] for image, (y, x) in zip(images[:, index], corner[:, index])]
            fits.append(all(np.array_equal(part, sprite) for part in cut))
        (kind,) = np.flatnonzero(fits)
        assert (images[:, index].sum((1, 2)) == SPRITES[12][kind].sum()).all()
        kinds.append(kind)
        rooms.append(np.subtract(28, SPRITES[12][kind].shape))
    return np.array(kinds), corner, np.array(rooms)


def test_shapes_move_by_whole_pixels_and_turn_at_the_border():
    """Compares whole paths with a walk that is taken pixel by pixel."""
    _, corner, room = one_object()
    for index in range(corner.shape[1]):
        for axis in range(2):
            path, end = corner[:, index, axis], room[index, axis]
            place, step = int(path[0]), int(path[1] - path[0])
            assert step in (-1, 0, 1)
            for seen in path:
                assert place == seen
                if (place, step) in ((0, -1), (end, 1)):
                    step = -step
                place += step
    assert (corner.min(0) == 0).any()
    assert (corner.max(0) == room).any()


def test_shapes_and_velocities_are_drawn_uniformly():
    n = 6000
    features, _ = FlyingShapes(1, 2).sequences(np.random.default_rng(2), n, "test")
    images = features[..., 0].astype(bool)
    corner = np.stack([images.any(3).argmax(2), images.any(2).argmax(2)], -1)
    start = corner[0]
    inside = ((start > 0) & (start < 28 - 12)).all(-1)  # nothing turns there, so that all nine velocities are seen
    steps, counts = np.unique((corner[1] - corner[0])[inside], axis=0, return_counts=True)
    assert steps.tolist() == [[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    expected = inside.sum() / 9
    assert np.abs(counts - expected).max() < 5 * expected**0.5
    tops = images[0].sum(2)[np.arange(n), start[:, 0]]  # lit pixels of the first row: 7, 2 or 12
    _, counts = np.unique(tops, return_counts=True)
    assert len(counts) == 3
    assert np.abs(counts - n / 3).max() < 5 * (n / 3) ** 0.5


def test_starts_are_uniform_over_all_places():
    n = 30_000
    features, _ = FlyingShapes(1, 1).sequences(np.random.default_rng(3), n, "test")
    images = features[0, ..., 0].astype(bool)
    squares = images.sum((1, 2)) == 40
    corner = np.stack([images.any(2).argmax(1), images.any(1).argmax(1)], -1)[squares]
    places, counts = np.unique(corner, axis=0, return_counts=True)
    assert len(places) == 22 * 22
    expected = squares.sum() / 22**2
    assert np.abs(counts - expected).max() < 6 * expected**0.5
    border = ((places == 0) | (places == 21)).any(1)
    assert counts[border].mean() == pytest.approx(counts[~border].mean(), rel=0.1)


def test_real_motion_is_faster_goes_anywhere_and_stays_inside():
    _, corner, room = one_object(motion="real", n=100)
    assert (corner >= 0).all()
    assert (corner <= room).all()
    step = np.abs(np.diff(corner, axis=0))
    assert step.max() in (2, 3)  # up to 2 pixels, and places are rounded
    assert (step.sum((0, 2)) > 0).all()  # nothing stands still


def test_wide_triangles_are_an_own_rule():
    square, up, down = SPRITES[13]
    np.testing.assert_array_equal(square, SPRITES[12][0])
    assert up.shape == (7, 13)
    assert lit_per_row(up) == [1, 3, 5, 6, 6, 11, 13]
    np.testing.assert_array_equal(down, up[::-1])
    features, _ = FlyingShapes(1, 1, triangle=13).sequences(np.random.default_rng(0), 50, "test")
    assert set(np.unique(features.sum((0, 2, 3, 4)))) == {40, 45}


def test_a_longer_sequence_begins_with_the_shorter_one():
    for motion in ("integer", "real"):
        short, long = (
            FlyingShapes(3, nr_frames, motion=motion).sequences(np.random.default_rng(4), 5, "test")
            for nr_frames in (4, 30)
        )
        for a, b in zip(short, long):
            np.testing.assert_array_equal(a, b[:4])


def test_the_published_sequences_of_this_version_never_change():
    """If they have to: raise `data_gen.__version__`, so that a file of the old ones is not taken for new."""
    digest = hashlib.sha256()
    for array in FlyingShapes().sequences(np.random.default_rng(0), 64, "test"):
        digest.update(array.tobytes())
    assert (data_gen.__version__, digest.hexdigest()[:16]) == ("2", "bc63d26ffd6e38ed")


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"motion": "brown"}, "--motion=brown is unknown: expected integer or real"),
        ({"triangle": 14}, "--triangle=14 is unknown: expected 12 or 13"),
        ({"size": 12}, "--size=12 is too small"),
        ({"size": 65}, "--size=65 is too large for shapes: expected 64 at most"),
    ],
)
def test_rules_that_there_are_not(rules, sentence):
    with pytest.raises(DataGenError, match=sentence):
        FlyingShapes(**rules)
