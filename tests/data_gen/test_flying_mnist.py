"""Flying and static MNIST."""

import numpy as np
import pytest
from small_sets import write_npz

from data_gen.generator import SPLITS
from data_gen.mnist import FlyingMNIST


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


def test_a_pixel_belongs_to_a_digit_from_grey_25_on():
    features, groups = FlyingMNIST(nr_objects=1, nr_frames=2).sequences(np.random.default_rng(0), 100, "test")
    np.testing.assert_array_equal(groups == 1, features >= 25)
    assert ((features > 0) & (features < 25)).any()


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
