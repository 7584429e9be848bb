"""Generation on behalf of a program: which generator a name means, whose rules it may have, what an end leaves."""

import multiprocessing
import os

import h5py
import numpy as np
import pytest
from small_sets import SIZES, SMALL, visible

from data_gen import DataGenError, workers, writer
from data_gen.balls import Balls
from data_gen.generate import generate
from data_gen.identity import identity_of
from data_gen.mnist import FlyingMNIST
from data_gen.names import EXPECTED
from data_gen.registry import FAMILIES, generator_of
from data_gen.shapes import FlyingShapes


def test_a_name_means_a_generator():
    assert generator_of("flying_shapes", 21) == FlyingShapes(3, 21)
    assert generator_of("flying_shapes_7", 3) == FlyingShapes(7, 3)
    assert generator_of("static_shapes", 21) == FlyingShapes(3, 1)
    assert generator_of("flying_mnist_2", 21) == FlyingMNIST(2, 21)
    assert generator_of("flying_mnist_2_20", 21, "keras") == FlyingMNIST(2, 21, distinct=20, source="keras")
    assert generator_of("static_mnist_3", 21) == FlyingMNIST(3, 1)
    assert generator_of("balls678mass64", 51) == Balls((6, 7, 8), 51)
    assert generator_of("balls3curtain64", 51).curtain == 28
    with pytest.raises(DataGenError, match="--dataset=flying_saucers is unknown"):
        generator_of("flying_saucers", 21)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_name_and_the_help_says_so(family):
    motion, material, *rest = family.split("_")
    if motion == "coloured":
        assert generator_of("_".join([motion, material, "2", *rest]), 2).nr_objects == 2
        assert "coloured_shapes[_N][_black]" in EXPECTED
    elif motion == "balls":
        assert generator_of(f"balls2{material}64", 2).nr_objects == 2
        assert f"ballsN{material}64" in EXPECTED
    else:
        assert generator_of(f"{family}_2", 2).nr_objects == 2
        assert f"(flying|static)_{material}" in EXPECTED
        assert motion in EXPECTED


@pytest.mark.parametrize("name", ["shapes", "mnist_2"])
def test_static_images_are_the_first_frames_of_flying_ones(name):
    flying, static = (
        generator_of(f"{motion}_{name}", 21).sequences(np.random.default_rng(3), 4, "test")
        for motion in ("flying", "static")
    )
    for a, b in zip(flying, static):
        assert len(b) == 1
        np.testing.assert_array_equal(b[0], a[0])


def attributes(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def test_rules_of_ones_own_make_a_data_set_of_ones_own(tmp_path):
    rules = {"motion": "real", "triangle": 13}
    generator = FlyingShapes(5, 2, motion="real", triangle=13)
    assert generate(tmp_path / "old.h5", "flying_shapes_5", SMALL, 2, rules=rules) == "written"
    written = attributes(tmp_path / "old.h5")
    assert written.items() >= identity_of("old", generator.settings, 0).items()
    generate(tmp_path / "file.h5", "flying_shapes_5", SMALL, 2, rules=rules, name="old", workers=1)
    assert attributes(tmp_path / "file.h5") == written
    with pytest.raises(DataGenError, match="motion=real, not integer"):
        generate(tmp_path / "old.h5", "flying_shapes_5", SMALL, 2, name="old")


@pytest.mark.parametrize("rules", [{"motion": "real"}, {"size": 24}, {"triangle": 13}])
def test_a_published_name_means_the_published_rules(tmp_path, rules):
    ((rule, value),) = rules.items()
    for arguments in ({}, {"name": "own"}):
        with pytest.raises(DataGenError, match=f"--{rule}={value} makes another data set than .* --name=NAME"):
            generate(tmp_path / "static_shapes.h5", "flying_shapes", SMALL, 2, rules=rules, **arguments)
    assert not visible(tmp_path)
    published = {"motion": "integer", "size": 28, "triangle": 12}
    generate(tmp_path / "flying_shapes.h5", "flying_shapes", SMALL, 2, rules=published)
    assert generate(tmp_path / "flying_shapes.h5", "flying_shapes", SMALL, 2) == "complete"


def test_a_file_may_have_any_name_and_a_published_data_set_one_of_ones_own(tmp_path):
    generate(tmp_path / "x.h5", "flying_shapes", SMALL, 2)
    assert attributes(tmp_path / "x.h5")["dataset"] == "flying_shapes"
    generate(tmp_path / "y.h5", "flying_shapes", SMALL, 2, name="y", seed=4)
    assert attributes(tmp_path / "y.h5")["dataset"] == "y"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dataset": "mnist"}, "--dataset=mnist is unknown"),
        ({"sizes": {"training": 0, "test": 0}}, "there is nothing to write"),
        ({"sizes": {}}, "there is nothing to write"),
        ({"sizes": {"train": 5}}, "expected training, validation and test"),
        ({"sizes": {"training": -5}}, "training=-5"),
        ({"nr_frames": 0}, "nr_frames=0"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
        ({"name": "static_shapes"}, "--name=static_shapes is the name of a published data set"),
        ({"name": "a/b"}, "--name=a/b is not a plain name"),
        ({"rules": {"motion": "brown"}}, "--motion=brown is unknown"),
        ({"rules": {"colour": 3}}, "--colour is no rule of flying_shapes: expected motion or size or triangle"),
        ({"rules": {"size": 12}}, "--size=12 is too small: a triangle alone has 12 pixels"),
        ({"dataset": "flying_mnist_2", "rules": {"motion": "real"}}, "--motion is no rule of flying_mnist_2"),
        ({"dataset": "flying_mnist_2", "mnist": "nowhere"}, "--mnist=nowhere: no digits there"),
        ({"path": "~nobody-of-this-name/x.h5"}, "~nobody-of-this-name"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataGenError, match=sentence) as refusal:
        generate(**{"path": "x.h5", "dataset": "flying_shapes", "sizes": SMALL, "nr_frames": 2, **arguments})
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_home_in_a_path(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    generate("~/data/x.h5", "static_shapes", SMALL, 1)
    assert visible(tmp_path / "data") == ["x.h5"]


def test_by_default_every_core_works(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(writer, "write_dataset", lambda *arguments: asked.append(arguments[-1]))
    monkeypatch.setattr(workers, "available_cores", lambda: 5)
    for number in (None, 1):
        generate(tmp_path / "x.h5", "static_shapes", SMALL, 1, workers=number)
    assert asked == [5, 1]


def test_systems_that_do_not_tell_which_cores_one_may_use(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert generate(tmp_path / "x.h5", "static_shapes", SMALL, 1) == "written"
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workers.available_cores() == 1


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_whatever_ends_it_leaves_no_process_and_no_unfinished_file(tmp_path, monkeypatch, ending, processes):
    path = tmp_path / "flying_shapes.h5"
    generate(path, "flying_shapes", SMALL, 2)
    before = path.read_bytes()

    class Bar(writer.tqdm):
        def update(self, n):
            assert len(visible(tmp_path)) == 2
            assert bool(multiprocessing.active_children()) == (processes > 1)
            raise ending

    monkeypatch.setattr(writer, "tqdm", Bar)
    with pytest.raises(ending):
        generate(path, "flying_shapes", {**SIZES, "training": 2000}, 2, workers=processes)
    assert not multiprocessing.active_children()
    assert visible(tmp_path) == [path.name]
    assert path.read_bytes() == before
