"""Decides which stretches of which videos become sequences of which split: no two splits see the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_gen import DataGenError
from data_gen.names import SPLITS

HELD_OUT = ("test", "validation")
FEWEST_VIDEOS = len(SPLITS)  # from which on every split can have videos of its own


class Cut(NamedTuple):
    """One sequence: the frames start, start + 1, .. of a video."""

    video: int
    start: int


@dataclass(frozen=True)
class Plan:
    """Says where the sequences of every split come from, in an order that is mixed.

    Attributes:
        cuts: of "training", "validation" and "test"; none is empty.
        whole_videos: whether every video is in one split, or else each that is long enough is parted in time.
    """

    cuts: dict[str, list[Cut]]
    whole_videos: bool

    def videos(self, split: str) -> int:
        """Returns how many videos a split sees."""
        return len({cut.video for cut in self.cuts[split]})


def plan(lengths: Sequence[int], frames: int, share: float, seed: int) -> Plan:
    """Cuts videos into sequences that do not overlap, and gives them to splits.

    From three videos on, every video is of one split. Of fewer, each that is long enough is parted in time: training,
    validation and test one after the other, a gap of at least one sequence between them. The same is done of three
    videos and more if one is so long that all others together are within the share of one split: whole videos would
    give the test split and the validation split next to nothing, or one of them the long video, and training none.

    Arguments:
        lengths: frames of every video.
        frames: number of frames of a sequence, at least 1.
        share: share of the sequences that the test split gets, and the validation split too, above 0 and 0.4 at most.
            Whole videos give a split no more than that, unless every video that is left is longer: then it gets the
            shortest of them, which is at most as much as training gets.
        seed: the same seed gives the same plan.

    Raises:
        DataGenError: the videos have too few frames for a sequence in every split.
    """
    rng = np.random.default_rng(seed)
    sequences = {video: length // frames for video, length in enumerate(lengths) if length >= frames}
    cuts = None
    if len(sequences) < FEWEST_VIDEOS or _one_outweighs(sequences, share):
        cuts = _by_time({video: lengths[video] for video in sequences}, frames, share)
    whole_videos = cuts is None and len(sequences) >= FEWEST_VIDEOS
    if whole_videos:
        cuts = _by_videos(sequences, frames, share, rng)
    if cuts is None:
        needed = (FEWEST_VIDEOS + len(HELD_OUT)) * frames
        raise DataGenError(
            f"too few frames: {len(lengths)} video{'s' * (len(lengths) != 1)}, the longest of "
            f"{max(lengths, default=0)} frames after --every; expected {FEWEST_VIDEOS} videos of --frames={frames} "
            f"at least, or one of {needed}"
        )
    return Plan({split: [cuts[split][i] for i in rng.permutation(len(cuts[split]))] for split in SPLITS}, whole_videos)


def _one_outweighs(sequences, share):
    """Tells whether all videos but the longest are together within the share of one split."""
    total = sum(sequences.values())
    return total - max(sequences.values()) <= share * total


def _by_videos(sequences, frames, share, rng):
    """Gives every split whole videos: what is held out comes near to its share without going beyond it, if it can."""
    left = [int(video) for video in rng.permutation(list(sequences))]
    wanted = share * sum(sequences.values())
    parts = {}
    for later_splits, split in zip((2, 1), HELD_OUT):
        taken, count = [], 0
        for video in left:
            if count + sequences[video] <= wanted and len(left) - len(taken) > later_splits:  # each of them needs one
                taken.append(video)
                count += sequences[video]
        parts[split] = taken or [min(left, key=sequences.get)]
        left = [video for video in left if video not in set(parts[split])]
    parts["training"] = left
    return {
        split: [Cut(video, number * frames) for video in videos for number in range(sequences[video])]
        for split, videos in parts.items()
    }


def _by_time(lengths, frames, share):
    """Gives every split a stretch of every video, and the training those that are too short; None if all are."""
    cuts = {split: [] for split in SPLITS}
    for video, length in lengths.items():
        sequences = length // frames - len(HELD_OUT)  # a gap before each of the held out
        held_out = max(1, min(round(share * sequences), (sequences - 1) // 2))  # at least one is for the training
        counts = (sequences - 2 * held_out, held_out, held_out)
        if counts[0] < 1:
            counts = (length // frames, 0, 0)
        start = 0
        for split, count in zip(SPLITS, counts):
            cuts[split] += [Cut(video, start + number * frames) for number in range(count)]
            start += (count + 1) * frames
    return cuts if all(cuts.values()) else None
