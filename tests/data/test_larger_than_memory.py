"""Sequences read from the file are those from memory: same values, same order, in little room, and ahead of time."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from data_gen.generate import generate
from nem_tf.alignment import ALIGNMENTS
from nem_tf.data import load_split, stored
from nem_tf.data.packed import Deflated, Packed, Plain
from nem_tf.data.split import Split
from nem_tf.data.stored import Stored
from nem_tf.errors import UserError
from nem_tf.training.feed import Feed
from nem_tf.unrolling import parse_curriculum

SHAPE = (6, 23, 8, 6, 3)  # T, N, H, W, C


@pytest.fixture
def no_memory(monkeypatch):
    """Whatever can stay in its file does."""
    monkeypatch.setattr(stored, "MEMORY_SHARE", 0)


def write(path, features, groups=None, white=None, **options):
    chunks = (features.shape[0], 1, *features.shape[2:]) if options else None
    with h5py.File(path, "w") as file:
        file.create_dataset("training/features", data=features, chunks=chunks, **options)
        if white is not None:
            file["training/features"].attrs["white"] = white
        if groups is not None:
            chunks = (groups.shape[0], 1, *groups.shape[2:]) if options else None
            file.create_dataset("training/groups", data=groups, chunks=chunks, **options)
    return path


def both(path, monkeypatch, frames=SHAPE[0], size=SHAPE[1], binary=False):
    """The training split in memory and in its file."""
    in_memory = load_split(path, "training", size, frames, binary)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "MEMORY_SHARE", 0)
        return in_memory, load_split(path, "training", size, frames, binary)


def calls(split, *position):
    stages = parse_curriculum("2,5@3", 5)
    feed = Feed(split, ALIGNMENTS["next_frame"], stages, 5, batch_size=4, seed=3, steps_per_call=2)
    return list(feed.calls(*position))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs):
        assert a.frames.dtype == b.frames.dtype
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.seeds, b.seeds)
        assert (a.groups is None) == (b.groups is None)
        if a.groups is not None:
            assert a.groups.dtype == b.groups.dtype
            np.testing.assert_array_equal(a.groups, b.groups)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True},
        {"compression": "lzf"},
        {"fletcher32": True},
    ],
    ids=lambda options: "-".join(map(str, options)) or "contiguous",
)
@pytest.mark.parametrize("kind", ["grey", "binary", "integers", "floats"])
def test_a_feed_yields_the_same_from_file_and_from_memory(tmp_path, monkeypatch, rng, kind, options, labelled):
    features = {
        "grey": rng.integers(0, 256, SHAPE).astype(np.uint8),
        "binary": rng.integers(0, 2, SHAPE).astype(np.float32),
        "integers": rng.integers(0, 101, SHAPE),
        "floats": rng.random(SHAPE),
    }[kind]
    groups = rng.integers(0, 4, (*SHAPE[:-1], 1)).astype(np.uint8) if labelled else None
    white = {"grey": 255, "integers": 100}.get(kind)
    path = write(tmp_path / "a.h5", features, groups, white, **options)
    in_memory, from_file = both(path, monkeypatch, binary=kind == "binary")
    assert isinstance(in_memory.features, Plain if kind == "floats" else Packed)
    assert isinstance(from_file.features, Stored)
    assert from_file.image_shape == in_memory.image_shape
    for position in ((0, 0, 0), (1, 2, 7)):  # a new epoch, and a resumption within one
        assert_same(calls(from_file, *position), calls(in_memory, *position))


@pytest.mark.parametrize("shown", [1, 6])
def test_fewer_frames_and_sequences_than_the_file_has_and_static_images(tmp_path, monkeypatch, rng, shown):
    features = rng.integers(0, 256, (shown, *SHAPE[1:])).astype(np.uint8)
    path = write(tmp_path / "a.h5", features, white=255, compression="gzip")
    in_memory, from_file = both(path, monkeypatch, frames=4, size=10)
    assert len(from_file) == 10
    ours, theirs = (list(split.batches(split.in_order(3))) for split in (from_file, in_memory))
    for a, b in zip(ours, theirs, strict=True):
        assert a.frames.shape[1] == 4
        np.testing.assert_array_equal(a.frames, b.frames)


def test_a_chunk_that_was_never_written_is_zero(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        features = file.create_dataset("training/features", SHAPE, np.uint8, chunks=(6, 1, 8, 6, 3), compression="gzip")
        features[:, 5] = 1
    _, from_file = both(tmp_path / "a.h5", monkeypatch)
    batch = from_file.batch(from_file.in_order(SHAPE[1])[0])
    assert set(np.argwhere(batch.frames)[:, 0]) == {5}


def test_generated_balls_can_stay_in_their_file(tmp_path, monkeypatch, rng):
    """All but actions, were there any, which are small."""
    path = tmp_path / "balls4mass64.h5"
    generate(path, "balls4mass64", {"test": 5}, 51)
    with h5py.File(path, "a") as file:
        file["test/actions"] = rng.random((51, 5, 2))
    held = []
    for share in (stored.MEMORY_SHARE, 0):
        monkeypatch.setattr(stored, "MEMORY_SHARE", share)
        held.append(load_split(path, "test", 5, 31, binary=True, collisions=True, nr_actions=2))
    assert isinstance(held[0].features, Packed)
    assert isinstance(held[1].actions, Plain)
    for store in (held[1].features, held[1].labels, held[1].collisions):
        assert isinstance(store, Stored)
    for a, b in zip(*(split.batch(split.in_order(5)[0]) for split in held)):
        np.testing.assert_array_equal(a, b)
        assert a.any()


def test_many_sequences_to_a_chunk_stay_in_memory_where_there_is_any(tiny_data, no_memory, monkeypatch):
    path = tiny_data / "flying_shapes.h5"
    split = load_split(path, "training", 32, 6, binary=True)
    assert isinstance(split.features, Packed)
    assert isinstance(split.labels, Deflated)
    monkeypatch.setattr(stored, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"takes 0\.0 GB in memory.*chunks=\(6, 1, 28, 28, 1\)"):
        load_split(path, "training", 32, 6, binary=True)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_what_takes_more_than_its_share_of_the_free_memory_stays_in_the_file(tmp_path, monkeypatch, rng, share, capsys):
    features = rng.integers(0, 256, SHAPE).astype(np.uint8)
    path = write(tmp_path / "a.h5", features, white=255)
    monkeypatch.setattr(stored, "free_memory", lambda: int(features.size / stored.MEMORY_SHARE / share))
    split = load_split(path, "training", SHAPE[1], SHAPE[0], binary=False)
    assert isinstance(split.features, Stored if share > 1 else Packed)
    assert ("is read from the file as it is needed" in capsys.readouterr().out) == (share > 1)


def test_free_memory_is_that_of_the_container_if_this_has_less(tmp_path, monkeypatch):
    machine = stored.free_memory()
    assert machine > 1 << 20
    monkeypatch.setattr(stored, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("9000\n")
    (tmp_path / "memory.stat").write_text("anon 7000\ninactive_file 500\n")
    (tmp_path / "memory.max").write_text("10000\n")
    assert stored.free_memory() == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert stored.free_memory() > 1 << 20


def test_memory_is_a_constant(tmp_path, no_memory):
    peaks = []
    for size in (100, 500):
        path = tmp_path / f"{size}.h5"
        with h5py.File(path, "w") as file:
            features = file.create_dataset(
                "training/features", (6, size, 32, 32, 3), np.uint8, chunks=(6, 1, 32, 32, 3), compression="gzip"
            )
            features.attrs["white"] = 255
            for number in range(size):
                features[:, number] = number % 256
        tracemalloc.start()
        split = load_split(path, "training", size, 6, binary=False)
        seen = [batch.frames[0, 0, 0, 0, 0] for batch in split.batches(split.in_order(4))]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_allclose(seen, np.arange(0, size, 4) % 256 / 255, rtol=1e-6)
    # A few batches, however many threads have one in hand.
    assert peaks[1] - peaks[0] < 400 * 6 * 32 * 32 * 3 / 4
    assert peaks[1] < 500 * 6 * 32 * 32 * 3 / 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(np.float32("nan"), "holds NaN"), (np.float32(2), "values from 0.0 to 2.0"), (np.int64(101), "to 101, not in")],
)
def test_values_are_looked_at_all_the_same(tmp_path, no_memory, wrong, words):
    features = np.zeros(SHAPE, wrong.dtype)
    features[-1, -1, -1, -1, -1] = wrong
    path = write(tmp_path / "a.h5", features, white=100 if wrong.dtype == np.int64 else None, compression="gzip")
    with pytest.raises(UserError, match=words):
        load_split(path, "training", SHAPE[1], SHAPE[0], binary=False)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True}])
def test_damage_found_on_the_way_is_a_sentence(tmp_path, no_memory, rng, options):
    path = write(tmp_path / "a.h5", rng.integers(0, 256, SHAPE).astype(np.uint8), white=255, **options)
    with h5py.File(path) as file:
        chunk = file["training/features"].id.get_chunk_info(7)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    split = load_split(path, "training", SHAPE[1], SHAPE[0], binary=False)
    with pytest.raises(UserError, match=r"a\.h5 is damaged: /training/features cannot be read"):
        list(split.batches(split.in_order(2)))


def test_batches_are_read_while_the_caller_works(tmp_path, no_memory, rng):
    path = write(tmp_path / "a.h5", rng.integers(0, 256, SHAPE).astype(np.uint8), white=255, compression="gzip")
    split = load_split(path, "training", SHAPE[1], SHAPE[0], binary=False)
    three_are_read, taken = threading.Event(), []

    class Watched:
        shape, dtype = split.features.shape, split.features.dtype

        def take(self, *pick):
            taken.append(pick)
            if len(taken) == 3:
                three_are_read.set()
            return split.features.take(*pick)

        def __len__(self):
            return self.shape[0]

    watched = Split(Watched(), None, SHAPE[0], 255)
    batches = watched.batches(watched.in_order(2))
    next(batches)
    assert three_are_read.wait(timeout=30)  # nobody has asked for the second yet


def test_whole_chunks_are_read_under_the_lock_of_h5py(tmp_path, no_memory, rng, monkeypatch):
    """Without it the process crashes now and then, where another thread writes a checkpoint, for one."""
    path = write(tmp_path / "a.h5", rng.integers(0, 256, SHAPE).astype(np.uint8), white=255, compression="gzip")
    split = load_split(path, "training", SHAPE[1], SHAPE[0], binary=False)
    entered, phil = [], stored.phil

    class Watched:
        def __enter__(self):
            entered.append(phil.__enter__())

        def __exit__(self, *exception):
            phil.__exit__(*exception)

    monkeypatch.setattr(stored, "phil", Watched())
    split.features.take(np.arange(5))
    assert len(entered) == 5


def test_many_threads_may_take_at_a_time(tmp_path, no_memory, rng):
    features = rng.integers(0, 256, (6, 100, 64, 64, 3), np.uint8)  # chunks that take a while
    path = write(tmp_path / "a.h5", features, white=255, compression="gzip")
    split = load_split(path, "training", 100, 6, binary=False)
    index = rng.permutation(100)
    with ThreadPoolExecutor(6) as threads:
        for taken in threads.map(split.features.take, [index] * 12):
            np.testing.assert_array_equal(taken, features[:, index].swapaxes(0, 1))
