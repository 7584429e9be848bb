"""Coloured shapes: what is seen is what the labels say, before a background that stands still."""

import hashlib

import numpy as np
import pytest

import data_gen
from data_gen import DataGenError
from data_gen.coloured import ColouredShapes, scene
from data_gen.registry import generator_of


def drawn(n=12, **rules):
    return ColouredShapes(**rules).sequences(np.random.default_rng(0), n, "test")


@pytest.mark.parametrize("background", ["scene", "black"])
def test_a_pixel_shows_its_object_or_the_background(background):
    features, groups = drawn(background=background)
    assert features.shape == (21, 12, 64, 64, 3)
    assert groups.shape == (21, 12, 64, 64, 1)
    behind = scene(64) if background == "scene" else np.zeros((64, 64, 3), np.uint8)
    nothing = groups[..., 0] == 0
    expected = np.broadcast_to(behind, features.shape)
    np.testing.assert_array_equal(features[nothing], expected[nothing])
    for sequence in range(12):
        for label in (1, 2, 3):
            colours = np.unique(features[:, sequence][groups[:, sequence, ..., 0] == label], axis=0)
            assert len(colours) == 1  # one colour of its own, in every frame
            assert colours.max() == 255
            assert colours.min() == 0


def test_the_later_object_hides_the_earlier():
    _, groups = drawn(n=200)
    seen = [(groups == label).sum((2, 3, 4)) for label in (1, 2, 3)]
    whole = {4 * 40, 4 * 48}
    assert set(np.unique(seen[2])) == whole  # the last one is never hidden
    assert seen[0].min() < 160
    assert seen[0].sum() < seen[1].sum() < seen[2].sum()


def test_objects_move_and_stay_inside():
    _, groups = drawn(n=50, nr_frames=60)
    for label in (1, 2, 3):
        moved = (groups[1:] == label) != (groups[:-1] == label)
        assert moved.any((2, 3, 4)).mean() > 0.95
    _, alone = drawn(n=50, nr_objects=1, nr_frames=60)
    assert set(np.unique((alone == 1).sum((2, 3, 4)))) == {4 * 40, 4 * 48}  # never cut off
    corners = np.stack([(alone[..., 0] == 1).any(axis=axis).argmax(-1) for axis in (3, 2)], axis=-1)  # [T, n, 2]
    speeds = np.linalg.norm(np.diff(corners, axis=0), axis=-1)  # of whole pixels
    assert 2.9 < speeds.max() < 3 + 2**0.5
    assert 0.7 < speeds.mean(0).min() < 1.3  # an object that turns at the border is slower there
    assert 2.5 < speeds.mean(0).max() < 3.1


def test_the_sequences_of_this_version_never_change():
    """If they have to: raise `data_gen.__version__`, so that a file of the old ones is not taken for new."""
    digest = hashlib.sha256(b"".join(array.tobytes() for array in drawn()))
    assert (data_gen.__version__, digest.hexdigest()[:16]) == ("2", "07f7a7aae7bac8d9")


def test_names_choose_the_background():
    assert generator_of("coloured_shapes", 21) == ColouredShapes(3, 21)
    assert generator_of("coloured_shapes_4_black", 5) == ColouredShapes(4, 5, "black")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataGenError, match=r"^background=red is unknown: expected scene or black"):
        ColouredShapes(background="red")
    with pytest.raises(DataGenError, match="size=24 is too small"):
        ColouredShapes(size=24)
