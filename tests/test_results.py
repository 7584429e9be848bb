"""The program that collects evaluations: what it reads, what it leaves out, what it writes."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags
from PIL import Image
from records import make_record

from nem_tf import results
from nem_tf.errors import UserError
from nem_tf.run import FLAGFILE
from nem_tf.scoring import tables
from nem_tf.scoring.naming import file_stem
from nem_tf.trained import CONFIG


@pytest.fixture(autouse=True)
def papers(monkeypatch):
    """What the paper reports, of settings that the records of these tests have."""
    known = SimpleNamespace(
        published=lambda record: (0.970, 0.005),
        describe=lambda record: tables.Name(f"K {record.trained['model']['k']}"),
        nr_objects=lambda record: 3,
        relational_part=lambda record: "own",
        relational_order=lambda record: 0,
    )
    monkeypatch.setattr(results, "experiments", known)


@pytest.fixture
def output_dir(tmp_path):
    return tmp_path / "out"


def main(output_dir, *run_dirs, presets=False):
    results.main(SimpleNamespace(output_dir=str(output_dir), presets=presets), *map(str, run_dirs))


def cells(text):
    """The rows of all Markdown tables, without the spaces that put columns below each other."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def write_run(directory, *records):
    """A run directory with evaluations."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "flags.txt").write_text("")
    for record in records:
        (directory / f"{file_stem(record)}.json").write_text(record.to_json())
    return directory


def test_reads_the_test_scores_of_run_directories(tmp_path, capsys):
    run = write_run(
        tmp_path / "[run]", make_record(), make_record(tested={"k": 5}), make_record(record={"split": "validation"})
    )
    write_run(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    records = results.read_records([run, tmp_path / "empty", tmp_path / "other", tmp_path / "other" / ".." / "[run]"])
    assert [record.tested["model"]["k"] for record in records] == [3, 5]
    assert {record.split for record in records} == {"test"}
    said = capsys.readouterr().err
    assert f"{tmp_path / 'other'} is not a run directory, and holds no evaluations: left out" in said
    assert f"{tmp_path / 'empty'} has no test scores: python -m nem_tf.evaluate" in said
    assert len(said.splitlines()) == 2


def test_evaluations_of_a_shipped_model_lie_in_a_directory_of_their_own(tmp_path):
    place = write_run(tmp_path / "results", make_record())
    for name in (FLAGFILE, CONFIG):
        (place / name).unlink(missing_ok=True)
    (record,) = results.read_records([place])
    assert record.run_dir == str(place)


def test_a_run_is_where_it_was_found(tmp_path):
    dirs = [write_run(tmp_path / name, make_record(seed=i, tested={"nr_steps": 50})) for i, name in enumerate("ab")]
    assert [record.run_dir for record in results.read_records(dirs)] == [str(path) for path in dirs]


def test_a_copy_of_a_run_is_no_other_run(tmp_path, capsys):
    """As somebody has who keeps a copy, or a preset of it that is evaluated elsewhere and in another precision."""
    runs = [write_run(tmp_path / name, make_record()) for name in ("a", "copy")]
    runs.append(write_run(tmp_path / "again", make_record(training={"wall_time": 13.0})))
    computed = {"data_dir": "elsewhere", "precision": "mixed_bfloat16"}
    runs.append(write_run(tmp_path / "preset", make_record(tested=computed, scores={"ami": 0.8999})))
    assert [record.run_dir for record in results.read_records(runs)] == [str(runs[0]), str(runs[2])]
    said = capsys.readouterr().err
    for copy in (runs[1], runs[3]):
        copied = f"{copy}/evaluation_test.json is the evaluation {runs[0]}/evaluation_test.json once more: left out"
        assert copied in said
    shutil.copy(runs[0] / "evaluation_test.json", runs[0] / "evaluation_test_old.json")
    assert len(results.read_records(runs[:1])) == 1


def test_all_evaluations_of_a_run_and_of_its_preset_are_of_one_run(tmp_path):
    own = write_run(tmp_path / "run", make_record())
    more = write_run(tmp_path / "preset", make_record(tested={"k": 5}, run_dir="flying_shapes_k3"))
    assert {record.run_dir for record in results.read_records([own, more])} == {str(own)}


def test_models_of_unknown_training_are_one_only_if_their_scores_are(tmp_path):
    unknown = {"step": 0, "epoch": 0, "wall_time": 0.0, "finished": None}
    runs = [write_run(tmp_path / str(ami), make_record(training=unknown, scores={"ami": ami})) for ami in (0.5, 0.6)]
    assert len(results.read_records(runs)) == 2


def test_scores_of_an_older_version_are_left_out_with_a_sentence(tmp_path, capsys):
    run = write_run(tmp_path / "run", make_record())
    (run / "evaluation_test_old.json").write_text(json.dumps({"settings": {}, "scores": {}, "trained": {}}))
    assert len(results.read_records([run])) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "another version (evaluation_test_old.json)" in sentence
    assert "python -m nem_tf.evaluate" in sentence


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "{}",
        lambda text: text.replace("ep", "op"),
        lambda text: 10_000 * "[",
        lambda text: text.replace('"nr_steps"', '"foo": 1, "nr_steps"'),
        lambda text: text.replace('"k": 3', '"k": 0'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    run = write_run(tmp_path / "run", make_record())
    path = run / "evaluation_test.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"evaluation_test.json is not a file of nem_tf.evaluate: .+"):
        results.read_records([run])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"evaluation_test.json is not a file of nem_tf.evaluate"):
        results.read_records([run])


def test_writes_the_tables_and_both_figures(tmp_path, output_dir, capsys):
    runs = [
        write_run(tmp_path / "three", make_record(), make_record(tested={"nr_steps": 50})),
        write_run(tmp_path / "one", make_record(k=1, seed=1)),
    ]
    main(output_dir, *runs)
    text = (output_dir / "results.md").read_text()
    printed = capsys.readouterr()
    assert printed.out.strip() == text.strip()
    assert f"written to {output_dir}" in printed.err
    assert ["K 3", "flying_shapes, K 3, 20 steps", "1", "7,810", "0.900", "0.950", "0.970 ± 0.005"] in [
        row[:7] for row in cells(text)
    ]
    assert ["system", "3 objects"] in cells(text)
    assert ["recurrent autoencoder, next step", "50.000"] in cells(text)
    assert "nobody knows" in text
    for name in ("fig6.png", "fig7.png"):
        assert f"({name})" in text
        picture = np.asarray(Image.open(output_dir / name).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, name


def test_a_full_disk_leaves_the_figures_of_before(tmp_path, output_dir, largest_file):
    run = write_run(tmp_path / "one", make_record(k=1, seed=1))
    main(output_dir, run)
    before = {path.name: path.read_bytes() for path in output_dir.iterdir()}
    with largest_file(len(before["fig6.png"]) - 1), pytest.raises(UserError, match=r"output_dir=.+: File too large"):
        main(output_dir, run)
    assert {path.name: path.read_bytes() for path in output_dir.iterdir()} == before


def test_writes_the_table_of_r_nem_where_there_are_runs_for_it(tmp_path, output_dir):
    main(output_dir, write_run(tmp_path / "run", make_record(scores={"relative": 0.25, "loss": 1.0})))
    text = (output_dir / "results.md").read_text()
    assert "## R-NEM: bouncing balls" in text
    assert ["K 3", "1", "7,810", "0.250"] in [row[:4] for row in cells(text)]


def test_settings_of_ones_own_stand_below_the_tables(tmp_path, output_dir):
    runs = [write_run(tmp_path / str(n), make_record(max_steps=n)) for n in (4, 5)]
    main(output_dir, *runs)
    tables_, settings = (output_dir / "results.md").read_text().split("## Settings")
    assert [row[0] for row in cells(tables_) if row[0].startswith("K")] == ["K 3 [1]", "K 3 [2]"]
    assert "- [1] max_steps 4\n- [2] max_steps 5\n" in settings


def test_writes_no_figure_and_no_table_without_runs_for_it(tmp_path, output_dir):
    main(output_dir, write_run(tmp_path / "run", make_record(scores={"loss": 1.0})))
    assert [path.name for path in output_dir.iterdir()] == ["results.md"]
    text = (output_dir / "results.md").read_text()
    assert "##" not in text
    assert "nan" not in text


def test_a_tilde_means_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_run(tmp_path / "run", make_record(scores={"loss": 1.0}))
    main("~/out", "~/run")
    assert (tmp_path / "out" / "results.md").exists()


def test_what_cannot_be_done_is_one_sentence(tmp_path, output_dir):
    with pytest.raises(UserError, match="expected run directories"):
        main(output_dir)
    with pytest.raises(UserError, match="none of the 1 directories has test scores"):
        main(output_dir, tmp_path)
    (loop := tmp_path / "loop").symlink_to(loop)
    with pytest.raises(UserError, match="none of the 1 directories has test scores"):
        main(output_dir, loop)
    run = write_run(tmp_path / "run", make_record())
    output_dir.write_text("a file in the way")
    with pytest.raises(UserError, match=rf"cannot write --output_dir={output_dir}: File exists"):
        main(output_dir, run)


def test_answers_without_tensorflow_and_matplotlib(tmp_path):
    """The program as a user starts it, on a run that needs no figure."""
    run = write_run(tmp_path / "run", make_record(scores={"ami": 0.5}))
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['nem_tf.results', {str(run)!r}, '--output_dir={tmp_path / 'out'}']\n"
        "try:\n    runpy.run_module('nem_tf.results', run_name='__main__')\n"
        "finally:\n    print(sorted({'tensorflow', 'keras', 'matplotlib', 'h5py', 'sklearn'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
    assert "flying_shapes, K 3, 20 steps" in (tmp_path / "out" / "results.md").read_text()
    assert "output_dir" not in flags.FLAGS  # importing defines no flag of its own


def test_the_shipped_models_have_rows_of_their_own(tmp_path, monkeypatch, capsys):
    """Found by --presets, beside runs or alone."""
    write_run(tmp_path / "run", make_record())
    shipped = tmp_path / "presets"
    (shipped / "mine").mkdir(parents=True)
    (shipped / "mine" / "config.json").write_text("{}")
    (shipped / "mine" / "evaluation_test.json").write_text(make_record(tested={"k": 5}).to_json())
    monkeypatch.setattr(results, "SHIPPED", shipped)
    monkeypatch.setattr(results, "preset_names", lambda: ["mine"])
    main(tmp_path / "both", tmp_path / "run", presets=True)
    assert "flying_shapes, K 5" in (tmp_path / "both/results.md").read_text()
    main(tmp_path / "alone", presets=True)
    rows = (tmp_path / "alone/results.md").read_text()
    assert "flying_shapes, K 5" in rows
    assert "flying_shapes, K 3" not in rows
    (shipped / "mine" / "evaluation_test.json").unlink()
    with pytest.raises(UserError, match="none of the 1 directories has test scores"):
        main(tmp_path / "none", presets=True)
    assert f"python -m nem_tf.evaluate --preset={shipped}/mine" in capsys.readouterr().err
