"""Spoiled inputs, each given to a program that reads it:

python -m tests.faults.inputs --count=60 --seed=0 [--only=KIND]

Every program has to work, or to say in one sentence why not; it does not crash, wait, fill the memory, run what a file
holds, or change or leave anything where its input is.
"""

import argparse
import ast
import functools
import gzip
import hashlib
import json
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.faults import children, good_inputs, watched
from tests.faults.files import EXECUTED, pick, pickled, spoil_bytes, spoil_flags, spoil_json, spoil_place
from tests.faults.good_inputs import SMALL, Good
from tests.faults.hdf5 import spoil_hdf5

OUTCOMES = ("sentence", "worked", "traceback", "hang", "memory", "litter", "lost")
FINE = ("sentence", "worked")
LONGEST_SAID = 300  # characters of what a program said last


@dataclass
class Case:
    """A spoiled input and the program that reads it.

    Attributes:
        program, args, environment: what is run.
        what: what was done to the input.
        owned: what the program may change.
    """

    program: str
    args: list[str]
    what: str = "nothing"
    environment: dict[str, str] = field(default_factory=dict)
    owned: tuple[Path, ...] = ()


# ---- One function a kind: it copies the good input to `place`, spoils it unless `rng` is None, and says who reads it.
# The program is number `reader` of those that read it.


def _ours(rng, good: Good, place: Path, reader: int) -> Case:
    file = place / "mine.h5"
    shutil.copy(good.ours, file)
    (place.parent / "outside").mkdir()
    run = place.parent / "outside" / "run"
    shutil.copytree(good.run, run)
    what = "nothing"
    if rng is not None:
        what = spoil_place(rng, file, place / EXECUTED) if rng.random() < 0.1 else spoil_hdf5(rng, file)
        file, what = _renamed(rng, file, what)
    if reader == 0:
        sizes = SMALL if rng is None or rng.random() < 0.6 else [SMALL[0], "--max_steps=1", "--passes=1"]
        return Case("nem_tf.train", [f"--dataset={file}", "--run_dir=run", *sizes], what)
    args = [f"--run_dir={run}", f"--dataset={file}", "--batch_size=4", "--output=scores.json"]
    return Case("nem_tf.evaluate", args, what)


def _foreign(rng, good: Good, place: Path, reader: int) -> Case:
    file = place / "foreign.h5"
    shutil.copy(good.foreign if reader == 0 else good.ours, file)
    what = "nothing"
    if rng is not None:
        what = spoil_place(rng, file, place / EXECUTED) if rng.random() < 0.1 else spoil_hdf5(rng, file)
        file, what = _renamed(rng, file, what)
    return Case("data_gen", [f"--from={file}", *_CLIPS], what)


_CLIPS = ["--dataset=clips", "--data_dir=.", "--size=16", "--frames=3", "--test_share=0.2"]


def _renamed(rng, path: Path, what: str) -> tuple[Path, str]:
    """Another name for an input, once in a while."""
    if rng.random() > 0.08 or not os.path.lexists(path):
        return path, what
    stem = pick(rng, ("\udcff", "x" * 240, "a\nb", "[ab]*?", "-x", "é\u202e", "a b", "%d", "~"))
    other = path.with_name(f"{stem}{path.suffix}")
    path.rename(other)
    return other, f"{what}; called {other.name[:20]!r}"


def _flagfile(rng, good: Good, place: Path, reader: int) -> Case:
    file = place / "mine.flags"
    shutil.copy(good.run / "flags.txt", file)
    what = "nothing"
    if rng is not None:
        what = spoil_place(rng, file, place / EXECUTED) if rng.random() < 0.15 else spoil_flags(rng, file)
    args = [f"--flagfile={file}", f"--dataset={good.ours}", "--run_dir=run", "--data_dir=.", "--compiled_dir=", *SMALL]
    return Case("nem_tf.train", args, what)


