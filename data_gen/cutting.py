"""Decides which stretches of which videos become sequences of which split: no two splits see the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_gen import DataGenError
from data_gen.generator import SPLITS

HELD_OUT = ("test", "validation")
FEWEST_VIDEOS = len(SPLITS)  # from which on every split gets videos of its own


class Cut(NamedTuple):
    """One sequence: the frames start, start + 1, .. of a video."""

    video: int
    start: int


@dataclass(frozen=True)
class Plan:
    """Says where the sequences of every split come from, in an order that is mixed.

    Attributes:
        cuts: of "training", "validation" and "test"; none is empty.
        whole_videos: whether every video is in one split, or else each is parted in time.
    """

    cuts: dict[str, list[Cut]]
    whole_videos: bool

    def videos(self, split: str) -> int:
        """Returns how many videos a split sees."""
        return len({cut.video for cut in self.cuts[split]})


def plan(lengths: Sequence[int], frames: int, share: float, seed: int) -> Plan:
    """Cuts videos into sequences that do not overlap, and gives them to splits.

    From three videos on, every video is of one split. Of fewer, each that is long enough is parted in time: training,
    validation and test one after the other, a gap of at least one sequence between them.

    Arguments:
        lengths: frames of every video.
        frames: of a sequence, F.
        share: of the sequences that the test split gets, as nearly as whole videos allow, and the validation split too.
        seed: same seed, same plan.

    Raises:
        DataGenError: there are too few frames for a sequence in every split.
    """
    rng = np.random.default_rng(seed)
    sequences = {video: length // frames for video, length in enumerate(lengths) if length >= frames}
    whole_videos = len(sequences) >= FEWEST_VIDEOS
    if whole_videos:
        cuts = _by_videos(sequences, frames, share, rng)
    else:
        cuts = _by_time({video: lengths[video] for video in sequences}, frames, share)
    if cuts is None:
        needed = (FEWEST_VIDEOS + len(HELD_OUT)) * frames
        raise DataGenError(
            f"too few frames: {len(lengths)} video{'s' * (len(lengths) != 1)}, the longest of "
            f"{max(lengths, default=0)} frames after --every; expected {FEWEST_VIDEOS} videos of --frames={frames} "
            f"at least, or one of {needed}"
        )
    return Plan({split: [cuts[split][i] for i in rng.permutation(len(cuts[split]))] for split in SPLITS}, whole_videos)


def _by_videos(sequences, frames, share, rng):
    """Whole videos for every split: what is held out is as near to its share as can be without going beyond it."""
    left = [int(video) for video in rng.permutation(list(sequences))]
    wanted = share * sum(sequences.values())
    parts = {}
    for split in HELD_OUT:
        taken, count = [], 0
        for video in left:
            if count + sequences[video] <= wanted:
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
    """A stretch of every video for every split; a video that is too short for that goes to the training."""
    cuts = {split: [] for split in SPLITS}
    for video, length in lengths.items():
        sequences = length // frames - len(HELD_OUT)  # a gap before each of the held out
        held_out = max(1, round(share * sequences))
        counts = (sequences - 2 * held_out, held_out, held_out)
        if counts[0] < 1:
            counts = (length // frames, 0, 0)
        start = 0
        for split, count in zip(SPLITS, counts):
            cuts[split] += [Cut(video, start + number * frames) for number in range(count)]
            start += (count + 1) * frames
    return cuts if all(cuts.values()) else None
