"""README and docs: their Python runs as it stands, their commands parse, what they name exists."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from conftest import small_cell

from data_gen.__main__ import _flags as data_gen_flags
from nem_tf import cli
from nem_tf.alignment import ALIGNMENTS
from nem_tf.layers import RNNEM, GaussianMixture
from nem_tf.serving import export
from nem_tf.settings import FIELDS
from tests.commands.pages import read_pages

ROOT = Path(__file__).parent.parent
PAGES = read_pages()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def prose(page):
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


PYTHON = [(page, i) for page in PAGES for i in range(len(blocks(page, "python")))]
COMMANDS = [
    (page, line.partition(" #")[0].strip())
    for page in PAGES
    for block in blocks(page, "")
    for line in block.splitlines()
    if line.startswith("python ")
] + [(page, command) for page in PAGES for command in re.findall(r"`(python -m [^`]*)`", PAGES[page])]


def test_there_is_something_to_look_at():
    assert {page for page, _ in PYTHON} >= {"README.md"}
    assert len(COMMANDS) > 8


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A directory with the SavedModel that the examples load."""
    directory = tmp_path_factory.mktemp("served")
    model = RNNEM(small_cell(k=4, image_shape=(28, 28, 1)))
    model.build((None, None, 28, 28, 1))
    export(model, ALIGNMENTS["next_frame"], directory / "exported/flying_shapes")
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), PYTHON)
def test_python_runs_and_prints_what_its_comments_say(served, monkeypatch, capsys, page, number):
    monkeypatch.chdir(served)
    code = blocks(page, "python")[number]
    scope = {}
    exec(code, scope)
    out = capsys.readouterr().out
    for expected in re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE):
        assert expected in out
    for name, network in scope.items():  # of one's own
        if name.endswith("network"):
            cell = network((6, 5, 2), GaussianMixture(), k=2)
            states = RNNEM(cell)(np.zeros((1, 3, 6, 5, 2), np.float32), np.zeros((1, 3, 6, 5, 2), np.float32))
            assert states["gamma"].shape == (1, 3, 2, 6, 5, 1)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_parse(monkeypatch, page, command):
    """Also their flagfiles, but for those of a run or an experiment that the reader is to fill in."""
    monkeypatch.chdir(ROOT)
    _, _, module, *args = shlex.split(command)
    args = [arg for arg in args if arg != "--help" and not re.match(r"--flagfile=.*\b(NAME|runs)\b", arg)]
    options = flags.FlagValues()
    if module == "data_gen":
        options = data_gen_flags()
    else:
        program = importlib.import_module({"tests.faults": "tests.faults.__main__"}.get(module, module))
        program.define(options)
    _, *rest = options([module, *cli.flagfiles_first(args)])
    takes_paths = ("nem_tf.results", "nem_tf.resume", "nem_tf.segment", "benchmarks.time_to_quality", "benchmarks.ami")
    assert not rest or module in takes_paths


@pytest.mark.parametrize("page", PAGES)
def test_what_it_links_to_exists(page):
    for target in re.findall(r"\]\(([^)#:\s]+)\)", prose(page)):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_it_names_exist(page):
    """In backticks: with one of our directories in front, or a Python file by its name alone."""
    folders = ("nem_tf", "data_gen", "tests", "benchmarks", "docs", "flags")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*")}
    for name in re.findall(r"`([\w./]+)`", prose(page)):
        if name.startswith(tuple(f"{folder}/" for folder in folders)):
            assert (ROOT / name).exists(), name
        elif name.endswith(".py"):
            assert name in names, name


@pytest.mark.parametrize("page", PAGES)
def test_flags_it_names_exist(page):
    known = set(FIELDS) | {"flagfile", "help"} | set(data_gen_flags())
    programs = [f"nem_tf.{name}" for name in ("train", "evaluate", "export", "results", "resume", "segment", "demo")]
    for module in (*programs, "tests.faults.__main__"):
        options = flags.FlagValues()
        importlib.import_module(module).define(options)
        known |= set(options)
    for span in re.findall(r"`([^`\n]*)`", prose(page)):
        if not re.search(r"benchmarks|pip|pytest|ruff|tensorboard", span):
            assert set(re.findall(r"(?:^|\s)--(\w+)", span)) <= known, span


def test_every_flagfile_is_named():
    pages = ("docs/reproduce.md", "docs/reproduction.md", "docs/r_nem.md", "docs/training.md")
    text = "".join(PAGES[page] for page in pages) + (ROOT / "Makefile").read_text()
    for path in (ROOT / "flags").rglob("*.flags"):
        experiment = re.sub(r"(autoencoder_[a-z]+)_[45]", r"\1", path.stem)  # listed as NAME[_4,_5]
        assert re.search(rf"\b{experiment}\b", text), path.name


def test_the_readme_is_short():
    """At most 900 words, all but the citation and the bars of tables counted."""
    text = re.sub(r"```bibtex.*?```|\|[-|]+\|", "", PAGES["README.md"], flags=re.DOTALL)
    assert len([word for word in text.split() if word != "|"]) <= 900
