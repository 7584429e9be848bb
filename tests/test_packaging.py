"""What pyproject.toml says of the package is what is there."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nem_tf
from nem_tf import console

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_directory_of_code_and_flagfiles_is_a_package():
    code = {path.parent for top in ("nem_tf", "data_gen") for path in (ROOT / top).rglob("*.py")}
    flagfiles = {path.parent for path in (ROOT / "flags").rglob("*.flags")}
    found = {".".join(path.relative_to(ROOT).parts) for path in code}
    found |= {".".join(("nem_tf", "flagfiles", *path.relative_to(ROOT / "flags").parts)) for path in flagfiles}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_there_is_one_version():
    release = nem_tf.__version__
    assert f"version: {release}" in (ROOT / "CITATION.cff").read_text().splitlines()
    assert re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == release


def test_every_command_is_a_program(monkeypatch):
    called = []
    monkeypatch.setattr(console.runpy, "run_module", lambda module, **options: called.append((module, options)))
    monkeypatch.setattr(sys, "path", ["installed"])
    for command, place in PROJECT["project"]["scripts"].items():
        module, _, name = place.partition(":")
        assert getattr(importlib.import_module(module), name)() is None  # what it returns is the exit status
        assert command == f"nem-{name}"
    modules = {module for module, options in called if options == {"run_name": "__main__", "alter_sys": True}}
    programs = {
        path.stem for path in (ROOT / "nem_tf").glob("*.py") if re.search("^if __name__", path.read_text(), re.M)
    }
    assert modules == {"data_gen", *(f"nem_tf.{program}" for program in programs)}
    assert sys.path[:2] == ["installed", ""]  # what is there is found, as by python -m, and hides nothing


@pytest.mark.parametrize("name", ["data_gen/__init__.py", "data_gen.py"])
def test_another_data_gen_that_hides_ours_is_named(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); import nem_tf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.returncode == 1
    shown = tmp_path / name.removesuffix("/__init__.py")
    assert f"ImportError: {shown} hides the package data_gen that nem_tf comes with" in done.stderr
