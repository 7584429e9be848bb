"""Step weights, and the loss as a layer. Its terms are compared with the reference in test_cell and test_mixture."""

import numpy as np
import pytest
from conftest import binary_frames, small_cell

import nem_tf
from nem_tf.losses import resolve_step_weights


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", [1, 1, 1]),
        ("last", [0, 0, 1]),
        ("0.5, 1,2", [0.5, 1, 2]),
        ([1, 2], [0, 1, 2]),
    ],
)
def test_step_weights(spec, expected):
    assert resolve_step_weights(spec, 3) == expected


@pytest.mark.parametrize("spec", ["first", "1,2,3,4", "1,-1,1", "0,0", "", []])
def test_step_weights_refused(spec):
    with pytest.raises(ValueError, match="--loss_step_weights takes"):
        resolve_step_weights(spec, 3)


def test_layer_adds_the_loss_and_passes_the_outputs_on(rng):
    model = nem_tf.RNNEM(small_cell())
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    outputs = model(noisy, target)
    loss = nem_tf.EMLoss(model.cell.mixture, inter_weight=0.5, step_weights="last")
    passed = loss(outputs, target)
    terms = loss.terms(outputs, target)
    assert terms.loss.shape == (2, 3)
    np.testing.assert_allclose(terms.loss, terms.intra + 0.5 * terms.inter, rtol=1e-6)
    np.testing.assert_allclose(loss.losses, [np.mean(terms.loss[:, -1])], rtol=1e-6)
    for name in outputs:
        np.testing.assert_array_equal(passed[name], outputs[name])
