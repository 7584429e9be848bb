"""The SavedModel in a process that has no nem_tf, and what its functions promise, of a predictor and of a denoiser."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf.alignment import ALIGNMENTS
from nem_tf.errors import UserError
from nem_tf.layers import RNNEM, BitflipNoise, EMLoss, RelationalCore, RNNEMCell
from nem_tf.serving import SEED, Served, export

FRESH_PROCESS = """
import sys
saved_model, keras_file, frames, out = sys.argv[1:]
sys.modules["nem_tf"] = None  # importing it fails
import numpy as np, tensorflow as tf
frames = np.load(frames)
served = tf.saved_model.load(saved_model).signatures["serving_default"](frames=tf.constant(frames))
del sys.modules["nem_tf"]
import nem_tf.layers, keras  # registers what a .keras file names
loaded = keras.models.load_model(keras_file)(frames)
np.savez(out, masks=served["masks"], **loaded)
"""
OUTPUTS = {"masks": "gamma", "predictions": "predictions", "representations": "theta"}  # and what training calls them


@pytest.fixture(scope="module", params=ALIGNMENTS)
def alignment(request):
    return ALIGNMENTS[request.param]


@pytest.fixture(scope="module")
def model():
    model = RNNEM(small_cell(image_shape=(6, 7, 1)))
    model.build((None, None, 6, 7, 1))
    for variable in model.trainable_variables:  # fresh components are too alike for their masks to matter
        variable.assign(3 * variable)
    return model


@pytest.fixture(scope="module")
def noisy_model(model):
    """The same weights, and the noise of a training."""
    noisy = RNNEM(model.cell, noise=BitflipNoise(0.3))
    noisy.build((None, None, 6, 7, 1))
    return noisy


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Where the model is exported, by its alignment; each once."""
    directory = tmp_path_factory.mktemp("export")

    def path_of(alignment):
        path = directory / f"lag_{alignment.lag}"
        if not path.exists():
            export(model, alignment, path)
        return str(path)

    return path_of


@pytest.fixture(scope="module")
def signatures(exported, alignment):
    return tf.saved_model.load(exported(alignment)).signatures


@pytest.fixture
def frames(rng):
    return tf.constant(binary_frames(rng, 2, 5, 6, 7, 1))


def test_shapes_for_any_batch_length_and_k(signatures, rng):
    for batch, steps in ((1, 1), (3, 2), (2, 6)):
        frames = tf.constant(binary_frames(rng, batch, steps, 6, 7, 1))
        for k, outputs in (
            (3, signatures["serving_default"](frames=frames)),
            (5, signatures["with_k_and_seed"](frames=frames, k=tf.constant(5), seed=tf.constant(1))),
        ):
            assert {name: tuple(value.shape) for name, value in outputs.items()} == {
                "masks": (batch, steps, k, 6, 7),
                "predictions": (batch, steps, k, 6, 7, 1),
                "representations": (batch, steps, k, 7),
            }
            np.testing.assert_allclose(tf.reduce_sum(outputs["masks"], 2), 1, rtol=1e-5)


def test_the_same_call_gives_the_same_masks_and_another_seed_others(signatures, frames):
    default = signatures["serving_default"](frames=frames)["masks"]
    np.testing.assert_array_equal(default, signatures["serving_default"](frames=frames)["masks"])
    with_seed = signatures["with_k_and_seed"]
    np.testing.assert_array_equal(default, with_seed(frames=frames, k=tf.constant(3), seed=tf.constant(SEED))["masks"])
    other = with_seed(frames=frames, k=tf.constant(3), seed=tf.constant(SEED + 1))["masks"]
    assert np.abs(default - other)[:, 0].max() > 0.1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_streaming_is_the_sequence(signatures, frames, k):
    whole = signatures["with_k_and_seed"](frames=frames, k=tf.constant(k), seed=tf.constant(SEED))
    state = signatures["init"](batch_size=tf.constant(2), k=tf.constant(k))
    for t in range(frames.shape[1]):
        outputs = signatures["step"](frame=frames[:, t], **state)
        state = {name: outputs[name] for name in state}
        for name in OUTPUTS:
            np.testing.assert_allclose(outputs[name], whole[name][:, t], atol=1e-5, err_msg=f"{name} of frame {t}")
    assert int(state["t"]) == 5


def test_what_is_returned_for_a_frame_is_what_training_has_for_it(signatures, alignment, model, frames):
    """A predictor: what was predicted of it from the one before, of frame 0 the start. A denoiser: that of its own."""
    whole = signatures["serving_default"](frames=frames)
    initial = model.cell.get_initial_state(2, seed=[SEED, 0])
    trained = model(alignment.seen(frames), alignment.predicted(frames), initial_state=initial)
    for served, name in OUTPUTS.items():
        expected = trained[name].numpy()
        if alignment.lag:
            start = {"gamma": initial.gamma, "predictions": initial.psi, "theta": initial.theta}[name]
            expected = np.concatenate([start[:, None], expected], axis=1)
        np.testing.assert_allclose(whole[served], expected.reshape(whole[served].shape), atol=1e-5, err_msg=served)


