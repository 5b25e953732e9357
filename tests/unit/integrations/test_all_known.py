"""Every integration: a library that is missing, broken or of an unknown version costs one line and no call."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.support import programs
from tests.support.clients import OFFLINE

from tracekeeper.integrations.known import KNOWN

LIBRARIES = {name: row.module for name, row in KNOWN.items() if row.module is not None}

PROGRAM = """
import importlib, logging, sys
import tracekeeper as tk

lines = []
class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("tracekeeper").addHandler(Lines(logging.INFO))
logging.getLogger("tracekeeper").propagate = False
shown = {}
for name, module in LIBRARIES.items():
    lines.clear()
    before = tk.instrument(name)[0].state
    try:
        importlib.import_module(module)
        imported = "imported"
    except ImportError as error:
        imported = type(error).__name__ + ": " + str(error)
    after = [row.state for row in tk.instrumented() if row.name == name][0]
    shown[name] = (before, imported, after, list(lines))
tk.uninstrument()
print(repr(shown))
"""


def shown_by(code: str, directory: Path) -> dict[str, tuple[str, str, str, list[str]]]:
    ended = programs.run(f"LIBRARIES = {LIBRARIES!r}\n{code}{PROGRAM}", directory, timeout=120)
    assert ended.code == 0, ended.err
    found: dict[str, tuple[str, str, str, list[str]]] = ast.literal_eval(ended.out.splitlines()[-1])
    assert set(found) == set(LIBRARIES)
    return found


def libraries(directory: Path, text: str) -> str:
    """Packages with the names of the libraries, which hold only ``text``; the code that puts them first."""
    for module in LIBRARIES.values():
        place = directory / "libraries"
        *above, last = module.split(".")
        for part in above:
            place = place / part
            place.mkdir(parents=True, exist_ok=True)
            (place / "__init__.py").touch()
        (place / last).mkdir(parents=True, exist_ok=True)
        (place / last / "__init__.py").write_text(text)
    return f"import sys; sys.path.insert(0, {str(directory / 'libraries')!r})\n"


def test_a_library_of_an_unknown_version_costs_one_line_and_no_call(tmp_path: Path) -> None:
    for name, (before, imported, after, lines) in shown_by(libraries(tmp_path, "VERSION = 99\n"), tmp_path).items():
        assert (before, imported, after) == ("waiting", "imported", "failed"), (name, lines)
        [line] = lines
        assert line.startswith(name), line
        assert " is not traced: " in line


def test_a_broken_library_raises_what_it_raises_and_nothing_of_ours(tmp_path: Path) -> None:
    code = libraries(tmp_path, "raise ImportError('broken')\n")
    for name, (before, imported, after, lines) in shown_by(code, tmp_path).items():
        assert (before, imported, after, lines) == ("waiting", "ImportError: broken", "waiting", []), name


def test_a_library_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    code = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {module.partition(".")[0] for module in LIBRARIES.values()}:
            raise ModuleNotFoundError(f"No module named {name!r}")
import sys
sys.meta_path.insert(0, Missing())
"""
    for name, (before, imported, after, lines) in shown_by(code, tmp_path).items():
        assert (before, after) == ("not installed", "not installed"), name
        assert imported.startswith("ModuleNotFoundError")
        assert lines == [f"{name} is not traced: {LIBRARIES[name]} is not installed"]


@pytest.mark.slow
def test_a_library_that_is_imported_later_is_traced_from_then_on(tmp_path: Path) -> None:
    """In the middle of its own import, in whichever order its modules come."""
    quiet = "import os, warnings; warnings.simplefilter('ignore'); os.environ.update(OFFLINE)\n"
    offline = {name: value for name, value in OFFLINE.items() if value}
    for name, (before, imported, after, lines) in shown_by(f"OFFLINE = {offline!r}\n{quiet}", tmp_path).items():
        if imported.startswith("ModuleNotFoundError"):
            assert (before, after) == ("not installed", "not installed"), name
        else:
            assert (imported, after, lines) == ("imported", "active", []), name
            assert before == "waiting" or name in ("mcp", "openai", "litellm"), name  # others import these


@pytest.mark.parametrize("name", sorted({*LIBRARIES} - {"fastapi"}))
def test_a_library_is_named_on_the_page_about_clients(name: str) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "clients.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page
