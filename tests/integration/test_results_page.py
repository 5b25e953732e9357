"""The programs of docs/results.md print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    code = PROGRAMS[number]
    shown = programs.run(code, tmp_path)
    assert (shown.code, shown.err) == (0, "")
    said = [line.strip() for line in re.findall(r"^print.*  # (.+)$", code, re.MULTILINE)]
    assert said
    for line in said:
        assert line in shown.out.splitlines()


def test_the_page_shows_what_a_decision_says(tmp_path: Path) -> None:
    [block] = re.findall(r"It prints\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert programs.run(PROGRAMS[1], tmp_path).out == f"{block}0\n"


def test_the_files_of_the_page_are_written(tmp_path: Path) -> None:
    programs.run(PROGRAMS[0], tmp_path)
    assert (tmp_path / "results.html").stat().st_size > 50_000
    assert (tmp_path / "results.xml").read_text(encoding="utf-8").count("<failure") == 43
