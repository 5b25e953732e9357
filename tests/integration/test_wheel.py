"""The wheel holds all that an installed Tracekeeper needs, and nothing of the checkout around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.support.programs import environment

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, without the network."""
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = out.glob("*.whl")
    return built


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_file_of_the_package_is_in_it(wheel: Path) -> None:
    source = ROOT / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    wanted = {name for name in files if "__pycache__" not in name and not name.endswith(".pyc")}
    assert {"tracekeeper/py.typed", "tracekeeper/store/migrations/script.py.mako"} <= wanted
    assert not wanted - names(wheel)


def test_the_pages_of_the_documentation_are_in_it(wheel: Path) -> None:
    docs = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert {f"tracekeeper/demo/pages/{page}" for page in docs | {"README.md"}} <= names(wheel)


def test_nothing_else_is_in_it(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {"tracekeeper", "tracekeeper-0.1.0.dist-info"}
    assert not [name for name in names(wheel) if "__pycache__" in name or "/tests/" in name]


def test_the_demo_finds_its_pages_where_the_wheel_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = """
from tracekeeper.demo.pages import find_pages
from tracekeeper.cli import main
pages = find_pages()
assert len(pages) > 10 and all("demo/pages" in page.as_posix() for page in pages), pages
raise SystemExit(main(["demo"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        env=environment(PYTHONPATH=str(tmp_path / "site")),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dropped: none" in done.stdout
    assert [path.name for path in (tmp_path / "empty").iterdir()] == [".tracekeeper"]
