"""The models that are shipped: each loads, and does on a few sequences what its card says."""

import json
import math
import os
import shutil
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from all_settings import parsed

import nem_tf
from data_gen.generate import generate
from nem_tf import build, experiments
from nem_tf.errors import UserError
from nem_tf.layers import RNNEM
from nem_tf.layers.system import Masks
from nem_tf.scoring.passes import make_scorer, mask_scores, score_batches
from nem_tf.scoring.record import Record
from nem_tf.scoring.summary import means
from nem_tf.serving import Served
from nem_tf.settings import Settings, resolve
from nem_tf.trained import (
    CONFIG,
    SHIPPED,
    UNKNOWN_TRAINING,
    WEIGHTS,
    digest,
    preset_directory,
    preset_names,
    read_preset,
    read_run,
    read_trained,
)

ROOT = Path(__file__).parent.parent
AMI_LAST = {
    "balls_r_nem": 0.936,
    "balls_rnn_em": 0.943,
    "coloured_shapes": 0.829,
    "flying_mnist_2": 0.898,
    "flying_mnist_2_direct": 0.817,
    "flying_shapes_5_k3": 0.623,
    "flying_shapes_5_k5": 0.871,
    "flying_shapes_k3": 0.99,
    "flying_shapes_k5": 1.0,
    "static_shapes_n_em": 0.534,
    "static_shapes_rnn_em": 0.794,
}  # of the first 64 test sequences, of balls the first 16


def test_every_preset_is_checked():
    assert set(AMI_LAST) == set(preset_names())


@pytest.mark.parametrize("name", AMI_LAST)
def test_a_preset_scores_what_it_did(name, tmp_path):
    model, settings = nem_tf.from_preset(name)
    size = 16 if name.startswith("balls") else 64
    settings = settings.replace(data_dir=str(tmp_path), test_size=size)
    frames = build.alignment_of(settings).frames_for(settings.data.nr_steps)
    generate(tmp_path / f"{settings.data.dataset}.h5", settings.data.dataset, {"test": size}, frames, workers=1)
    split = build.load(settings, "test")
    scorer = make_scorer(build.build_system(settings, model))
    scores = score_batches(scorer, split.batches(split.in_order(size)), settings.seed)
    assert means(scores, build.weights_of_steps(settings))["ami_last"] == pytest.approx(AMI_LAST[name], abs=0.01)