def _run_directory(rng, good: Good, place: Path, reader: int) -> Case:
    run = place / "run"
    shutil.copytree(good.run, run)
    outside = place.parent / "outside"
    outside.mkdir()
    shutil.copy(good.ours, outside / "mine.h5")
    what = _spoiled_run(rng, run, outside, place / EXECUTED) if rng is not None else "nothing"
    data = f"--dataset={good.ours}"
    args = {
        "nem_tf.evaluate": [f"--run_dir={run}", data, "--batch_size=4", "--output=scores.json"],
        "nem_tf.export": [f"--run_dir={run}", "--export_dir=exported", "--format=preset"],
        "nem_tf.train": [data, f"--run_dir={run}", *SMALL, "--max_steps=3"],
        "nem_tf.results": [str(run), "--output_dir=results"],
        "nem_tf.segment": [str(good.videos / "clip.npy"), f"--run_dir={run}", "--output=masks"],
    }
    program = list(args)[reader]
    return Case(program, args[program], what, owned=(run,) if program == "nem_tf.train" else ())


def _spoiled_run(rng, run, outside, mark):
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    ours = [path for path in files if not path.name.startswith("events")]
    often = ("json",) * 4 + ("flags",) * 4 + ("bytes",) * 3 + ("place",) * 4
    kind = pick(rng, (*often, "lines", "state", "outside", "directory", "origin"))
    if kind == "json":
        return f"data.json: {spoil_json(rng, run / 'data.json')}"
    if kind == "flags":
        return f"flags.txt: {spoil_flags(rng, run / 'flags.txt')}"
    if kind == "bytes":
        path = pick(rng, ours)
        return f"{path.relative_to(run)}: {spoil_bytes(rng, path)}"
    if kind == "place":
        path = pick(rng, ours)
        return f"{path.relative_to(run)}: {spoil_place(rng, path, mark)}"
    if kind == "directory":
        path = run / pick(rng, ("latest", "best"))
        return f"{path.name}: {spoil_place(rng, path, mark)}"
    if kind == "origin":
        (run / "origin.json").write_text(pick(rng, ("[]", '"text"', "{", '{"trained": 1}', "[" * 100_000, "{}")))
        return "origin.json of something else"
    if kind == "lines":
        path = run / pick(rng, ("history.jsonl", "metrics.jsonl"))
        path.write_text(
            pick(rng, ("[]\n", "{", "\0\n", "[" * 100_000, '{"step": "x", "amended": 3}\n', "null\n", "{}\n"))
        )
        return f"{path.name} of something else"
    if kind == "state":
        state = pick(rng, ("latest", "best"))
        text = f'model_checkpoint_path: "{outside}/ckpt-2"\nall_model_checkpoint_paths: "{outside}/mine.h5"\n'
        (run / state / "checkpoint").write_text(text)
        return f"{state}/checkpoint names files outside"
    which = pick(rng, ("latest", "best"))
    shutil.move(run / which, outside / which)
    (run / which).symlink_to(outside / which)
    return f"{which} is a link out of the directory"


def _preset(rng, good: Good, place: Path, reader: int) -> Case:
    preset = place / "preset"
    shutil.copytree(good.preset, preset)
    what = _spoiled_preset(rng, preset, place / EXECUTED) if rng is not None else "nothing"
    args = {
        "nem_tf.evaluate": [f"--preset={preset}", f"--dataset={good.ours}", "--batch_size=4", "--output=scores.json"],
        "nem_tf.demo": [f"--preset={preset}", "--output_dir=shown", "--sequences=1"],
        "nem_tf.export": [f"--preset={preset}", "--export_dir=exported"],
        "nem_tf.segment": [str(good.videos / "clip.npy"), f"--preset={preset}", "--output=masks"],
        "nem_tf.train": [f"--init_from={preset}", f"--dataset={good.ours}", "--run_dir=run", *SMALL],
    }
    program = list(args)[reader]
    return Case(program, args[program], what)


