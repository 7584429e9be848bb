"""The models that are shipped: each loads, and does on a few sequences what its card says."""

import numpy as np
import pytest

from data_gen.generate import generate
from nem_tf import build, presets
from nem_tf.errors import UserError
from nem_tf.scoring.passes import make_scorer, score_batches
from nem_tf.scoring.summary import means

AMI_LAST = {"static_shapes_rnn_em": 0.794}  # of the first 64 test sequences


def test_every_preset_is_checked():
    assert set(AMI_LAST) == set(presets.names())


@pytest.mark.parametrize("name", AMI_LAST)
def test_a_preset_scores_what_it_did(name, tmp_path):
    model, settings = presets.from_preset(name)
    settings = settings.replace(data_dir=str(tmp_path), test_size=64)
    frames = build.alignment_of(settings).frames_for(settings.data.nr_steps)
    generate(tmp_path / f"{settings.data.dataset}.h5", settings.data.dataset, {"test": 64}, frames, workers=1)
    split = build.load(settings, "test")
    scorer = make_scorer(build.build_system(settings, model))
    scores = score_batches(scorer, split.batches(split.in_order(64)), settings.seed)
    assert means(scores, build.weights_of_steps(settings))["ami_last"] == pytest.approx(AMI_LAST[name], abs=0.01)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    model, settings = presets.from_preset("static_shapes_rnn_em")
    for weight in model.trainable_variables:
        weight.assign(weight + 1)
    presets.save_to_preset(tmp_path / "mine", model, settings)
    loaded, same = presets.from_preset(tmp_path / "mine")
    assert same == settings.replace(run_dir="runs/mine")
    for ours, theirs in zip(loaded.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="holds a preset"):
        presets.save_to_preset(tmp_path / "mine", model, settings)


def test_no_such_preset_and_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match=r"nothing is no preset: expected one of .*static_shapes_rnn_em"):
        presets.from_preset("nothing")
    (tmp_path / presets.CONFIG).write_text("{}")
    with pytest.raises(UserError, match="is a damaged preset"):
        presets.from_preset(tmp_path)
