"""Which frame an EM step predicts: the one place that training, evaluation and export ask."""

from typing import NamedTuple, TypeVar

Sequence = TypeVar("Sequence")  # a tensor or an array [B, F, ...]


class Alignment(NamedTuple):
    """Step t sees frame t and predicts frame t + lag, so F frames make F - lag steps."""

    lag: int

    def frames_for(self, steps: int) -> int:
        """Returns the number of frames that so many steps take."""
        return steps + self.lag

    def seen(self, sequence: Sequence) -> Sequence:
        """Returns the frames that the steps see, [B, T, ...] of [B, F, ...]."""
        return sequence[:, : -self.lag] if self.lag else sequence

    def predicted(self, sequence: Sequence) -> Sequence:
        """Returns the frames, or the labels, that the steps predict, [B, T, ...] of [B, F, ...]."""
        return sequence[:, self.lag :]


ALIGNMENTS = {
    "next_frame": Alignment(lag=1),  # as the paper trains on sequences, and on static images shown again and again
    "same_frame": Alignment(lag=0),  # a denoiser: the frame it saw, without the noise
}
