"""Prints the lowest versions that pyproject.toml allows, as requirements for pip."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
    print(requirement.split(",")[0].replace(">=", "=="))
