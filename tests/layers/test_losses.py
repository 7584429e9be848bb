"""The loss by itself and as a layer. Its terms are compared with the reference in test_cells and test_mixture."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf.layers import RNNEM, BernoulliMixture, EMLoss, GaussianMixture, LossTerms


@pytest.fixture(scope="module")
def model():
    model = RNNEM(small_cell())
    model.build((None, None, 8, 8, 1))
    return model


def terms_of(per_step):
    """Loss terms [B, T], all of them the same."""
    return LossTerms(*[tf.constant(per_step, tf.float32)] * 4)


@pytest.mark.parametrize(
    ("step_weights", "expected"),
    [("all", 2 + 3 + 7), ("mean", 4), ("last", 7), ("0.5,1,2", 1 + 3 + 14), ([1, 2], 3 + 14), ("0,1,0", 3)],
)
def test_total_is_the_weighted_sum_over_the_steps_of_the_mean_over_the_batch(step_weights, expected):
    loss = EMLoss(BernoulliMixture(), step_weights=step_weights)
    assert float(loss.total(terms_of([[1, 2, 6], [3, 4, 8]]))) == pytest.approx(expected)


@pytest.mark.parametrize("spec", ["first", "1,-1,1", "0,0", "", [], None, 1.0])
def test_step_weights_that_are_none_are_refused_at_once(spec):
    with pytest.raises(ValueError, match="step weights are"):
        EMLoss(BernoulliMixture(), step_weights=spec)


def test_step_weights_of_numpy_are_a_list():
    loss = EMLoss(BernoulliMixture(), step_weights=np.array([1.0, 2.0]))
    assert loss.get_config()["step_weights"] == [1, 2]
    assert float(loss.total(terms_of([[1, 2, 6]]))) == 14


def test_no_weight_and_no_mixture_are_refused():
    with pytest.raises(ValueError, match="finite number; received nan"):
        EMLoss(BernoulliMixture(), inter_weight=float("nan"))
    with pytest.raises(ValueError, match="mixture is a SpatialMixture"):
        EMLoss(BernoulliMixture)


@pytest.mark.parametrize("shape", [(2, 4, 5, 6, 3), (2, 1, 5, 6, 1), (1, 4, 5, 6, 1), (2, 4, 5, 1, 1), (4, 5, 6, 1)])
def test_a_target_that_would_be_broadcast_is_refused(rng, shape):
    (outputs, _), loss = outputs_of(rng), EMLoss(BernoulliMixture())
    for terms in (loss.terms, loss.bound_terms):
        with pytest.raises(ValueError, match="expected a target of shape"):
            terms(outputs, tf.zeros(shape))


@pytest.mark.parametrize("mixture", [BernoulliMixture, GaussianMixture])
def test_the_background_of_a_loss_is_that_of_the_cell_whatever_becomes_of_the_model(rng, tmp_path, mixture):
    cell = small_cell(mixture=mixture(prior="image"))
    frames = keras.Input((3, 8, 8, 1))
    outputs = RNNEM(cell)(frames[:, :-1], frames[:, 1:])
    model = keras.Model(frames, EMLoss(cell.mixture)(outputs, frames[:, 1:]))
    cell.mixture.background.assign(rng.random((8, 8, 1)))
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    others = [read, keras.models.clone_model(model), keras.Model.from_config(model.get_config())]
    others.append(keras.models.model_from_json(model.to_json()))
    for other in others:
        *_, loss = other.layers
        (theirs,) = (layer.cell for layer in other.layers if isinstance(layer, RNNEM))
        assert isinstance(loss, EMLoss)
        assert loss.mixture is theirs.mixture is not cell.mixture
        assert len(other.weights) == len(model.weights)
        np.testing.assert_array_equal(loss.mixture.background, cell.mixture.background if other is read else 0)


@pytest.mark.parametrize("between", ["a model", "a layer"])
def test_the_cell_of_a_background_is_found_behind_models_and_layers(tmp_path, between):
    cell = small_cell(mixture=BernoulliMixture(prior="image"))
    model = RNNEM(cell)
    model.build((None, None, 8, 8, 1))
    frames = keras.Input((3, 8, 8, 1))
    if between == "a model":
        outputs = model.functional()([frames[:, :-1], frames[:, 1:]])
    else:
        outputs = {name: keras.layers.Identity()(x) for name, x in model(frames[:, :-1], frames[:, 1:]).items()}
    whole = keras.Model(frames, EMLoss(cell.mixture)(outputs, frames[:, 1:]))
    whole.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    assert len(read.weights) == len(whole.weights)


def test_a_loss_of_another_background_than_the_cells_is_refused():
    frames, cell = keras.Input((3, 8, 8, 1)), small_cell(mixture=GaussianMixture(prior="image"))
    outputs = RNNEM(cell)(frames[:, :-1], frames[:, 1:])
    for other in (BernoulliMixture(prior="image"), GaussianMixture(prior="image", e_sigma=0.5)):
        with pytest.raises(ValueError, match="another mixture than the cell"):
            EMLoss(other)(outputs, frames[:, 1:])


def test_a_background_that_no_cell_has_is_missed(rng):
    with pytest.raises(ValueError, match="a loss takes the cell's"):
        EMLoss(BernoulliMixture(prior="image")).terms(*outputs_of(rng))


@pytest.mark.parametrize("steps", [1, 2])
def test_more_weights_than_steps_are_refused(steps):
    """Also where the number of steps is known only when it runs, and a single one would broadcast."""
    loss = EMLoss(BernoulliMixture(), step_weights="1,2,3")
    terms = terms_of(np.ones((2, steps)))
    with pytest.raises(ValueError, match=f"3 step weights for {steps} steps"):
        loss.total(terms)
    unknown = tf.function(lambda x: loss.total(LossTerms(x, x, x, x)), input_signature=[tf.TensorSpec([None, None])])
    with pytest.raises(tf.errors.InvalidArgumentError):
        unknown(terms.loss)
    assert float(unknown(tf.ones((2, 3)))) == 6


def test_layer_adds_the_loss_and_passes_the_outputs_on(model, rng):
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    outputs = model(noisy, target)
    loss = EMLoss(model.cell.mixture, inter_weight=0.5, step_weights="last")
    passed = loss(outputs, target)
    terms = loss.terms(outputs, target)
    assert terms.loss.shape == (2, 3)
    np.testing.assert_allclose(terms.loss, terms.intra + 0.5 * terms.inter, rtol=1e-6)
    np.testing.assert_allclose(loss.losses, [np.mean(terms.loss[:, -1])], rtol=1e-6)
    for name in outputs:
        np.testing.assert_array_equal(passed[name], outputs[name])


@pytest.mark.parametrize(
    ("step_weights", "last"), [("all", [1] * 4), ("mean", None), ("last", [1]), ([1.0, 3.0], [1, 3])]
)
def test_a_functional_model_of_any_length_has_the_loss_of_its_steps(model, rng, step_weights, last):
    frames = keras.Input((None, 8, 8, 1))
    noisy, target = frames[:, :-1], frames[:, 1:]
    loss = EMLoss(model.cell.mixture, inter_weight=0.5, step_weights=step_weights)
    functional = keras.Model(frames, loss(RNNEM(model.cell)(noisy, target), target))
    for steps in (2, 4):
        batch = binary_frames(rng, 2, steps + 1, 8, 8, 1)
        terms = loss.terms(functional(batch), batch[:, 1:])
        weights = last[-steps:] if last else [1 / steps] * steps
        expected = np.dot(np.mean(terms.loss, 0)[-len(weights) :], weights)
        assert float(functional.losses[0]) == pytest.approx(expected, rel=1e-5)


def outputs_of(rng, k=3):
    """Predictions and responsibilities as a model has them, and a target."""
    psi = np.float32(rng.random((2, 4, k, 5, 6, 1)))
    gamma = np.float32(rng.dirichlet(np.ones(k), (2, 4, 5, 6)).transpose(0, 1, 4, 2, 3)[..., None])
    return {"predictions": tf.constant(psi), "gamma": tf.constant(gamma)}, binary_frames(rng, 2, 4, 5, 6, 1)


def test_pixel_weights_say_how_much_a_pixel_counts(rng):
    """Of a mask and of its opposite, the terms add up to those of all pixels; a step without any has 0."""
    outputs, target = outputs_of(rng)
    mask = rng.random((2, 4, 5, 6, 1)) < 0.3
    mask[:, 2] = False
    loss = EMLoss(BernoulliMixture(), inter_weight=0.7)
    for terms in (loss.terms, loss.bound_terms):
        whole, inside, outside = (terms(outputs, target, weights) for weights in (None, mask, ~mask))
        for name, value in whole._asdict().items():
            one, other = getattr(inside, name), getattr(outside, name)
            np.testing.assert_allclose(one + other, value, rtol=1e-5)
            assert not one[:, 2].numpy().any()
            assert (one[:, 0] > 0).numpy().all()
        np.testing.assert_allclose(inside.loss, inside.intra + 0.7 * inside.inter, rtol=1e-5)
    changed = {name: tf.where(mask[:, :, None], value, 0.5) for name, value in outputs.items()}
    np.testing.assert_allclose(
        loss.terms(changed, target, mask).loss, loss.terms(outputs, target, mask).loss, rtol=1e-6
    )


def test_the_terms_of_the_bound_are_those_of_the_strongest_prediction_fully(rng):
    outputs, target = outputs_of(rng)
    loss = EMLoss(BernoulliMixture(), inter_weight=0.7)
    bound = loss.bound_terms(outputs, target)
    strongest = outputs["predictions"].numpy().astype(float).max(2)
    right = np.where(target == 1, strongest, 1 - strongest)
    axes = (2, 3, 4)
    np.testing.assert_allclose(bound.intra, -np.log(right).sum(axes), rtol=1e-4)
    np.testing.assert_allclose(bound.inter, -np.log(1 - strongest).sum(axes), rtol=1e-4)
    np.testing.assert_allclose(bound.loss, bound.intra + 0.7 * bound.inter, rtol=1e-6)
    np.testing.assert_array_equal(bound.intra, loss.terms(outputs, target).upper_bound)
