"""Data sets of people's own videos: what is found, how it is cut, what the file says, and one sentence for faults."""

import errno
import itertools
import re
import shutil
import tracemalloc
from fractions import Fraction

import av
import h5py
import numpy as np
import pytest
from PIL import Image
from small_sets import visible

from data_gen import DataGenError, frames
from data_gen import __main__ as program
from data_gen.cutting import plan
from data_gen.from_files import Options, from_files
from data_gen.names import SPLITS
from nem_tf import datasets
from nem_tf.data import identity_of, load_split, source_of
from nem_tf.media.videos import VideoWriter

SIDE = 8


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return program.main(["data_gen", f"--size={SIDE}", *arguments])


def refused(capsys, *arguments):
    """The one sentence on stderr."""
    assert run(*arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("data_gen: ")
    assert err.count("\n") == 1
    return err


def stamped(length, video=0, height=SIDE, width=SIDE, channels=3):
    """A video of which every frame names its moment and every channel but the first its video: [T, H, W, C]."""
    values = np.zeros((length, height, width, channels), np.uint8)
    values[:] = 40 + 10 * video
    values[..., 0] = np.arange(length)[:, None, None]
    return values


def write_gif(path, values, **options):
    first, *others = [Image.fromarray(frame) for frame in values]
    first.save(path, save_all=True, append_images=others, **options)


def write_folder(path, values, suffix="png"):
    path.mkdir(parents=True)
    for number, frame in enumerate(values):
        Image.fromarray(frame if frame.shape[-1] > 1 else frame[..., 0]).save(path / f"{number}.{suffix}")


def write_video(path, values, codec="mpeg4", **stream_options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = values.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for name, value in stream_options.items():
            setattr(stream, name, value)
        container.start_encoding()
        for frame in values:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def features(path):
    with h5py.File(path) as file:
        return {split: file[split]["features"][...] for split in SPLITS}


def made(*places, name="mine", seed=0, **options):
    path = f"data/{name}.h5"
    from_files(path, name, [str(place) for place in places], Options(size=SIDE, **options), seed=seed)
    return features(path)


# ---- What becomes of it.


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (np.float32([0, 0.5, 1]), [0, 128, 255], "0..1 to 0..255"),
        (np.float64([0, 0.4, 255]), [0, 0, 255], "fractions to whole numbers"),
        (np.uint16([0, 257, 65535]), [0, 1, 255], "0..65535 to 0..255"),
        (np.array([False, True, True]), [0, 255, 255], "0..1 to 0..255"),
        (np.int64([0, 1, 0]), [0, 255, 0], "0..1 to 0..255"),
        (np.int64([0, 1, 2]), [0, 1, 2], None),
    ],
)
def test_numbers_of_any_range_become_bytes(capsys, values, expected, note):
    np.save("a.npy", np.broadcast_to(values.repeat(10)[:, None, None], (30, SIDE, SIDE)))
    held = made("a.npy", frames=2)
    assert {*np.unique(np.concatenate([*held.values()], axis=1))} == {*expected}
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("converted")] == [f"converted: {note}, 1 video"] * (
        note is not None
    )


def test_what_is_transparent_is_black(capsys):
    rgba = np.full((20, SIDE, SIDE, 4), 200, np.uint8)
    rgba[:, :4, :, 3], rgba[:, 4:, :, 3] = 0, 255
    write_folder(program.Path("a"), rgba)
    for values in made("a", frames=2).values():
        assert values[:, :, :, 0, 0].tolist() == np.broadcast_to(4 * [0] + 4 * [200], values.shape[:3]).tolist()
    assert "converted: transparency over black, 1 video\n" in capsys.readouterr().out


