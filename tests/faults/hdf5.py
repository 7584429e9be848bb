"""What is wrong with HDF5 files of strangers: values, shapes, types, links, and what their headers claim."""

import json
import zlib
from pathlib import Path

import h5py
import numpy as np

from tests.faults.files import pick, spoil_bytes

DTYPES = ("S5", "c8", "f2", "f8", "i8", "u8", "i1", "bool", "f4,i2", ">f4", "float128")
SHAPES = ((), (0,), (4,), (6, 10), (6, 0, 28, 28, 1), (0, 4, 28, 28, 1), (6, 10, 28, 28), (6, 10, 28, 28, 1, 1),
          (10, 6, 28, 28, 1), (6, 10, 28, 28, 3), (6, 10, 3, 3, 1), (6, 10, 1, 1, 1), (1, 10, 28, 28, 1),
          (6, 40, 14, 56, 1), (2, 10, 28, 28, 1))  # fmt: skip
CLAIMS = ((6, 10**9, 28, 28, 1), (10**9, 10, 28, 28, 1), (6, 10, 10**5, 10**5, 1), (6, 10, 28, 28, 10**9),
          (6, 10, 60_000, 60_000, 1), (2**40, 2**40, 1, 1, 1))  # fmt: skip
VALUES = (np.nan, np.inf, -np.inf, -1.0, 1e30, 0.5, 2.0, 255.0, 1e-300)
ATTRIBUTES = (np.nan, -1, 0, 256, 1e9, "text", "x" * 300, np.zeros(3), "[" * 5000, "[]", "null", b"\xff\xfe", "{}",
              h5py.Empty("f4"), "9" * 400)  # fmt: skip


def spoil_hdf5(rng: np.random.Generator, path: Path) -> str:
    """Changes an HDF5 file with arrays; returns what was done."""
    changes = (_bytes, _bytes, _values, _shape, _shape, _dtype, _claim, _claim, _attribute, _attribute, _place, _link,
               _chunks, _objects, _names, _inconsistent, _packed)  # fmt: skip
    change = pick(rng, changes)
    if change is _bytes:
        return spoil_bytes(rng, path, pick(rng, (0, 0, 4096)))
    with h5py.File(path, "r+") as file:
        arrays: list[str] = []
        file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
        return f"{change.__name__[1:]}: {change(rng, file, pick(rng, arrays))}"


def _bytes(rng, file, name):
    raise NotImplementedError  # it needs the file closed


def _replaced(file, name, **of_array):
    attributes = dict(file[name].attrs)
    del file[name]
    dataset = file.create_dataset(name, **of_array)
    dataset.attrs.update(attributes)
    return dataset


def _values(rng, file, name):
    values = file[name][()].astype(np.float64)
    value = pick(rng, VALUES)
    if values.ndim:
        values.flat[int(rng.integers(values.size))] = value
    _replaced(file, name, data=values.astype(pick(rng, ("f4", "f8"))))
    return f"{value} in {name}"


def _shape(rng, file, name):
    shape = pick(rng, SHAPES)
    _replaced(file, name, data=np.zeros(shape, pick(rng, ("u1", "f4"))))
    return f"{name} of {shape}"


def _dtype(rng, file, name):
    dtype = np.dtype(pick(rng, DTYPES))
    _replaced(file, name, data=np.zeros(file[name].shape, dtype))
    return f"{name} of {dtype}"


def _claim(rng, file, name):
    shape = pick(rng, CLAIMS)
    chunks = tuple(min(size, 32) for size in shape) if rng.random() < 0.7 else None
    _replaced(file, name, shape=shape, dtype=pick(rng, ("u1", "f4", "f8")), chunks=chunks)
    return f"{name} of {shape}, chunks {chunks}, no byte of it written"


def _attribute(rng, file, name):
    value = pick(rng, ATTRIBUTES)
    own = ["dataset", "generator", "version", "seed", "settings", "source"]
    if rng.random() < 0.4:
        file[name].attrs["white"] = value
        return f"white = {value!r:.30} of {name}"
    attribute = pick(rng, own)
    for each in own:
        file.attrs.setdefault(each, json.dumps({})) if hasattr(file.attrs, "setdefault") else None
    file.attrs[attribute] = value
    return f"{attribute} = {value!r:.30}"


