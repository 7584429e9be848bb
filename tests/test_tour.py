"""docs/tour.ipynb: every cell runs, in a directory of its own; what is committed shows what it gave."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs/tour.ipynb"


@pytest.fixture
def tour():
    return nbformat.read(TOUR, nbformat.NO_CONVERT)


@pytest.mark.slow
@pytest.mark.page
def test_the_tour_runs(tour, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    NotebookClient(tour, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = sum("image/png" in output.get("data", {}) for cell in tour.cells for output in cell.get("outputs", ()))
    assert pictures == 5
    assert {path.name for path in tmp_path.iterdir()} >= {"shapes.gif", "own.h5", "runs", "exported"}


def test_what_is_committed_was_run(tour):
    nbformat.validate(tour)
    code = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert TOUR.stat().st_size < 1_000_000


def test_the_pages_it_names_are_there(tour):
    links = re.findall(r"\]\(([^)]*)\)", "".join(cell.source for cell in tour.cells if cell.cell_type == "markdown"))
    assert len(links) >= 5
    assert all((TOUR.parent / link).exists() for link in links)