def test_what_a_file_keeps_to_itself_is_told(capsys, rng):
    """Uneven times, and an early end."""
    frames = rng.integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    with VideoWriter("a.webm", ".webm", (16, 16), Fraction(10)) as writer:
        for t, frame in enumerate(frames):
            writer.add(frame, Fraction(t, 10) + (1 if t > 10 else 0))
    whole = program.Path("a.webm").read_bytes()
    program.Path("a.webm").write_bytes(whole[: len(whole) // 2])
    made("a.webm", frames=2)
    out = capsys.readouterr().out
    assert re.search(r"^a.webm: \d\d frames, of \d\d announced: it may be cut short$", out, re.MULTILINE)
    assert "converted: uneven times of frames to even ones, 1 video\n" in out


def test_a_data_set_and_arrays_of_hdf5(rng):
    for number in range(3):
        with h5py.File(f"{number}.h5", "w") as file:
            file["some/frames"] = np.full((9, SIDE, SIDE), 100 + number, np.uint8)
    held = made("*.h5", frames=3)
    assert {int(values.min()) for values in held.values()} == {100, 101, 102}
    program.Path("again").mkdir()
    program.Path("data/mine.h5").rename("again/mine.h5")
    again = made("again/mine.h5", frames=3)
    assert sum(values.shape[1] for values in again.values()) == sum(values.shape[1] for values in held.values()) == 9


def test_sequences_are_stretches_of_the_videos_and_no_split_shares_one():
    for video in range(5):
        np.save(f"{video}.npy", stamped(23, video))
    held = made("*.npy", frames=4, every=2)
    videos = {}
    for split, values in held.items():
        assert values.shape[0] == 4
        assert values.shape[2:] == (SIDE, SIDE, 3)
        moments, video = values[:, :, 0, 0, 0], values[:, :, 0, 0, 1]
        np.testing.assert_array_equal(np.diff(moments.astype(int), axis=0), 2)
        videos[split] = set(video.ravel())
        starts = sorted(zip(video[0], moments[0]))
        assert starts == [(v, start) for v in sorted(videos[split]) for start in (0, 8, 16)][: len(starts)]
    assert {split: len(of_split) for split, of_split in videos.items()} == {"training": 3, "validation": 1, "test": 1}
    assert len(set.union(*videos.values())) == 5


def test_one_video_is_parted_in_time_with_a_gap():
    np.save("a.npy", stamped(100))
    held = made("a.npy", frames=4)
    moments = {split: np.sort(values[:, :, 0, 0, 0].ravel()).astype(int) for split, values in held.items()}
    assert {split: len(of_split) // 4 for split, of_split in moments.items()} == {
        "training": 19,
        "validation": 2,
        "test": 2,
    }
    for earlier, later in itertools.pairwise(moments.values()):
        assert later.min() - earlier.max() > 4
    assert len(np.unique(np.concatenate(list(moments.values())))) == 4 * 23


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_shares_are_kept_as_nearly_as_videos_allow(rng, seed, share):
    lengths = rng.integers(4, 60, 200)
    cuts = plan(lengths, 4, share, seed)
    assert cuts.whole_videos
    counts = {split: len(cuts.cuts[split]) for split in SPLITS}
    total = int((lengths // 4).sum())
    assert sum(counts.values()) == total
    for split in ("validation", "test"):
        assert share * total - 1 <= counts[split] <= share * total
    assert plan(lengths, 4, share, seed) == cuts
    assert plan(lengths, 4, share, seed + 1) != cuts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.001, 0.1, 0.4])
@pytest.mark.parametrize(
    "lengths",
    [
        *([30, 40, 18000], [18000, 21, 21, 21], [21, 21, 63], [21, 21, 84], [21, 18000, 18000], [2100, 2100, 2100]),
        *([21, 21, 18000, 18000], [105], [126], [105, 20], [126, 126]),
    ],
)
def test_no_split_is_empty_however_lengths_are_skewed(lengths, share, seed):
    cuts = plan(lengths, 21, share, seed)
    counts = {split: len(cuts.cuts[split]) for split in SPLITS}
    assert min(counts.values()) >= 1
    total = sum(length // 21 for length in lengths)
    assert max(counts["test"], counts["validation"]) <= max(counts["training"], share * total)
    used = sorted(cut for of_split in cuts.cuts.values() for cut in of_split)
    assert all(one.video != other.video or one.start + 21 <= other.start for one, other in itertools.pairwise(used))
    assert all(0 <= cut.start <= lengths[cut.video] - 21 for cut in used)
    if cuts.whole_videos:
        assert sum(map(cuts.videos, SPLITS)) == len({cut.video for cut in used})


def test_a_video_that_outweighs_the_others_is_parted_in_time():
    """Both held-out splits have their share of it; the others are in training."""
    cuts = plan([30, 40, 18000], 21, 0.1, 0)
    assert not cuts.whole_videos
    assert {split: len(cuts.cuts[split]) for split in SPLITS} == {"training": 683 + 2, "validation": 86, "test": 86}
    assert [cuts.videos(split) for split in SPLITS] == [3, 1, 1]
    assert not plan([30, 40, 380], 21, 0.1, 0).whole_videos  # two of 20 sequences are within the share of 2
    assert plan([30, 40, 370], 21, 0.1, 0).whole_videos  # two of 19 sequences are more than the share of 1.9


def test_a_data_set_of_one_long_video_and_two_short_ones_is_written(capsys):
    for video, length in enumerate((5, 6, 200)):
        np.save(f"{video}.npy", stamped(length, video))
    held = made("*.npy", frames=4)
    assert {split: values.shape[1] for split, values in held.items()} == {"training": 40, "validation": 5, "test": 5}
    assert "splits: every split has its own stretch of time\n" in capsys.readouterr().out


def test_a_fixed_background_becomes_black():
    rng = np.random.default_rng(0)
    background = rng.integers(0, 200, (SIDE, SIDE, 3)).astype(np.uint8)
    values = np.repeat(background[None], 40, axis=0)
    for moment in range(1, 40):
        values[moment, moment % SIDE, 3] += 55
    np.save("a.npy", values)
    for kind in ("median", "first"):
        held = made("a.npy", frames=4, background=kind)["training"]
        assert set(np.unique(held)) == {0, 55}
        assert (held[1:] == 55).any(axis=(2, 3, 4)).all()
        assert (held == 55).sum(axis=(2, 3, 4)).max() == 3
        (program.Path("data") / "mine.h5").unlink()


def test_frames_become_means_over_areas(capsys):
    values = np.random.default_rng(0).integers(0, 256, (30, 2 * SIDE, 3 * SIDE, 3)).astype(np.uint8)
    np.save("a.npy", values)
    held = made("a.npy", frames=3)["training"]
    means = values.reshape(30, SIDE, 2, SIDE, 3, 3).mean(axis=(2, 4))
    for number in range(held.shape[1]):
        distances = [np.abs(means[start : start + 3] - held[:, number]).max() for start in range(28)]
        assert min(distances) < 1.5
    assert f"converted: to {SIDE}x{SIDE}, 1 video, 1 of them squeezed to a square\n" in capsys.readouterr().out


def test_it_says_how_many_frames_are_left_over(capsys):
    """20 frames are two sequences and 2 more; of 100 in one video two gaps of 9 are none, too, and one frame is."""
    for number, name in enumerate("abc"):
        np.save(f"{name}.npy", stamped(20, number))
    made("a.npy", "b.npy", "c.npy", frames=9)
    said = capsys.readouterr().out
    assert "left over: 6 frames, the ends of videos\n" in said
    assert "few for a training: shorter --frames" in said
    program.Path("data/mine.h5").unlink()
    np.save("long.npy", stamped(100))
    made("long.npy", frames=9)
    assert "left over: 19 frames, the ends of videos, and the gaps between the splits\n" in capsys.readouterr().out
    program.Path("data/mine.h5").unlink()
    for number, name in enumerate("abc"):
        np.save(f"{name}.npy", stamped(160, number))
    made("a.npy", "b.npy", "c.npy", frames=10)
    said = capsys.readouterr().out
    assert "left over" not in said
    assert "few for a training" not in said


@pytest.mark.parametrize("grey", [False, True])
def test_frames_without_colour_have_one_channel(grey):
    np.save("colour.npy", stamped(40))
    np.save("grey.npy", stamped(40, channels=1)[..., 0])
    assert made("colour.npy", "grey.npy", frames=3, grey=grey)["training"].shape[-1] == (1 if grey else 3)
    program.Path("data/mine.h5").unlink()
    write_folder(program.Path("folder"), np.repeat(stamped(20, channels=1), 3, axis=-1))
    assert made("grey.npy", "folder", frames=3)["training"].shape[-1] == 1


@pytest.mark.parametrize("grey_ones", [[0, 1, 2, 11], [7, 19], [*range(19)]])
def test_grey_pictures_among_coloured_ones_are_grey_in_colour(grey_ones):
    values = stamped(20)
    values[grey_ones] = values[grey_ones][..., :1]
    write_folder(program.Path("folder"), values)
    for number in grey_ones:
        Image.fromarray(values[number, ..., 0]).save(f"folder/{number}.png")
    mixed = made("folder", frames=3)
    program.Path("data/mine.h5").unlink()
    np.save("same.npy", values)
    for split, frames_of_split in made("same.npy", frames=3).items():
        np.testing.assert_array_equal(mixed[split], frames_of_split)


def test_memory_does_not_grow_with_length():
    peaks = []
    for length in (300, 1500):
        write_video(f"{length}.avi", np.random.default_rng(0).integers(0, 255, (length, 32, 32, 3)).astype(np.uint8))
        tracemalloc.start()
        from_files(f"{length}.h5", "mine", [f"{length}.avi"], Options(size=32, background="median"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 1500 * 32 * 32 * 3


# ---- The file and the program.


def test_moving_mnist_is_known_and_says_what_it_found(capsys):
    np.save("mnist.npy", np.random.default_rng(0).integers(0, 256, (20, 30, 16, 16)).astype(np.uint8))
    assert run("--from=mnist.npy", "--dataset=moving") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:-1] == [
        "found: 30 videos, 600 frames of 16x16",
        "converted: to 8x8, 30 videos",
        "no colour: one channel",
        "splits: no two splits share a video",
        "training: 24 videos, 24 sequences of 20 frames",
        "validation: 3 videos, 3 sequences of 20 frames",
        "test: 3 videos, 3 sequences of 20 frames",
    ]
    assert out[-1].startswith("data/moving.h5: written")
    assert visible(program.Path("data")) == ["moving.h5"]


def test_the_program_reads_what_data_gen_wrote(capsys):
    np.save("a.npy", stamped(120))
    assert run("--from", "a.npy", "--dataset=mine", "--frames=6", "--seed=3", "--background=first") == 0
    path = program.Path("data/mine.h5")
    identity = identity_of(path)
    rules = identity.pop("settings")
    assert identity == {"dataset": "mine", "generator": "data_gen", "version": "2", "seed": 3}
    digest = rules.pop("sources_sha256")
    assert len(digest) == 16
    assert rules == {
        "background": "first",
        "every": 1,
        "frames": 6,
        "grey": False,
        "layout": None,
        "size": SIDE,
        "sources": 1,
        "test_share": 0.1,
    }
    assert source_of(path) == {}
    split = load_split(path, "training", 14, 6, binary=False)
    (batch,) = split.batches(split.in_order(14))
    assert batch.frames.dtype == np.float32
    assert batch.groups is None
    held = features(path)["training"]
    np.testing.assert_array_equal(batch.frames, held.swapaxes(0, 1).astype(np.float32) / 255)
    suited = datasets.preset(str(path))
    assert suited["network"] == "convolutional"
    assert suited["mixture"] == "gaussian"
    assert suited["nr_steps"] == 5
    with h5py.File(path) as file:
        assert file["training/features"].chunks == (6, 1, SIDE, SIDE, 3)
        assert file["sources"].asstr()[:].tolist() == [["a.npy", frames.digest(frames.find(["a.npy"])[0][0])]]
    before = path.read_bytes()
    assert run("--from", "a.npy", "--dataset=mine", "--frames=6", "--seed=3", "--background=first") == 0
    assert "complete" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_file_of_other_sources_or_options_is_kept(capsys):
    np.save("a.npy", stamped(120))
    arguments = ("--from=a.npy", "--dataset=mine", "--frames=6")
    assert run(*arguments) == 0
    before = program.Path("data/mine.h5").read_bytes()
    np.save("b.npy", stamped(120, 1))
    assert "holds another data set (sources=1, not 2; sources_sha256=" in refused(capsys, *arguments, "b.npy")
    assert "(every=1, not 2)" in refused(capsys, *arguments, "--every=2")
    np.save("a.npy", stamped(121))
    assert "(sources_sha256=" in refused(capsys, *arguments)
    assert program.Path("data/mine.h5").read_bytes() == before


def test_a_copy_of_a_video_does_not_get_into_another_split(capsys):
    for name in ("a.npy", "b.npy"):
        np.save(name, stamped(60))
    held = made("a.npy", "b.npy", frames=4)
    assert "left out: b.npy, the same as a.npy\n" in capsys.readouterr().out
    assert sum(values.shape[1] for values in held.values()) == 13


def test_seed_and_share_of_the_test_reach_the_sequences():
    """Another seed puts other videos into the test split, a larger share more of them."""
    for video in range(10):
        np.save(f"{video}.npy", stamped(20, video))
    lots = [made("*.npy", name=f"seed{seed}", frames=4, seed=seed)["test"] for seed in range(6)]
    assert len({lot.tobytes() for lot in lots}) > 2
    assert made("*.npy", name="large", frames=4, test_share=0.3)["test"].shape[1] == 3 * lots[0].shape[1]


def test_a_short_video_is_left_out(capsys):
    for video, length in enumerate((30, 30, 30, 3)):
        np.save(f"{video}.npy", stamped(length, video))
    held = made("*.npy", frames=4)
    assert "left out: 1 video of fewer than 4 frames: 3.npy (3)\n" in capsys.readouterr().out
    assert not any((values[..., 1] == 70).any() for values in held.values())


FAULTS = [
    (("--from=nothing.mp4",), "nothing.mp4 is missing: expected mp4"),
    (("--from=*.mov",), "*.mov is missing: expected mp4"),
    (("--from=empty",), "empty holds no video: expected mp4"),
    (("--from=text.txt",), "text.txt is of no known kind"),
    (("--from=fake.mp4",), "fake.mp4 is no video that can be read: "),
    (("--from=fake.gif",), "fake.gif is no gif that can be read: "),
    (("--from=fake.npz",), "fake.npz cannot be read as npz; it may be damaged or truncated: "),
    (("--from=fake.npy",), "fake.npy cannot be read as npy; it may be damaged or truncated: "),
    (("--from=none.avi",), "none.avi has no frames: expected at least one"),
    (("--from=one.gif",), "too few frames: 1 video, the longest of 1 frames after --every"),
    (("--from=huge.h5",), "huge.h5 claims uint8 (1000000, 1000, 1000), 1000.0 GB, and takes 0.0 MB"),
    (("--from=broken",), "broken/1.png is no picture that can be read: "),
    (("--from=changing",), "changing: 1 is 8x9, after 8x8: expected frames of one size"),
    (("--from=nan.npy",), "nan.npy: frame 0 holds NaN or infinity"),
    (("--from=negative.npy",), "negative.npy holds values from -1 to 0: expected numbers in [0, 1]"),
    (("--from=flat.npy",), "flat.npy holds float64 (5, 5): expected numbers THW"),
    (("--from=good.npy", "--layout=NTHWC"), "good.npy holds uint8 (20, 8, 8, 3): expected numbers NTHWC"),
    (("--from=good.npy", "--size=9"), "--size=9 is too large for good.npy, 8x8: expected 8 at most"),
    (("--from=good.npy", "--size=4"), "--size"),
    (("--from=good.npy", "--size=1000"), "--size"),
    (("--from=good.npy",), "too few frames: 1 video, the longest of 20 frames after --every; expected 3 videos"),
    (("--from=good.npy", "--frames=2", "--train_size=3"), "--train_size has no meaning with --from"),
    (("--every=2",), "--every has no meaning without --from"),
    (("--from=one.gif", "--layout=NTHW"), "--layout=NTHW is for npy, npz and h5, and --from names none of them"),
    (("--from=good.npy", "--dataset=flying_shapes"), "--dataset=flying_shapes is the name of a published data set"),
    (("--from=good.npy", "--dataset=a/b"), "--dataset=a/b is not a plain name"),
    (("--from=good.npy", "--frames=2", "--data_dir=text.txt/x"), "cannot write text.txt/x/mine.h5"),
]


def test_frames_are_64x64_unless_it_is_said_otherwise(tmp_path):
    np.save("wide.npy", np.random.default_rng(0).integers(0, 256, (40, 70, 80), dtype=np.uint8))
    arguments = ("--from=wide.npy", "--dataset=wide", "--data_dir=.", "--frames=2", "--test_share=0.2")
    assert program.main(["data_gen", *arguments]) == 0
    with h5py.File("wide.h5") as file:
        assert file["training/features"].shape[2:] == (64, 64, 1)


@pytest.mark.parametrize(("arguments", "words"), FAULTS)
def test_faults_get_one_sentence_and_leave_nothing(tmp_path, capsys, arguments, words):
    for name in ("text.txt", "fake.mp4", "fake.gif", "fake.npz", "fake.npy"):
        (tmp_path / name).write_text("this is no video, whatever its name says")
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "none.avi", stamped(0, height=16, width=16))
    write_gif(tmp_path / "one.gif", stamped(1))
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("frames", (10**6, 1000, 1000), "u1")
    write_folder(tmp_path / "broken", stamped(3))
    (tmp_path / "broken/1.png").write_bytes((tmp_path / "broken/0.png").read_bytes()[:40])
    write_folder(tmp_path / "changing", stamped(3))
    Image.fromarray(stamped(1, height=9)[0]).save(tmp_path / "changing/1.png")
    np.save(tmp_path / "nan.npy", np.full((3, 8, 8), np.nan))
    np.save(tmp_path / "negative.npy", np.eye(8)[None].repeat(3, 0) - 1)
    np.save(tmp_path / "flat.npy", np.zeros((5, 5)))
    np.save(tmp_path / "good.npy", stamped(20))
    assert words in refused(capsys, "--dataset=mine", *arguments)
    data = tmp_path / "data"
    assert not data.exists() or visible(data) == []


def test_a_cut_video_is_refused_and_says_where(tmp_path, capsys):
    values = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3)).astype(np.uint8)
    write_gif(tmp_path / "a.gif", values)
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) // 2])
    sentence = refused(capsys, "--from=a.gif", "--dataset=mine", "--frames=2")
    assert re.search(r"a.gif is (damaged at frame|no gif that can be read)", sentence)


@pytest.mark.parametrize("place", ["from_files.shutil.disk_usage", "from_files._Scratch.append"])
def test_a_full_disk_is_one_sentence(monkeypatch, capsys, place):
    """Also one on which there is a little room: HDF5 would crash at its end."""
    np.save("a.npy", stamped(60))
    full = OSError(errno.ENOSPC, "HDF5 says it\nin two lines")

    def no_space(*_):
        if place.endswith("append"):
            raise full
        return shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6)

    monkeypatch.setattr(f"data_gen.{place}", no_space)
    assert "cannot write data/mine.h5: No space left on device\n" in refused(
        capsys, "--from=a.npy", "--dataset=mine", "--frames=4"
    )
    assert visible(program.Path("data")) == []


def test_an_interruption_leaves_nothing(monkeypatch):
    np.save("a.npy", stamped(60))
    monkeypatch.setattr("data_gen.from_files.plan", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        made("a.npy", frames=4)
    assert visible(program.Path("data")) == []


def test_from_python_a_published_name_is_refused():
    with pytest.raises(DataGenError, match="published"):
        from_files("data/x.h5", "flying_shapes", ["a.npy"], Options())