@pytest.mark.parametrize(("name", "worse"), [("flying_shapes_5_k5", 0.03), ("flying_mnist_2", 0.03)])
def test_masks_of_clean_frames_are_as_good_as_evaluation_says(name, worse, tmp_path):
    """Since the components see them with the noise that they were trained with; without it they are worse."""
    trained = read_preset(name)
    dataset, frames = trained.settings.data.dataset, trained.settings.data.nr_steps + 1
    generate(tmp_path / "data.h5", dataset, {"test": 64}, frames, workers=1)
    split = build.load(
        trained.settings.replace(data_dir=str(tmp_path), dataset=str(tmp_path / "data.h5"), test_size=64), "test"
    )
    batch = split.batch(split.in_order(64)[0])
    found = {}
    for rate in (0.0, trained.settings.data.noise_prob):
        model = build.build_model(trained.settings.replace(noise_prob=rate), trained.image_shape)
        build.restore(trained, model)
        parts = [model.segment(batch.frames[i : i + 8], seed=i).labels for i in range(0, 64, 8)]  # a noise each
        labels = np.concatenate(parts)[:, -1:]
        masks = Masks(labels, np.ones(labels.shape, np.float32))
        found[rate] = mask_scores(masks, batch.groups[:, -1:])["ami"].mean()
    clean, noisy = found.values()
    assert noisy == pytest.approx(AMI_LAST[name], abs=0.04)
    assert clean < noisy - worse


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_has_its_recipe_its_card_and_its_scores(name):
    """The flagfile that trains it again, what a person reads of it, and what nem_tf.results --presets reads."""
    trained, recipe = read_preset(name), parsed(f"--flagfile={ROOT}/flags/reproduction/{name}.flags")
    for group in ("data", "model", "objective", "optimisation", "seed"):
        assert getattr(recipe, group) == getattr(trained.settings, group)
    card = (trained.directory / "README.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert (trained.directory / "picture.png").exists()
    for path in trained.directory.glob("*.json"):  # of no machine
        assert '"/' not in path.read_text(), path.name
    own = Record.from_json((trained.directory / "evaluation_test.json").read_text())
    of_the_paper = experiments.published(own) is not None
    assert own.sequences == (10_000 if of_the_paper else 1000)
    assert f"{own.scores['ami_last']['mean']:.3f}" in card
    for path in trained.directory.glob("evaluation_*.json"):
        record = Record.from_json(path.read_text())
        settings = Settings.from_dict(record.trained)  # an older record lacks newer settings
        if path.name.startswith("evaluation_test_seed"):  # of the same recipe once more, whose weights are not shipped
            assert path.stem.removesuffix("_k5") == f"evaluation_test_seed{settings.seed}"
            assert settings.seed != trained.settings.seed
            for group in ("data", "model", "objective", "optimisation"):
                assert getattr(settings, group) == getattr(trained.settings, group)
            assert (record.training["step"], record.sequences) == (trained.training["step"], own.sequences)
            assert f"{record.scores['ami_last']['mean']:.3f}" in card
        else:
            assert settings == trained.settings
            assert record.training == trained.training
        assert experiments.published(record) or experiments.relational_part(record) or name.startswith("coloured")


def test_each_recipe_stands_after_the_one_it_begins_from():
    """`nem_tf.resume flags/reproduction/*.flags` takes them in the order of their names."""
    before = set()
    for path in sorted((ROOT / "flags" / "reproduction").glob("*.flags")):
        settings = parsed(f"--flagfile={path}")
        origin = settings.optimisation.init_from
        assert not origin or origin in before or origin in preset_names(), path.name
        before.add(settings.paths.run_dir)


def test_the_presets_are_small():
    sizes = {path: path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 8e6
    assert sum(sizes.values()) < 60e6


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_is_what_is_loaded(tmp_path, half):
    model, settings = nem_tf.from_preset("static_shapes_rnn_em")
    for weight in model.trainable_variables:
        weight.assign(weight + 1 / 3)
    nem_tf.save_to_preset(tmp_path / "mine", model, settings, half=half)
    loaded, same = nem_tf.from_preset(tmp_path / "mine")
    assert same == settings.replace(run_dir="runs/mine")
    for ours, theirs in zip(loaded.trainable_variables, model.trainable_variables, strict=True):
        kept = theirs.numpy().astype(np.float16) if half else theirs
        np.testing.assert_array_equal(ours, kept)
    assert [path.name for path in sorted((tmp_path / "mine").iterdir())] == [CONFIG, WEIGHTS]
    size = (tmp_path / "mine" / WEIGHTS).stat().st_size / 4 / model.count_params()
    assert size == pytest.approx(0.5 if half else 1.0, abs=0.1)
    with pytest.raises(UserError, match="mine: it exists, choose a new one"):
        nem_tf.save_to_preset(tmp_path / "mine", model, settings)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"k": 3}, "components 3 in place of 4"),
        ({"mixture": "gaussian"}, "mixture"),
        ({"network": "static_n_em"}, ""),
        ({"target": "same_frame"}, "lag 0 in place of 1"),
    ],
)
def test_settings_of_another_model_are_refused(tmp_path, changes, match):
    model, settings = nem_tf.from_preset("static_shapes_rnn_em")
    with pytest.raises(UserError, match=f"the settings are not those of the model: {match}"):
        nem_tf.save_to_preset(tmp_path / "mine", model, settings.replace(**changes))
    assert not list(tmp_path.iterdir())


def test_a_shipped_name_is_the_shipped_model_wherever_the_program_runs(tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "flying_shapes_k3")
    monkeypatch.chdir(tmp_path)
    assert not read_trained("flying_shapes_k3").is_run
    assert read_trained("./flying_shapes_k3").is_run
    _, settings = nem_tf.from_preset("flying_shapes_k3")
    assert settings.data.nr_steps == 20
    for place in ("./flying_shapes_k3", Path("flying_shapes_k3")):
        _, settings = nem_tf.from_preset(place)
        assert settings.data.nr_steps < 20


def test_a_run_becomes_a_preset(tiny_run, tmp_path):
    """Of its training what is known by the caller; here nothing."""
    model, settings = nem_tf.from_preset(tiny_run)
    kept = read_run(str(tiny_run))
    nem_tf.save_to_preset(tmp_path / "mine", model, settings, trained=kept)
    written = read_preset(tmp_path / "mine")
    assert (written.data, written.source, written.training) == (kept.data, kept.source, UNKNOWN_TRAINING)


