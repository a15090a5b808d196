"""Files that ship with the code: prompt templates and configurations."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_FOLDERS = {"trm.configs": "configs", "hybrid.prompts": "prompts"}  # as pyproject.toml maps them


def text(package: str, name: str) -> str:
    """The file `name` of `trm.configs` or `hybrid.prompts`, decoded.

    A wheel holds both as packages. A checkout, editable installs included, does not: the folders have no
    `__init__.py`, and setuptools' editable finder offers a mapped folder only to packages that have one.
    """
    checkout = Path(__file__).parent.parent / _FOLDERS[package] / name
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
