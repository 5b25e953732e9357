"""What the documentation names is there: files, tests, rooms, links, settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import tracekeeper as tk

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text(name)):
        if "://" not in link:
            assert (ROOT / name).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_every_test_that_is_named_exists(name: str) -> None:
    """A file (``test_kept.py``, ``test_shipping_*.py``), a module or a function, whose name may be cut by ``…``."""
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    functions = {found for path in (ROOT / "tests").rglob("test_*.py") for found in _functions(path)}
    for folder in re.findall(r"`(tests/[\w/]+)`", text(name)):
        assert (ROOT / folder).is_dir(), folder
    for named in re.findall(r"`(?:tests/[\w/]*/)?(test_\w+(?:\*?\.py|…|\*)?)`", text(name)):
        pattern = re.escape(named).replace(r"\*", ".*").replace("…", ".*")
        known = files if named.endswith(".py") else functions | {file.removesuffix(".py") for file in files}
        assert any(re.fullmatch(pattern, one) for one in known), named


def _functions(path: Path) -> list[str]:
    return re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))


def test_the_rooms_of_the_architecture_page_are_those_that_are_enforced() -> None:
    [contract] = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [layer.strip("()") for layer in contract["layers"]]
    there = [name for name in layers if (ROOT / "src" / "tracekeeper" / name).is_dir()]
    rows = [
        line
        for line in text("docs/architecture.md").splitlines()
        if re.match(r"\| (doors|judgement|models|spine|ground) ", line)
    ]
    named = [room for row in rows for room in re.findall(r"[|·] `(\w+)`", row)]
    assert named == there


def test_every_setting_is_a_setting() -> None:
    known = {*tk.Settings.__struct_fields__}
    pages = " ".join(text(name) for name in NAMES)
    for call in re.findall(r"tk\.(?:configure|context)\(([^()]*)\)", pages):
        for key in re.findall(r"(\w+)=", call):
            assert key in known, key


def test_every_public_name_of_the_readme_exists() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        for found in re.findall(r"\btk\.(\w+)", text(name)):
            assert hasattr(tk, found), found
