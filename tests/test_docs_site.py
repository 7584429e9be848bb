"""The site of docs/: every page is in it, and the page of public names holds every one of them, and no other."""

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

import nem_tf

DOCS = Path(__file__).parent.parent / "docs"
NAMED = r"^\.\. (?:auto\w+|py:data):: ([\w.]+)\n((?:   .*\n)*)"  # a name of the page and the options below it


def listed():
    """The names on the page of public names, those of members with their class."""
    for name, options in re.findall(NAMED, (DOCS / "api.md").read_text(), re.MULTILINE):
        yield name
        members = re.search(r":members: (.+)", options)
        for member in members[1].split(", ") if members else ():
            yield f"{name}.{member}"


def found(name):
    """What a dotted name stands for."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            place = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:  # the name of a class
            continue
        for part in parts[length:]:
            place = getattr(place, part)
        return place
    raise ModuleNotFoundError(name)


def test_every_page_is_in_the_table_of_contents_once():
    tables = re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.DOTALL | re.MULTILINE)
    entries = Counter(line for table in tables for line in table.splitlines() if line and not line.startswith(":"))
    pages = {path.name for path in DOCS.glob("*.md")} | {"tour.ipynb"}
    assert entries == Counter(pages - {"index.md"})


def test_every_public_name_is_on_its_page_once():
    names = Counter(listed())
    assert {name: names[f"nem_tf.{name}"] for name in nem_tf.__all__} == dict.fromkeys(nem_tf.__all__, 1)


@pytest.mark.parametrize("name", listed())
def test_what_is_on_the_page_of_public_names_exists_and_says_what_it_is(name):
    assert found(name).__doc__
