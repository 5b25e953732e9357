"""The programs of docs/evaluation.md print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    shown = programs.run(PROGRAMS[number], tmp_path)
    assert (shown.code, programs.said(shown.err)) == (0, "")
    said = re.findall(r"^# prints (.+)$", PROGRAMS[number], re.MULTILINE)
    assert said
    for line in said:
        assert line in shown.out.splitlines()