def test_no_such_preset_and_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match=r"nothing is not a run directory, and no preset: .*static_shapes_rnn_em"):
        nem_tf.from_preset("nothing")
    for place in (None, "", 0):
        with pytest.raises(UserError, match="is not a run directory, and no preset"):
            nem_tf.from_preset(place)
    whole = (preset_directory("static_shapes_rnn_em") / CONFIG).read_text()
    with pytest.raises(UserError, match="no preset"):
        nem_tf.from_preset(300 * "x")
    known = json.loads(whole)
    for text, complaint in (
        ("{}", "config.json says nothing of 'settings'"),
        (whole[:200], "line"),
        (whole.replace('"step"', '"stop"'), "its training or its frames is incomplete"),
        (whole.replace("static_rnn_em", "no_network"), "network"),
        (json.dumps({**known, "image_shape": [28, -28, 1]}), "frames is incomplete"),
        (json.dumps({**known, "training": {**known["training"], "step": "many"}}), "step of its training is 'many'"),
        (json.dumps({**known, "weights": 3}), "not subscriptable"),
        (json.dumps({**known, "data": {"settings": math.nan}}), "its data or its actions is incomplete"),
        (json.dumps({**known, "data": {"seed": "x"}}), "its data or its actions is incomplete"),
        (json.dumps({**known, "nr_actions": -1}), "its data or its actions is incomplete"),
        (10_000 * "[" + 10_000 * "]", "recursion"),
    ):
        (tmp_path / CONFIG).write_text(text)
        with pytest.raises(UserError, match=f"is a damaged preset: .*{complaint}"):
            nem_tf.from_preset(tmp_path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_preset_reads_no_file_out_of_its_directory(tmp_path, name):
    whole = preset_directory("static_shapes_rnn_em")
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(whole / name)
    with pytest.raises(UserError, match=f"is a damaged preset: {name}: it is a link out of the directory"):
        nem_tf.from_preset(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"is a damaged preset: {name}: it is no regular file"):
        nem_tf.from_preset(tmp_path)


def test_weights_of_a_stranger_are_looked_at_before_they_are_loaded(tmp_path):
    """HDF5 reads on behind the end of a chunk that unpacks to less than it should, and follows links anywhere."""
    shutil.copytree(preset_directory("static_shapes_rnn_em"), tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / WEIGHTS).read_bytes()
    config = json.loads((tmp_path / CONFIG).read_text())

    def short_chunk(group):
        dataset = group.create_dataset("x", (32, 32), "f4", chunks=(32, 32), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(b"short"))

    for spoil, complaint in (
        (short_chunk, "x has a chunk that is not 4096 bytes"),
        (lambda group: group.create_dataset("x", (10**6, 10**6), "f4", chunks=(1, 1)), "x claims float32"),
        (lambda group: group.create_dataset("x", (9,), "u1", external="/etc/passwd"), "x is kept in another file"),
        (lambda group: group.create_group("x/" * 40), "its groups are nested more than 32 deep"),
        (lambda group: group.update(x=h5py.ExternalLink("/nowhere.h5", "x")), "x is a link to elsewhere"),
        (lambda group: group.create_dataset("x", (9,), "f4", chunks=(9,), fletcher32=True), "other filters than gzip"),
    ):
        (tmp_path / WEIGHTS).write_bytes(whole)
        with h5py.File(tmp_path / WEIGHTS, "r+") as file:
            spoil(file)
        config["weights"]["sha256"] = digest(tmp_path / WEIGHTS)
        (tmp_path / CONFIG).write_text(json.dumps(config))
        with pytest.raises(UserError, match=rf"model.weights.h5 holds no weights \(.*{complaint}"):
            nem_tf.from_preset(tmp_path)


def test_a_preset_does_not_say_where_it_runs(tmp_path):
    """XLA would load what lies in --compiled_dir, and a data set be written to --data_dir."""
    config = json.loads((preset_directory("static_shapes_rnn_em") / CONFIG).read_text())
    config["settings"]["paths"] |= {"compiled_dir": "theirs", "data_dir": "theirs"}
    config["settings"]["execution"]["distribute"] = "multi_worker"
    (tmp_path / CONFIG).write_text(json.dumps(config))
    settings = read_preset(tmp_path).settings
    assert (settings.paths.compiled_dir, settings.paths.data_dir, settings.execution.distribute) == ("", "data", "none")


def test_weights_of_another_preset_or_with_a_flipped_bit_are_refused(tmp_path):
    shutil.copytree(preset_directory("static_shapes_rnn_em"), tmp_path, dirs_exist_ok=True)
    nem_tf.from_preset(tmp_path)
    flipped = bytearray((tmp_path / WEIGHTS).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for weights in (flipped, b"", (preset_directory("flying_shapes_k5") / WEIGHTS).read_bytes()):
        (tmp_path / WEIGHTS).write_bytes(weights)
        with pytest.raises(UserError, match=r"model\.weights\.h5 is not the file that config\.json was written with"):
            nem_tf.from_preset(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.weights\.h5: No such file"):
        nem_tf.from_preset(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    """Of a preset whose two files agree."""
    shutil.copytree(preset_directory("static_shapes_rnn_em"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / CONFIG).read_text())
    config["settings"]["model"]["network"] = "flying_shapes"
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="holds no weights of its network, flying_shapes"):
        nem_tf.from_preset(tmp_path)


def test_nothing_that_was_there_is_written_to(tmp_path, monkeypatch):
    """Neither a directory, nor a link, nor where it goes wrong half-way."""
    model, settings = nem_tf.from_preset("static_shapes_rnn_em")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / WEIGHTS).write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    for place in ("own", "link", ""):
        with pytest.raises(UserError, match="it exists, choose a new one"):
            nem_tf.save_to_preset(place, model, settings)
    monkeypatch.setattr("nem_tf.pretrained.preset_config", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(UserError, match="cannot write a preset to new: No space"):
        nem_tf.save_to_preset("new", model, settings)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", WEIGHTS, "own"]
    assert (tmp_path / "own" / WEIGHTS).read_text() == "mine"


@pytest.mark.parametrize(
    ("group", "name", "place"),
    [("model", "network", "os:system"), ("model", "mixture", "stranger:net"), ("data", "noise", "stranger:net")],
)
def test_a_preset_of_a_stranger_runs_no_code(tmp_path, monkeypatch, group, name, place):
    (tmp_path / "stranger.py").write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((preset_directory("static_shapes_rnn_em") / CONFIG).read_text())
    config["settings"][group][name] = place
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"names code of its own, --{name}={place}, which is not run") as refused:
        nem_tf.from_preset(tmp_path)
    names = f"{name.upper()}S"
    assert f"from nem_tf.registry import {names}; {names}.register('mine', '{place}')" in str(refused.value)


@pytest.mark.parametrize(
    ("program_name", "flag"),
    [("nem_tf.evaluate", "run_dir"), ("nem_tf.export", "run_dir"), ("nem_tf.segment", "run_dir"),
     ("nem_tf.demo", "preset"), ("nem_tf.evaluate", "preset")],
)  # fmt: skip
def test_a_run_of_a_stranger_runs_code_only_if_its_user_says_so(
    program, tiny_run, tmp_path, monkeypatch, program_name, flag
):
    """Also from within its directory, where Python finds what lies there."""
    if program_name == "nem_tf.evaluate" and flag == "preset":
        config = json.loads((preset_directory("static_shapes_rnn_em") / CONFIG).read_text())
        config["settings"]["model"]["network"] = "stranger:net"
        (tmp_path / CONFIG).write_text(json.dumps(config))
    else:
        for name in ("flags.txt", "data.json"):
            shutil.copy(tiny_run / name, tmp_path / name)
        (tmp_path / "flags.txt").write_text(
            (tmp_path / "flags.txt").read_text().replace("conftest:small_network", "stranger:net")
        )
    (tmp_path / "stranger.py").write_text("open('ran', 'w').close()\n")
    np.save(tmp_path / "clip.npy", np.zeros((2, 8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    args = [f"--{flag}=.", *["clip.npy"] * (program_name == "nem_tf.segment")]
    status, _, err = program(program_name, *args)
    assert status == 1
    assert "names code of its own, --network=stranger:net, which is not run: if it is yours, give --own_code" in err
    assert not Path("ran").exists()
    status, _, err = program(program_name, *args, "--own_code")
    assert status == 1
    assert Path("ran").exists()
    assert "--network=stranger:net cannot be loaded: module 'stranger' has no attribute 'net'" in err


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model, settings = nem_tf.from_preset("static_shapes_rnn_em")
    model.trainable_variables[0].assign(np.full(model.trainable_variables[0].shape, np.nan))
    nem_tf.save_to_preset(tmp_path / "mine", model, settings)
    with pytest.raises(UserError, match=r"is a damaged preset: model\.weights\.h5 holds NaN"):
        nem_tf.from_preset(tmp_path / "mine")


def test_a_preset_is_evaluated_and_exported_like_a_run(program, tiny_run, tmp_path, monkeypatch):
    """The same scores, whole or in half precision but for its digits; its own training is told."""
    monkeypatch.chdir(tmp_path)
    data = f"--data_dir={read_run(tiny_run).settings.paths.data_dir}"
    assert program("nem_tf.evaluate", f"--run_dir={tiny_run}", f"--output={tmp_path}/run.json")[0] == 0
    for options in ((), ("--half",)):
        name = "half" if options else "whole"
        status, out, err = program(
            "nem_tf.export", f"--run_dir={tiny_run}", "--format=preset", f"--export_dir={name}", *options
        )
        assert (status, err) == (0, "")
        assert out.endswith(f"exported to {name}\n")
        assert program("nem_tf.evaluate", f"--preset={name}", data)[0] == 0
    model, settings = nem_tf.from_preset(tiny_run)
    other, same = nem_tf.from_preset("whole")
    assert settings.model == same.model
    for ours, theirs in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    run, whole, half = (
        Record.from_json((tmp_path / path).read_text())
        for path in ("run.json", "whole/evaluation_test.json", "half/evaluation_test.json")
    )
    assert whole.scores == run.scores
    assert whole.scores != half.scores
    assert half.scores["loss"]["mean"] == pytest.approx(run.scores["loss"]["mean"], rel=1e-2)
    assert whole.training == run.training
    assert whole.trained_data == run.trained_data
    assert whole.checkpoint == f"whole/{WEIGHTS}"
    status, out, err = program("nem_tf.export", "--preset=whole", "--export_dir=clean", "--noise_prob=0")
    assert (status, err) == (0, "")
    frames = tf.constant(np.random.default_rng(0).random((2, 4, *model.cell.image_shape)) < 0.3, tf.float32)
    served = tf.saved_model.load("clean").signatures["serving_default"](frames=frames)["masks"]
    clean = Served(RNNEM(model.cell), build.alignment_of(settings)).default(frames)["masks"]
    np.testing.assert_allclose(served, clean, atol=1e-5)
    noisy = Served(model, build.alignment_of(settings)).default(frames)["masks"]
    assert np.abs(noisy - clean).max() > 1e-3
    status, out, err = program("nem_tf.export", "--preset=whole")
    assert (status, err) == (0, "")
    assert (tmp_path / "whole/saved_model/saved_model.pb").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nem_tf.evaluate", "--preset=nothing"), "nothing is no preset: expected one of balls_r_nem"),
        (("nem_tf.export", "--preset=nothing"), "nothing is no preset: expected one of balls_r_nem"),
        (("nem_tf.train", "--init_from=nothing", "--run_dir={place}"), "nothing is not a run directory, and no preset"),
        (("nem_tf.evaluate", "--preset=flying_shapes_k5", "--run_dir=x"), "leave out --run_dir"),
        (("nem_tf.evaluate", "--preset=flying_shapes_k5", "--checkpoint=latest"), "leave out --checkpoint"),
        (("nem_tf.export", "--preset=flying_shapes_k5", "--half"), "--half is for --format=preset"),
        (("nem_tf.export", "--preset=flying_shapes_k5", "--export_dir="), "--export_dir is empty"),
        (
            ("nem_tf.export", "--preset=flying_shapes_k5", "--format=preset", "--noise_prob=0"),
            "--noise_prob is for --format=saved_model",
        ),
    ],
)
def test_a_wrong_choice_is_a_sentence(program, arguments, sentence, tmp_path, tiny_settings):
    arguments = [argument.format(place=tmp_path / "run") for argument in arguments]
    if arguments[0] == "nem_tf.train":
        arguments[1:1] = [f"--{name}={value}" for name, value in tiny_settings.items() if name != "run_dir"]
    status, _, err = program(*arguments)
    assert status == 1
    assert sentence in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_training_starts_from_a_preset(tmp_path, tiny_data):
    """And says so: its origin is the preset's training."""
    given = {"init_from": "flying_shapes_k5", "data_dir": str(tiny_data), "run_dir": str(tmp_path / "run")}
    settings = resolve({**given, "nr_steps": 2, "train_size": 8, "valid_size": 2, "batch_size": 8})
    training = build.Training(settings, build.load(settings, "training"), build.load(settings, "validation"))
    origin = training.start_from("flying_shapes_k5")
    model, trained = nem_tf.from_preset("flying_shapes_k5")
    for ours, theirs in zip(training.model.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (origin["run_dir"], origin["trained"], origin["origin"]) == ("flying_shapes_k5", trained.to_dict(), None)
    assert origin["step"] == read_preset("flying_shapes_k5").training["step"]