def test_a_denoiser_returns_for_a_frame_the_reconstruction_made_when_it_was_seen(signatures, alignment, model, frames):
    """And a predictor returns what it said before: the last frame changes its masks and no more."""
    other = tf.concat([frames[:, :-1], 1 - frames[:, -1:]], axis=1)
    one, two = (signatures["serving_default"](frames=each) for each in (frames, other))
    changed = {name: np.abs(one[name] - two[name]).max(axis=tuple(range(2, one[name].ndim))) > 1e-4 for name in OUTPUTS}
    for name in OUTPUTS:
        assert not changed[name][:, :-1].any()
        assert changed[name][:, -1].all() == (name == "masks" or alignment.lag == 0), name


def test_the_components_see_the_noise_of_the_training(model, noisy_model, alignment, frames):
    """They alone: the E-step has the clean frame. Another draw for every frame and every seed."""
    noisy = tf.stack([noisy_model.seen(frames[:, t], t, SEED) for t in range(5)], axis=1)
    changed = (noisy != frames).numpy()
    assert 0.1 < changed.mean() < 0.5
    assert len({changed[0, t].tobytes() for t in range(5)}) == 5
    np.testing.assert_array_equal(changed[0], changed[1])  # so that what is made of a sequence is its own
    assert (noisy_model.seen(frames[:, 0], 0, SEED + 1) != noisy[:, 0]).numpy().any()
    np.testing.assert_array_equal(model.seen(frames[:, 0], 0, SEED), frames[:, 0])

    served = Served(noisy_model, alignment).default(frames)
    initial = model.cell.get_initial_state(2, seed=[SEED, 0])
    trained = model(alignment.seen(noisy), alignment.predicted(frames), initial_state=initial)
    for name, of_training in OUTPUTS.items():
        expected = tf.reshape(trained[of_training], tf.shape(served[name][:, alignment.lag :]))
        np.testing.assert_allclose(served[name][:, alignment.lag :], expected, atol=1e-5, err_msg=name)
    found = noisy_model.segment(frames.numpy(), seed=SEED, lag=alignment.lag)
    np.testing.assert_allclose(found.responsibilities, served["masks"], atol=1e-5)
    assert np.abs(served["masks"] - Served(model, alignment).default(frames)["masks"]).max() > 0.01


def test_streaming_with_noise_is_the_sequence(noisy_model, alignment, frames, tmp_path):
    """Of a SavedModel, that needs nothing of the noise's layer; and from another seed in Python."""
    export(noisy_model, alignment, tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    whole = signatures["serving_default"](frames=frames)
    python = Served(noisy_model, alignment)
    other, others = python.sequence(frames, 3, 7), python.init(2, 3, 7)
    state = signatures["init"](batch_size=tf.constant(2), k=tf.constant(3))
    for t in range(5):
        outputs, by_seed = signatures["step"](frame=frames[:, t], **state), python.step(frames[:, t], **others, seed=7)
        state, others = ({name: each[name] for name in state} for each in (outputs, by_seed))
        for name in OUTPUTS:
            np.testing.assert_allclose(outputs[name], whole[name][:, t], atol=1e-5, err_msg=f"{name} of frame {t}")
            np.testing.assert_allclose(by_seed[name], other[name][:, t], atol=1e-5, err_msg=f"{name} of frame {t}")


@pytest.mark.parametrize("noise", [0.2, "bitflip", BitflipNoise, keras.layers.GaussianNoise(0.1)], ids=str)
def test_what_is_no_noise_is_refused(model, noise):
    with pytest.raises(ValueError, match="a noise is a layer that is called with frames and a seed"):
        RNNEM(model.cell, noise=noise)


def test_noise_of_the_user_s_own_in_any_policy(model, alignment, frames):
    class Dimmed(keras.layers.Layer):
        def call(self, frames, seed):
            return 0.5 * frames

    dimmed = RNNEM(model.cell, noise=Dimmed(dtype="mixed_bfloat16"))
    dimmed.build((None, None, 6, 7, 1))
    found = dimmed.segment(frames.numpy(), seed=True, lag=alignment.lag)
    whole = Served(dimmed, alignment).sequence(frames, 3, 1)
    np.testing.assert_allclose(found.responsibilities, whole["masks"], atol=1e-5)


def test_a_stream_does_not_depend_on_those_beside_it(noisy_model, alignment, frames):
    served = Served(noisy_model, alignment)
    state = served.init(2, 3)
    together = [served.step(frames[:, 0], **state), served.step(frames[::-1, 0], **_turned(state))]
    for b in range(2):
        own = {name: value if name == "t" else value[b : b + 1] for name, value in state.items()}
        alone = served.step(frames[b : b + 1, 0], **own)
        for name in ("masks", "psi", "theta"):
            np.testing.assert_allclose(alone[name][0], together[0][name][b], atol=1e-5, err_msg=name)
            np.testing.assert_allclose(alone[name][0], together[1][name][1 - b], atol=1e-5, err_msg=name)


def _turned(state):
    return {name: value if name == "t" else value[::-1] for name, value in state.items()}


def test_noise_is_no_part_of_what_is_saved(model, noisy_model, tmp_path):
    """Checkpoints and weights of models without it fit those with it, to the last value."""
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(model=noisy_model).restore(path).assert_consumed()
    model.functional().save_weights(tmp_path / "model.weights.h5")
    noisy_model.functional().load_weights(tmp_path / "model.weights.h5")
    assert len(noisy_model.variables) == len(model.variables)
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(noisy_model))
    assert clone.noise.get_config() == noisy_model.noise.get_config()
    older = {name: value for name, value in model.get_config().items() if name not in ("noise", "lag")}
    assert (RNNEM.from_config(older).noise, RNNEM.from_config(older).lag) == (None, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 255.0])
