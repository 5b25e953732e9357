"""Every example of a docstring runs and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import tracekeeper

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SOURCE = Path(tracekeeper.__file__).parent


def with_examples() -> list[str]:
    """The modules that have an example, found in their text: importing them is the tests' business."""
    found = []
    for module in pkgutil.walk_packages([str(SOURCE)], "tracekeeper."):
        place = SOURCE.parent.joinpath(*module.name.split("."))
        file = place / "__init__.py" if module.ispkg else place.with_suffix(".py")
        if ">>> " in file.read_text(encoding="utf-8"):
            found.append(module.name)
    return found


MODULES = with_examples()


def test_modules_with_examples_are_found() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name: str, keeper: object) -> None:
    """In an empty folder, with a temporary keeper: an example leaves nothing anywhere else."""
    done = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert done.failed == 0, f"{done.failed} of {done.attempted} examples of {name} fail; see the output above"
