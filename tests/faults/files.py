"""What happens to files that people pass on: bytes change, values are strange, a place is something else."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

EXECUTED = "executed"  # the file that a pickle makes where somebody loads it
STRANGE = (
    None, True, -1, 0, 2**31, 10**400, 1e308, -0.5, float("nan"), float("inf"), "", "text", "x" * 300, "\0", "\ud800",
    [], {}, [[]], [1, 2], {"a": {}}, [1e9, 1e9, 1], [100_000, 100_000, 1], "../../outside/mine.h5", "/etc/passwd",
)  # fmt: skip


class Loud:
    """Says that it was unpickled: leaves a file."""

    def __init__(self, mark: Path):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def pickled(mark: Path) -> bytes:
    return pickle.dumps([Loud(mark)])


def pick(rng: np.random.Generator, things):
    """Returns one of some things, which may be of any kind."""
    things = list(things)
    return things[int(rng.integers(len(things)))]


def spoil_bytes(rng: np.random.Generator, path: Path, head: int = 0) -> str:
    """Changes the bytes of a file; returns what was done. `head`: the part of it that is changed, 0 for all."""
    data = bytearray(path.read_bytes())
    end = min(head or len(data), len(data))
    kind = pick(rng, ("flipped", "flipped", "cut", "zeroed", "doubled", "inserted", "random tail"))
    start = int(rng.integers(max(end, 1)))
    length = int(rng.integers(1, 200))
    if kind == "flipped":
        for place in rng.integers(end, size=int(rng.integers(1, 9))) if end else ():
            data[place] ^= int(rng.integers(1, 256))
    elif kind == "cut":
        data = data[:start]
    elif kind == "zeroed":
        data[start : start + length] = bytes(min(length, len(data) - start))
    elif kind == "doubled":
        data = data + data
    elif kind == "inserted":
        data[start:start] = rng.bytes(length)
    else:
        data[start:] = rng.bytes(len(data) - start)
    path.write_bytes(bytes(data))
    return f"bytes {kind} from {start}"


def spoil_place(rng: np.random.Generator, path: Path, mark: Path) -> str:
    """Puts something else where a file or a directory is; returns what."""

    def gone():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def link(target):
        gone()
        path.symlink_to(target)

    def content(data):
        gone()
        path.write_bytes(data)

    def directory():
        gone()
        path.mkdir()

    def pipe():
        gone()
        os.mkfifo(path)

    kinds: dict[str, Callable[[], None]] = {
        "missing": gone,
        "empty": lambda: content(b""),
        "a directory": directory,
        "a FIFO": pipe,
        "a dangling link": lambda: link("nowhere"),
        "a link to itself": lambda: link(path.name),
        "a link to /etc/passwd": lambda: link("/etc/passwd"),
        "a link to /dev/zero": lambda: link("/dev/zero"),
        "a pickle": lambda: content(pickled(mark)),
        "text": lambda: content(b"{}\n" * 10),
        "NUL bytes": lambda: content(bytes(4096)),
        "no UTF-8": lambda: content(bytes(range(128, 256))),
        "an image": lambda: content(b"\x89PNG\r\n\x1a\n" + rng.bytes(200)),
    }
    kind = pick(rng, kinds)
    kinds[kind]()
    return kind


def spoil_json(rng: np.random.Generator, path: Path) -> str:
    """Changes a JSON file: a value, a key, or how it is written."""
    values = json.loads(path.read_text())
    places = list(_places(values))
    holder, key = pick(rng, places)
    kind = pick(
        rng, ("value",) * 8 + ("missing",) * 3 + ("added", "renamed", "nested", "constant", "list", "surrogates")
    )
    text = None
    if kind == "value":
        value = pick(rng, STRANGE)
        holder[key] = value
        kind = f"{value!r:.30} for a value"
    elif kind == "missing":
        del holder[key]
    elif kind == "added":
        holder["x" * 300] = pick(rng, STRANGE)
    elif kind == "renamed":
        holder[pick(rng, ("\0", "\ud800", "x" * 300, ""))] = holder.pop(key)
    elif kind == "nested":
        text = json.dumps(values).replace("{", '{"deep": ' + "[" * 100_000 + "]" * 100_000 + ", ", 1)
    elif kind == "constant":
        text = pick(rng, ("null", "true", "1", '"text"', "[]", "{}", "NaN", "[" * 100_000, "9" * 5000, "\ufeff{}"))
    elif kind == "list":
        holder[key] = list(range(1000))
    else:
        text = json.dumps(values).replace(":", ': "\\ud800", "x":', 1)
    try:
        path.write_text(json.dumps(values) if text is None else text)
    except RecursionError:
        path.write_text("[" * 100_000)
    return f"{kind} at {key!r:.40}"


def _places(values):
    """Every key of every dictionary below a value, the upper ones more than once."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield values, key
            yield from _places(value)
    elif isinstance(values, list) and values and isinstance(values[0], dict):
        yield from _places(values[0])


def spoil_flags(rng: np.random.Generator, path: Path) -> str:
    """Changes a flagfile."""
    lines = path.read_text().splitlines()
    n = int(rng.integers(len(lines)))
    name = lines[n].partition("=")[0]
    texts = ("nan", "inf", "-1", "1e400", "9" * 400, "", "x" * 300, "\0", "é\u202e", "[", "0x10", "1_0", "None", "1,,2")
    rare = (
        "missing", "twice", "itself", "another", "nowhere", "unknown", "no flag", "long", "encoding", "marked",
        "returns", "deep", "directory", "pipe", "undefok",
    )  # fmt: skip
    kind = pick(rng, ("value",) * 8 + rare)
    if kind == "value":
        text = pick(rng, texts)
        lines[n] = f"{name}={text}"
        kind = f"{name}={text!r:.20}"
    elif kind == "missing":
        kind = f"no {lines.pop(n)}"
    elif kind == "twice":
        lines[n:n] = [lines[n]] * 100
    elif kind == "itself":
        lines.insert(n, f"--flagfile={path}")
    elif kind == "another":
        lines.insert(n, "--flagfile=/etc/passwd")
    elif kind == "nowhere":
        lines.insert(n, "--flagfile=/nowhere/at/all")
    elif kind == "directory":
        lines.insert(n, f"--flagfile={path.parent}")
    elif kind == "pipe":
        os.mkfifo(path.with_name("pipe"))
        lines.insert(n, f"--flagfile={path.with_name('pipe')}")
    elif kind == "unknown":
        lines.insert(n, "--colour=red")
    elif kind == "undefok":
        lines.insert(n, "--undefok=colour\n--colour=red")
    elif kind == "no flag":
        lines.insert(n, pick(rng, ("rubbish", "-", "--", "=", "--=1", "-- --k=9", "\\")))
    elif kind == "long":
        lines[n] = f"{name}={'9' * 1_000_000}"
    elif kind == "deep":
        others = [path.with_name(f"{i}.flags") for i in range(2)]
        for each, other in zip(others, reversed(others)):
            each.write_text(f"--flagfile={other}\n")
        lines.insert(n, f"--flagfile={others[0]}")
    text = "\n".join(lines) + "\n"
    data = text.encode("utf-16" if kind == "encoding" else "utf-8", "surrogatepass")
    data = b"\xef\xbb\xbf" + data if kind == "marked" else data
    path.write_bytes(data.replace(b"\n", b"\r\n") if kind == "returns" else data)
    return kind