def _place(rng, file, name):
    kind = pick(rng, ("a group", "missing", "a type", "a parent", "no space", "no group"))
    if kind in ("a parent", "no group"):
        group = name.partition("/")[0]
        del file[group]
        if kind == "a parent":
            file[group] = np.zeros((6, 10, 28, 28, 1), np.uint8)
        return f"{group}: {kind}"
    del file[name]
    if kind == "a group":
        file.create_group(name)
    elif kind == "a type":
        file[name] = np.dtype("f4")
    elif kind == "no space":
        file[name] = h5py.Empty("f4")
    return f"{name}: {kind}"


def _link(rng, file, name):
    kind = pick(rng, ("dangling", "itself", "another file", "no file", "loop", "virtual", "external bytes", "outside"))
    shape = file[name].shape
    if kind == "loop":
        file["loop"] = file["/"]
        return kind
    del file[name]
    if kind == "dangling":
        file[name] = h5py.SoftLink("/nowhere")
    elif kind == "itself":
        file[name] = h5py.SoftLink(f"/{name}")
    elif kind == "another file":
        file[name] = h5py.ExternalLink("other.h5", "/x")
    elif kind == "no file":
        file[name] = h5py.ExternalLink("/etc/passwd", "/x")
    elif kind == "outside":
        file[name] = h5py.ExternalLink("../outside/mine.h5", name)
    elif kind == "virtual":
        layout = h5py.VirtualLayout(shape=shape, dtype="u1")
        layout[...] = h5py.VirtualSource("nowhere.h5", "x", shape=shape)
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(name, shape=shape, dtype="u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    return f"{name}: {kind}"


def _chunks(rng, file, name):
    shape = (6, 10, 64, 64, 1)
    chunks = pick(rng, ((6, 10, 1000, 1000, 1), (1, 1, 1, 1, 1), (6, 10, 8000, 8000, 1)))
    maximal = tuple(max(size, chunk) for size, chunk in zip(shape, chunks))
    dataset = _replaced(file, name, shape=shape, maxshape=maximal, chunks=chunks, dtype="u1", compression="gzip")
    dataset.id.write_direct_chunk((0, 0, 0, 0, 0), zlib.compress(bytes(1000)))  # unpacked as if it were all of it
    return f"{name} in {chunks}"


def _objects(rng, file, name):
    shape = file[name].shape
    dtype = pick(rng, (h5py.string_dtype(), h5py.vlen_dtype(np.dtype("i4")), h5py.ref_dtype, h5py.enum_dtype({"a": 0}),
                       h5py.opaque_dtype(np.dtype("M8[s]")), np.dtype([("a", "f4"), ("b", "(3,)i2")])))  # fmt: skip
    _replaced(file, name, shape=shape, dtype=dtype)
    return f"{name} of {dtype}"


def _names(rng, file, name):
    new = pick(rng, ("x" * 300, "x/" * 1000 + "y", "a\nb", "é\u202e", ".hidden"))
    file[new] = file[name]
    if rng.random() < 0.5:
        del file[name]
    return f"{name} under {new[:20]!r} too"


def _inconsistent(rng, file, name):
    """One array unlike the others: what the validation has and the training has not."""
    shape = list(file[name].shape)
    for axis in rng.integers(len(shape), size=1) if shape else ():
        shape[axis] = int(shape[axis]) + int(rng.integers(1, 4))
    _replaced(file, name, data=np.zeros(shape, np.uint8))
    return f"{name} of {tuple(shape)}"


def _packed(rng, file, name):
    """A chunk that is no gzip, or far too much of it."""
    shape = file[name].shape
    if not shape or 0 in shape:
        return f"{name} left alone"
    chunks = (shape[0], 1, *shape[2:]) if len(shape) > 2 else shape
    dataset = _replaced(file, name, shape=shape, chunks=chunks, dtype="u1", compression="gzip")
    whole = pick(rng, (b"no gzip at all", zlib.compress(bytes(2**28), 9), zlib.compress(b"short")))
    try:
        dataset.id.write_direct_chunk((0,) * len(shape), whole)
    except OSError:  # the index of tiny chunks has no room for the size of a large one
        return f"{name}: no chunk at all, for one of {len(whole)} bytes is not written"
    return f"{name}: a chunk of {len(whole)} bytes"
