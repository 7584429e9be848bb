"""Which frame a step predicts."""

import numpy as np
import pytest

from nem_tf.alignment import ALIGNMENTS
from nem_tf.settings import FIELDS

FRAMES = np.arange(10).reshape(2, 5)  # [B, F]


@pytest.mark.parametrize(("name", "lag"), [("next_frame", 1), ("same_frame", 0)])
def test_step_t_sees_frame_t_and_predicts_frame_t_plus_lag(name, lag):
    alignment = ALIGNMENTS[name]
    seen, predicted = alignment.seen(FRAMES), alignment.predicted(FRAMES)
    assert seen.shape == predicted.shape == (2, 5 - lag)
    np.testing.assert_array_equal(seen + lag, predicted)
    np.testing.assert_array_equal(seen[:, 0], FRAMES[:, 0])
    assert alignment.frames_for(seen.shape[1]) == 5


def test_every_alignment_can_be_set():
    assert set(FIELDS["target"][1].metadata["choices"]) == set(ALIGNMENTS)
