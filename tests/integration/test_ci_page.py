"""The files and commands of docs/ci.md do what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import programs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
MODULE, TESTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[DATA] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
[SAID] = re.findall(r"```\n(passed:.*?)```", PAGE, re.DOTALL)
FIRST, SECOND, PYTEST = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "my_app.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "capitals.jsonl").write_text(DATA, encoding="utf-8")
    (tmp_path / "test_capitals.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


def shown(command: str, folder: Path) -> str:
    """What a command prints that ends well."""
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder,
        # python/cpython#106905, until 3.11.7: two threads that parse at once disturb each other, and at the end of a
        # run pytest parses all of that plugin.
        env=programs.environment(PYTEST_ADDOPTS="-p no:hypothesispytest"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_do_what_the_page_says(project: Path) -> None:
    shown(FIRST, project)
    assert shown(SECOND, project).endswith(SAID)
    assert sorted(path.name for path in (project / "out").iterdir()) == ["results.html", "results.md", "results.xml"]


@pytest.mark.slow
def test_the_tests_of_the_page_pass(project: Path) -> None:
    assert "4 passed" in shown(PYTEST, project)
