"""Names of data sets: what they mean, and what is none."""

import pytest

from data_gen import DataGenError, names


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("flying_shapes", ("flying_shapes", 3, None, (3,), 21)),
        ("flying_shapes_5", ("flying_shapes", 5, None, (5,), 21)),
        ("static_shapes_12", ("static_shapes", 12, None, (12,), 21)),
        ("flying_mnist_2", ("flying_mnist", 2, None, (2,), 21)),
        ("flying_mnist_2_500", ("flying_mnist", 2, 500, (2,), 21)),
        ("static_mnist_3_20", ("static_mnist", 3, 20, (3,), 21)),
        ("balls4mass64", ("balls_mass", 4, None, (4,), 51)),
        ("balls678mass64", ("balls_mass", 8, None, (6, 7, 8), 51)),
        ("balls3curtain64", ("balls_curtain", 3, None, (3,), 51)),
    ],
)
def test_a_name_says_family_objects_distinct_digits_and_length(name, meaning):
    assert names.parse(name) == names.known(name) == meaning


@pytest.mark.parametrize(
    "name",
    [
        *("", "shapes", "flying_shapes_0", "flying_shapes_100", "flying_shapes_", "flying_shapes_3 "),
        *("flying_shapes_3_4", "flying_mnist", "flying_mnist_10", "flying_mnist_2_0", "mnist_2", "flying_saucers"),
        *("../flying_shapes", "flying_shapes_1٣", "flying_shapes\n"),
        *("balls", "ballsmass64", "balls4mass", "balls4mass32", "balls9mass64", "balls64mass64", "balls44curtain64"),
    ],
)
def test_what_is_no_name(name):
    assert names.parse(name) is None
    with pytest.raises(DataGenError, match=r"(?s)--dataset=.* is unknown: expected \(flying\|static\)_shapes"):
        names.known(name)


@pytest.mark.parametrize(
    "name", ["flying_shapes", "static_mnist_2_20", "", "a/b", "..", ".hidden", "x.h5", "a b", "-x"]
)
def test_a_name_of_ones_own_is_plain_and_not_a_published_one(name):
    with pytest.raises(DataGenError, match=r"--name="):
        names.check_own(name)


@pytest.mark.parametrize("name", ["old_shapes", "flying_shapes_old", "Formen-2"])
def test_names_of_ones_own(name):
    names.check_own(name)