def _spoiled_preset(rng, preset, mark):
    config, weights = preset / "config.json", preset / "model.weights.h5"
    kind = pick(rng, ("json",) * 8 + ("weights",) * 5 + ("place",) * 3 + ("bytes", "code", "paths"))
    if kind == "json":
        return f"config.json: {spoil_json(rng, config)}"
    if kind == "bytes":
        path = pick(rng, (config, weights))
        return f"{path.name}: {spoil_bytes(rng, path)}"
    if kind in ("code", "paths"):
        values = json.loads(config.read_text())
        if kind == "code":
            (preset / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
            group, name = pick(rng, (("model", "network"), ("model", "mixture"), ("data", "noise")))
            values["settings"][group][name] = pick(
                rng, ("evil:network", "os:system", "keras.layers:Lambda", "posix:abort")
            )
        else:
            group = "paths"
            name = pick(rng, ("compiled_dir", "data_dir", "run_dir"))
            values["settings"][group][name] = str(preset / "made" / "by" / "settings")
        config.write_text(json.dumps(values))
        return f"config.json: {group}.{name} = {values['settings'][group][name]}"
    if kind == "place":
        path = pick(rng, (config, weights))
        what = f"{path.name}: {spoil_place(rng, path, mark)}"
        return what
    what = spoil_hdf5(rng, weights)
    if rng.random() < 0.8:  # as a stranger would
        values = json.loads(config.read_text())
        values["weights"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        config.write_text(json.dumps(values))
        what += ", with its digest"
    return f"weights: {what}"


def _video(rng, good: Good, place: Path, reader: int) -> Case:
    name = pick(rng, ("clip.gif", "pictures", "clip.mp4", "clip.npy", "clip.npz", "clip.h5")) if rng else "clip.npy"
    source = good.videos / name
    path = place / name
    shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
    what = "nothing"
    if rng is not None:
        spoil = {
            "clip.npy": _spoil_npy,
            "clip.npz": _spoil_npz,
            "clip.h5": lambda rng, path, _: spoil_hdf5(rng, path),
            "pictures": _spoil_pictures,
            "clip.gif": _spoil_gif,
            "clip.mp4": lambda rng, path, _: spoil_bytes(rng, path),
        }[name]
        chance = rng.random()
        if chance < 0.15 and name != "pictures":
            what = spoil_place(rng, path, place / EXECUTED)
        elif chance < 0.35 and name != "pictures":
            what = spoil_bytes(rng, path, pick(rng, (0, 200)))
        else:
            what = spoil(rng, path, place / EXECUTED)
        path, what = _renamed(rng, path, what)
        what = f"{name}: {what}"
    if reader == 0:
        return Case("data_gen", [f"--from={path}", *_CLIPS], what)
    run = place.parent / "outside" / "run"
    run.parent.mkdir()
    shutil.copytree(good.run, run)
    return Case("nem_tf.segment", [f"--run_dir={run}", "--output=masks", "--", str(path)], what)


def _npy(shape: str, descr: str = "'|u1'", data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode("latin1", "replace") + data


_HEADERS = (
    ("(1000000, 1000000, 1000)",), ("(-1, 24, 32)",), ("(5, 24, 32, 99999999999999999999)",), ("(0, 24, 32)",), ("()",),
    ("(5, 24, 32)", "'O'"), ("(5, 24, 32)", "[('a', '<f4')]"), ("(5, 24, 32)", "'<U9'"), ("(5, 24, 32)", "'|V0'"),
    ("(5.0, 24, 32)",), ("__import__('os').abort()",), ("(5, 24, 32)", "__import__('os').abort()"), ("(" * 5000,),
    ("(5, 24, 32)", "'<M8[s]'"), ("(5, 24, 32)", "'<c16'"), ("(True, 24, 32)",), ("(5, 60000, 60000)",),
    ("('a', 24, 32)",), ("[5, 24, 32]",), ("(5, 24, 32)", "'<f4'"), ("(5, 24, 32)", "('<f4', (2**30,))"),
)  # fmt: skip


def _spoil_npy(rng, path, mark):
    kind = pick(rng, ("header", "header", "values", "pickle"))
    if kind == "pickle":
        path.write_bytes(_npy("(1,)", "'|O'", pickled(mark)))
        return "a pickle inside"
    if kind == "values":
        frames = np.load(path).astype("f4") / 255
        value = pick(rng, (np.nan, np.inf, -1, 1e30, 300))
        frames[int(rng.integers(len(frames)))] = value
        np.save(path, frames)
        return f"{value} inside"
    header = pick(rng, _HEADERS)
    path.write_bytes(_npy(*header, bytes(5 * 24 * 32)) if len(header) == 2 else _npy(*header, data=bytes(5 * 24 * 32)))
    return f"header {header}".replace("(" * 5000, "((..")


def _spoil_npz(rng, path, mark):
    kind = pick(rng, ("member", "bomb", "pickle", "names", "many", "nested", "size", "encrypted", "method"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "member":
            archive.writestr("frames.npy", _npy(*pick(rng, _HEADERS)) + bytes(5 * 24 * 32))
        elif kind == "bomb":
            shape = pick(rng, ("(2000, 1000, 1000)", "(2, 30000, 30000)", "(9, 8000, 4000)"))
            side = ast.literal_eval(shape)
            with archive.open("frames.npy", "w", force_zip64=True) as file:
                file.write(_npy(shape))
                block = bytes(10**6)
                for _ in range(min(int(np.prod(side)), 2 * 10**8) // 10**6):
                    file.write(block)
        elif kind == "pickle":
            archive.writestr("frames.npy", _npy("(1,)", "'|O'", pickled(mark)))
        elif kind == "names":
            for name in ("../../outside.npy", "/etc/x.npy", "x" * 300 + ".npy", "frames.npy/"):
                archive.writestr(name, _npy("(9, 24, 32)", data=bytes(9 * 24 * 32)))
        elif kind == "many":
            for i in range(3000):
                archive.writestr(f"{i}.npy", _npy("(1, 24, 32)", data=bytes(24 * 32)))
        elif kind == "nested":
            archive.writestr("frames.npy", path.name * 100)
        else:
            archive.writestr("frames.npy", _npy("(9, 24, 32)", data=bytes(9 * 24 * 32)))
    if kind in ("size", "encrypted", "method"):
        data = bytearray(path.read_bytes())
        for start in (data.find(b"PK\x03\x04"), data.find(b"PK\x01\x02")):
            central = data[start + 2] == 1
            offset = {"size": 24 if central else 22, "encrypted": 8 if central else 6, "method": 10 if central else 8}[
                kind
            ]
            data[start + offset : start + offset + 2] = {
                "size": b"\x00\xff",
                "encrypted": b"\1\0",
                "method": b"\x0c\0",
            }[kind]
        path.write_bytes(data)
    return kind


def _gif(width: int, height: int, frames: int = 3) -> bytes:
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\xf0\0\0" + b"\0\0\0\xff\xff\xff"
    image = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x02\x4c\x01\0"
    return head + image * frames + b";"


def _spoil_gif(rng, path, mark):
    width, height, frames = pick(rng, ((60_000, 60_000, 1), (5000, 5000, 40), (0, 0, 2), (24, 65_535, 3), (1, 1, 20),
                                       (8000, 4000, 300), (24, 24, 100_000)))  # fmt: skip
    path.write_bytes(_gif(width, height, frames))
    return f"{frames} frames of {width}x{height} without pixels"


def _png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")


def _spoil_pictures(rng, folder, mark):
    path = pick(rng, sorted(folder.iterdir()))
    kind = pick(rng, ("bytes", "place", "huge", "size", "loop", "empty", "kind", "text"))
    if kind == "bytes":
        return f"{path.name}: {spoil_bytes(rng, path)}"
    if kind == "place":
        return f"{path.name}: {spoil_place(rng, path, mark)}"
    if kind == "huge":
        path.write_bytes(_png(60_000, 60_000))
    elif kind == "size":
        path.write_bytes(_png(*pick(rng, ((16, 16), (0, 0), (8000, 4000), (2**31 - 1, 1)))))
    elif kind == "loop":
        (folder / "again").symlink_to(folder)
    elif kind == "empty":
        for each in folder.iterdir():
            each.unlink()
    elif kind == "kind":
        path.write_bytes(_png(32, 24, *pick(rng, ((16, 0), (16, 2), (1, 0), (8, 6), (3, 1), (8, 9)))))
    else:
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\nquit\n")
    return f"{path.name}: {kind}"


def _digits(rng, good: Good, place: Path, reader: int) -> Case:
    source = good.npz if reader == 0 else good.idx
    path = place / source.name
    shutil.copy(source, path) if reader == 0 else shutil.copytree(source, path)
    what = "nothing"
    if rng is not None:
        what = _spoiled_npz_digits(rng, path, place) if reader == 0 else _spoiled_idx(rng, path, place)
    sizes = ["--train_size=4", "--valid_size=4", "--test_size=4", "--nr_steps=2", "--workers=1", "--data_dir=."]
    return Case("data_gen", ["--dataset=flying_mnist_2", f"--mnist={path}", *sizes], what)


def _spoiled_npz_digits(rng, path, place):
    kind = pick(rng, ("place", "bytes", "bomb", "header", "keys", "shape", "pickle", "pickle"))
    if kind == "place":
        return spoil_place(rng, path, place / EXECUTED)
    if kind == "bytes":
        return spoil_bytes(rng, path, pick(rng, (0, 200)))
    train, test = np.zeros((10_100, 28, 28), np.uint8), np.zeros((50, 28, 28), np.uint8)
    if kind == "shape":
        shape = pick(rng, ((), (10_100,), (10_100, 28, 28, 1), (50, 28, 28), (0, 28, 28), (10_100, 14, 56)))
        train = np.zeros(shape, pick(rng, ("u1", "f4", "U3")))
        np.savez_compressed(path, x_train=train, x_test=test)
        return f"x_train {train.dtype} {shape}"
    if kind == "keys":
        np.savez_compressed(path, train=train)
        return "other keys"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train.npy", "x_test.npy"):
            if kind == "pickle":
                archive.writestr(name, _npy("(1,)", "'|O'", pickled(place / EXECUTED)))
            elif kind == "header":
                archive.writestr(name, _npy(*pick(rng, _HEADERS)) + bytes(1000))
            else:
                with archive.open(name, "w", force_zip64=True) as file:
                    file.write(_npy("(8000000, 28, 28)"))
                    for _ in range(300):
                        file.write(bytes(10**6))
    return kind


def _spoiled_idx(rng, path, place):
    file = pick(rng, sorted(path.iterdir()))
    kind = pick(rng, ("place", "bytes", "bomb", "header", "header", "directory"))
    if kind == "place":
        return f"{file.name}: {spoil_place(rng, file, place / EXECUTED)}"
    if kind == "bytes":
        return f"{file.name}: {spoil_bytes(rng, file, pick(rng, (0, 40)))}"
    if kind == "directory":
        return spoil_place(rng, path, place / EXECUTED)
    header = pick(
        rng, ((2051, -1, 28, 28), (2051, 2**31 - 1, 28, 28), (2049, 60, 28, 28), (2051, 60), (), (2051, 0, 28, 28))
    )
    content = np.array(header, ">i4").tobytes()
    if kind == "bomb":
        file.write_bytes(gzip.compress(bytes(10**8), 1) * 60)  # parts that are unpacked as one
        return f"{file.name}: 6 GB packed"
    file.write_bytes(gzip.compress(content + bytes(28 * 28 * 60)))
    return f"{file.name}: header {header}"


def _evaluation(rng, good: Good, place: Path, reader: int) -> Case:
    runs = [place / "run", place / "other"]
    for run in runs:
        run.mkdir()
        for name in ("flags.txt", "evaluation_test.json"):
            shutil.copy(good.run / name, run)
    file = runs[0] / "evaluation_test.json"
    what = "nothing"
    if rng is not None:
        chance = rng.random()
        if chance < 0.15:
            what = spoil_place(rng, file, place / EXECUTED)
        else:
            what = spoil_bytes(rng, file) if chance < 0.3 else spoil_json(rng, file)
    return Case("nem_tf.results", [*map(str, runs), "--output_dir=results"], what)


def _tf_config(rng, good: Good, place: Path, reader: int) -> Case:
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        here = f"localhost:{free.getsockname()[1]}"
    config = {"cluster": {"worker": [here]}, "task": {"type": "worker", "index": 0}}
    what = "nothing"
    if rng is not None:
        config = pick(rng, (
            {}, [], "text", None, {"cluster": {}}, {"cluster": []}, {**config, "task": {}},
            *({**config, "task": {"type": kind, "index": index}}
              for kind, index in (("worker", -1), ("worker", 1), ("worker", "0"), ("worker", 1e30), ("worker", None),
                                  ("chief", 0), ("ps", 0), ("evaluator", 0), (0, 0), ("worker", True),
                                  ("worker", 0.5))),
            *({**config, "cluster": cluster} for cluster in (
                {"worker": []}, {"worker": here}, {"worker": ["localhost:notaport"]}, {"worker": ["localhost"]},
                {"worker": [""]}, {"worker": [None]}, {"worker": [1]}, {"worker": {"0": here}}, {"worker": {"a": here}},
                {"worker": [here], "ps": ["localhost:1"]}, {"worker": ["x" * 300 + ":1"]},
                {"worker": ["localhost:99999"]}, {"worker": ["localhost:-1"]}, {"worker": ["localhost:0"]},
                "text", None,
                {"worker": [here, here]}, {"WORKER": [here]})),
        ))  # fmt: skip
        what = f"{config!r:.120}"
    text = json.dumps(config)
    if rng is not None and rng.random() < 0.15:
        text = pick(rng, ("", "{", "[" * 100_000, "NaN", "\udcff", "9" * 5000))
        what = f"{text!r:.30}"
    args = [f"--dataset={good.ours}", "--run_dir=run", "--distribute=multi_worker", *SMALL]
    return Case("nem_tf.train", args, what, {"TF_CONFIG": text})


KINDS: dict[str, tuple[Callable[..., Case], int]] = {  # kind -> what makes a case, and the number of programs
    "HDF5, ours": (_ours, 2),
    "HDF5, foreign": (_foreign, 2),
    "flagfile": (_flagfile, 1),
    "run directory": (_run_directory, 5),
    "preset": (_preset, 5),
    "video": (_video, 2),
    "digits": (_digits, 2),
    "evaluation": (_evaluation, 1),
    "TF_CONFIG": (_tf_config, 1),
}


def campaign(
    count: int,
    seed: int,
    directory: Path,
    only: str = "",
    numbers: tuple[int, ...] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """Tries spoiled inputs; returns a dictionary a case with its kind, case, outcome and what the program said last.

    Arguments:
        count: of them.
        seed: case i depends on it and i alone.
        directory: where the good files are made, and kept; and a directory a case, which is gone where all went well.
        only: one of `KINDS`; by default all of them in turn.
        numbers: of cases, in place of the first ones.
        say: is told how each case ended.
    """
    context = children.server()
    directory = Path(directory).resolve()
    good = good_inputs.make(context, directory / "good")
    kinds = list(KINDS)
    usual: dict[tuple[str, int], float] = {}  # process time of the good input
    found = []
    wanted = [i for i in range(count * len(kinds)) if not only or kinds[i % len(kinds)] == only][:count]
    for number in numbers or wanted:
        rng = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        make, readers = KINDS[kind]
        reader = int(rng.integers(readers))
        if (kind, reader) not in usual:
            usual[kind, reader] = _usual(context, make, good, directory / "usual", reader)
        found.append({"kind": kind, **_tried(context, make, rng, good, directory / f"case{number}", reader,
                                             usual[kind, reader])})  # fmt: skip
        found[-1]["case"] = f"{number}: {found[-1]['case']}"
        say(f"{kind} {found[-1]['case']}: {found[-1]['outcome']}")
    return found


def _usual(context, make, good, place, reader):
    """Process time that a program takes for the good input."""
    tried = _tried(context, make, None, good, place, reader, 60)
    if tried["outcome"] != "worked":
        raise RuntimeError(f"the good input does not work: {tried}")
    return tried["seconds"]


def _tried(context, make, rng, good, place, reader, seconds):
    shutil.rmtree(place, ignore_errors=True)
    (place / "in").mkdir(parents=True)
    (place / "out").mkdir()
    case = make(rng, good, place / "in", reader)
    before = _snapshot(place)
    ended = watched.run(context, case.program, case.args, place / "out", seconds, case.environment)
    outcome, said = _judged(case, ended, before, _snapshot(place))
    if outcome in FINE:
        shutil.rmtree(place)
    what = f"{case.program}, {case.what}".encode("ascii", "backslashreplace").decode()
    return {"case": what, "outcome": outcome, "said": said[:LONGEST_SAID], "seconds": ended.seconds}


def _judged(case, ended, before, after) -> tuple[str, str]:
    lines = ended.err.strip().split("\n")
    said = lines[-1].strip()
    changed = sorted(path for path in before if after.get(path) != before[path] and not _is_owned(path, case.owned))
    new = sorted(path for path in after if path not in before)
    left = [path for path in new if path.name.endswith(".partial") or not _is_owned(path, case.owned)]
    if any(path.name == EXECUTED for path in new):
        return "lost", f"what the input holds was executed; {said}"
    if changed:
        return "lost", f"{changed[0].name} is another; {said}"
    if ended.fault:
        return ended.fault, said
    if "Traceback (most recent call last)" in ended.err or ended.status < 0:
        return "traceback", said or f"ended by signal {-ended.status}"
    if left:
        return "litter", f"left {left[0]}; {said}"
    if ended.status == 0:
        return "worked", said
    return ("sentence" if said.startswith(f"{case.program}: ") else "traceback"), said


def _is_owned(path, owned):
    return any(path == each or each in path.parents for each in owned)


def _snapshot(place: Path) -> dict[Path, object]:
    """What lies where the input is, and outside of it."""
    found = {}
    for root in (place / "in", place / "outside"):
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                if path.is_symlink():
                    found[path] = os.readlink(path)
                elif path.is_file():
                    found[path] = hashlib.sha256(path.read_bytes()).digest()
                else:
                    found[path] = path.lstat().st_mode
    return found


def table(found: list[dict]) -> str:
    """Returns how many cases of every kind ended how."""
    counts = Counter((each["kind"], each["outcome"]) for each in found)
    rows = [["kind", *OUTCOMES]]
    for kind in [*KINDS, "all"]:
        of_kind = [
            sum(n for (k, o), n in counts.items() if o == outcome and kind in (k, "all")) for outcome in OUTCOMES
        ]
        rows += [[kind, *of_kind]] if sum(of_kind) else []
    return "\n".join(f"{row[0]:<15}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="number of cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", choices=list(KINDS), help="one kind")
    parser.add_argument("--directory", type=Path, help="where files are made and kept; by default a temporary one")
    parser.add_argument("--cases", default="", help="numbers of single cases, as in 3,17")
    parser.add_argument("--json", type=Path, help="a file that gets all cases")
    given = parser.parse_args()
    numbers = tuple(int(number) for number in given.cases.split(",") if number)
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.directory or Path(temporary)
        found = campaign(given.count, given.seed, directory, given.only, numbers, functools.partial(print, flush=True))
    print(table(found))
    for each in found:
        if each["outcome"] not in FINE:
            print(f"{each['kind']}, case {each['case']}: {each['outcome']}: {each['said']}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
