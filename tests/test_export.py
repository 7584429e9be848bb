"""The SavedModel in a process that has no nem_tf, and what its functions promise."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames

import nem_tf
from nem_tf.errors import UserError
from nem_tf.export import SEED, export

PLAIN_LOADER = """
import sys
sys.modules["nem_tf"] = None  # importing it fails
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
frames = tf.constant(np.load(sys.argv[2]))
np.savez(sys.argv[3], **loaded.signatures["serving_default"](frames=frames))
"""


@pytest.fixture(scope="module")
def model():
    cell = nem_tf.RNNEMCell(**nem_tf.flying_shapes((12, 12, 1)), mixture=nem_tf.BernoulliMixture(), k=3)
    model = nem_tf.RNNEM(cell)
    model.build((None, None, 12, 12, 1))
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    export(model, path)
    return path


@pytest.fixture(scope="module")
def signatures(saved):
    return tf.saved_model.load(str(saved)).signatures


@pytest.fixture
def frames(rng):
    return tf.constant(binary_frames(rng, 2, 5, 12, 12, 1))


def test_shapes_for_any_batch_length_and_k(signatures, rng):
    for batch, steps in ((1, 1), (3, 2), (2, 6)):
        frames = tf.constant(binary_frames(rng, batch, steps, 12, 12, 1))
        for k, outputs in (
            (3, signatures["serving_default"](frames=frames)),
            (5, signatures["with_k_and_seed"](frames=frames, k=tf.constant(5), seed=tf.constant(1))),
        ):
            assert {name: tuple(value.shape) for name, value in outputs.items()} == {
                "masks": (batch, steps, k, 12, 12),
                "predictions": (batch, steps, k, 12, 12, 1),
                "representations": (batch, steps, k, 100),
            }
            np.testing.assert_allclose(tf.reduce_sum(outputs["masks"], 2), 1, rtol=1e-5)


def test_the_same_call_gives_the_same_masks_and_another_seed_others(signatures, frames):
    default = signatures["serving_default"](frames=frames)["masks"]
    np.testing.assert_array_equal(default, signatures["serving_default"](frames=frames)["masks"])
    with_seed = signatures["with_k_and_seed"]
    np.testing.assert_array_equal(default, with_seed(frames=frames, k=tf.constant(3), seed=tf.constant(SEED))["masks"])
    other = with_seed(frames=frames, k=tf.constant(3), seed=tf.constant(SEED + 1))["masks"]
    assert np.abs(default - other)[:, 0].max() > 0.1


def test_streaming_is_the_sequence_and_the_sequence_is_the_training_recursion(signatures, model, frames):
    whole = signatures["serving_default"](frames=frames)
    state = signatures["init"](batch_size=tf.constant(2), k=tf.constant(3))
    for t in range(frames.shape[1]):
        outputs = signatures["step"](frame=frames[:, t], **state)
        state = {name: outputs[name] for name in state}
        for name in ("masks", "predictions", "representations"):
            np.testing.assert_allclose(outputs[name], whole[name][:, t], atol=1e-5)
    assert int(state["t"]) == 5

    initial = model.cell.get_initial_state(2, seed=[SEED, 0])
    trained = model(frames[:, :-1], frames[:, 1:], initial_state=initial)
    np.testing.assert_allclose(whole["masks"][:, 0], initial.gamma[..., 0], atol=1e-6)
    np.testing.assert_allclose(whole["masks"][:, 1:], trained["gamma"][..., 0], atol=1e-5)
    np.testing.assert_allclose(whole["predictions"][:, 1:], trained["predictions"], atol=1e-5)
    np.testing.assert_allclose(whole["representations"][:, 1:], trained["theta"], atol=1e-5)


@pytest.mark.slow
def test_a_process_without_nem_tf_can_serve_it(saved, signatures, frames, tmp_path):
    np.save(tmp_path / "frames.npy", frames)
    arguments = [str(saved), str(tmp_path / "frames.npy"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", PLAIN_LOADER, *arguments], check=True, cwd=tmp_path)
    served = np.load(tmp_path / "out.npz")
    for name, value in signatures["serving_default"](frames=frames).items():
        np.testing.assert_allclose(served[name], value, atol=1e-6)


def test_an_existing_directory_is_left_alone(model, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists: choose a new one"):
        export(model, tmp_path / "there")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write --export_dir"):
        export(model, tmp_path / "file" / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