def test_values_that_are_no_pixels_are_refused(signatures, frames, value):
    """Not silently made masks of; what resizing leaves a little outside is none of them."""
    signatures["serving_default"](frames=frames + 1e-4)
    wrong = np.array(frames)
    wrong[1, 2, 3, 4] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected frames of values from 0 to 1, received values"):
        signatures["serving_default"](frames=tf.constant(wrong))
    state = signatures["init"](batch_size=tf.constant(len(wrong)), k=tf.constant(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected frame of values from 0 to 1"):
        signatures["step"](frame=tf.constant(wrong[:, 2]), **state)


def test_no_frames_and_a_state_of_others_are_refused(signatures, frames):
    """Not silently made masks of: neither of no frame at all nor of one sequence's frame for two states."""
    for nothing in (frames[:, :0], frames[:0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected frames, received none"):
            signatures["serving_default"](frames=nothing)
    state = signatures["init"](batch_size=tf.constant(2), k=tf.constant(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected a frame and a state of as many sequences"):
        signatures["step"](frame=frames[:1, 0], **state)


def test_no_components_and_no_sequences_are_refused(signatures, frames):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected k of at least 1"):
        signatures["with_k_and_seed"](frames=frames, k=tf.constant(0), seed=tf.constant(0))
    for sizes, name in (((0, 1), "batch_size"), ((1, -1), "k")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"expected {name} of at least 1"):
            signatures["init"](batch_size=tf.constant(sizes[0]), k=tf.constant(sizes[1]))


def test_attention_is_served_of_a_model_that_has_any(tmp_path, frames, rng):
    """Of whole sequences and frame by frame: that of the representation of the frame, for any K > 1."""
    cell = small_cell(image_shape=(6, 7, 1))
    model = RNNEM(RNNEMCell(cell.encoder, RelationalCore(5), cell.decoder, cell.mixture))
    model.build((None, None, 6, 7, 1))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    export(model, ALIGNMENTS["next_frame"], tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected k of at least 2"):
        signatures["with_k_and_seed"](frames=frames, k=tf.constant(1), seed=tf.constant(SEED))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected k of at least 2"):
        signatures["init"](batch_size=tf.constant(1), k=tf.constant(1))
    with pytest.raises(ValueError, match="k is the number of components, 2 to 255; received k=1"):
        model.segment(np.asarray(frames), k=1)
    whole = signatures["with_k_and_seed"](frames=frames, k=tf.constant(4), seed=tf.constant(SEED))
    assert whole["attention"].shape == (2, 5, 4, 4)
    np.testing.assert_allclose(whole["attention"], model.cell.attention(whole["representations"]), atol=1e-5)
    assert np.abs(whole["attention"][:, 1] - whole["attention"][:, 2]).max() > 1e-3
    state = signatures["init"](batch_size=tf.constant(2), k=tf.constant(4))
    for t in range(frames.shape[1]):
        outputs = signatures["step"](frame=frames[:, t], **state)
        state = {name: outputs[name] for name in state}
        np.testing.assert_allclose(outputs["attention"], whole["attention"][:, t], atol=1e-4)


@pytest.mark.parametrize("alignment", ALIGNMENTS.values(), ids=ALIGNMENTS)
def test_a_model_that_takes_actions_is_served_with_them(frames, rng, alignment):
    """Whole and frame by frame the same; what training has, and what `segment` says."""
    cell = small_cell(image_shape=(6, 7, 1))
    model = RNNEM(RNNEMCell(cell.encoder, RelationalCore(5, nr_actions=2), cell.decoder, cell.mixture))
    model.build((None, None, 6, 7, 1))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    served, frames, actions = Served(model, alignment), frames[:, :3], np.float32(rng.standard_normal((2, 3, 2)))
    whole = served.sequence(frames, 3, SEED, actions)
    state = served.init(2, 3)
    for t in range(3):
        outputs = served.step(frames[:, t], **state, actions=actions[:, t])
        state = {name: outputs[name] for name in state}
        for name in (*OUTPUTS, "attention"):
            np.testing.assert_allclose(outputs[name], whole[name][:, t], atol=1e-4, err_msg=f"{name} of frame {t}")

    initial, seen = model.cell.get_initial_state(2, seed=[SEED, 0]), alignment.seen(actions)
    trained = model(alignment.seen(frames), alignment.predicted(frames), initial_state=initial, actions=seen)
    np.testing.assert_allclose(whole["representations"][:, alignment.lag :], trained["theta"], atol=1e-5)
    found = model.segment(frames, seed=SEED, lag=alignment.lag, actions=actions)
    np.testing.assert_allclose(found.responsibilities, whole["masks"], atol=1e-5)
    one = model.segment(frames[0], seed=SEED, lag=alignment.lag, actions=actions[0])
    assert one.labels.shape == (3, 6, 7)
    for wrong in (None, actions[:, :2], actions[..., :1], actions[0]):
        with pytest.raises(ValueError, match=r"expected actions of shape \(2, 3, 2\) with these frames; received "):
            model.segment(frames, actions=wrong)
    broken = np.where(np.arange(3)[:, None] == 1, np.nan, actions)
    with pytest.raises(ValueError, match="expected actions of finite numbers; received NaN or infinity"):
        model.segment(frames, actions=broken)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected actions of finite numbers"):
        served.sequence(frames, 3, SEED, broken)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected actions of finite numbers"):
        served.step(frames[:, 1], **served.init(2, 3), actions=broken[:, 1])
    one_each = "expected an action with each frame, received actions and frames of shapes"
    for wrong in (actions.reshape(3, 2, 2), actions[:1], actions[:, :2], np.repeat(actions, 2, axis=1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=one_each):
            served.sequence(frames, 3, SEED, wrong)
    with pytest.raises(tf.errors.InvalidArgumentError, match=one_each):
        served.step(frames[:, 0], **served.init(2, 3), actions=actions[:1, 0])
    with pytest.raises(ValueError, match=r"expected an action with each frame of \(2, 3, 6, 7, 1\); received actions "):
        model.cell.pack_inputs(frames, frames, actions.reshape(3, 2, 2))


def test_a_model_that_takes_no_actions_says_so(model, frames):
    with pytest.raises(ValueError, match=r"expected actions of shape None with these frames; received \(2, 5, 2\)"):
        model.segment(frames, actions=np.zeros((2, 5, 2)))


@pytest.mark.slow
def test_a_process_of_its_own(exported, model, tmp_path, rng):
    """One without nem_tf serves the SavedModel; importing nem_tf.layers is enough to load a .keras file."""
    inputs = keras.Input((None, 6, 7, 1))
    cell = small_cell(k=1, image_shape=(6, 7, 1))  # whose first responsibilities are not drawn
    outputs = RNNEM(cell)(BitflipNoise(0.0)(inputs)[:, :-1], inputs[:, 1:])
    functional = keras.Model(inputs, EMLoss(cell.mixture)(outputs, inputs[:, 1:]))
    functional.save(tmp_path / "model.keras")
    frames = binary_frames(rng, 2, 5, 6, 7, 1)
    np.save(tmp_path / "frames.npy", frames)
    files = [str(tmp_path / name) for name in ("model.keras", "frames.npy", "out.npz")]
    arguments = [exported(ALIGNMENTS["next_frame"]), *files]
    subprocess.run([sys.executable, "-c", FRESH_PROCESS, *arguments], check=True, cwd=Path(__file__).parent.parent)

    found = np.load(files[-1])
    trained = model(frames[:, :-1], frames[:, 1:], initial_state=model.cell.get_initial_state(2, seed=[SEED, 0]))
    np.testing.assert_allclose(found["masks"][:, 1:], trained["gamma"][..., 0], atol=1e-5)
    for name, expected in functional(frames).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_what_is_there_is_left_alone(model, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="it exists, choose a new one"):
        export(model, ALIGNMENTS["next_frame"], tmp_path / "there")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write --export_dir"):
        export(model, ALIGNMENTS["next_frame"], tmp_path / "file" / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
