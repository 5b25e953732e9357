"""The programs of the page about datasets print what their comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_has_programs() -> None:
    assert len(PROGRAMS) == 6


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    code = PROGRAMS[number]
    if "yaml" in code:
        pytest.importorskip("yaml")
    shown = programs.run(code, tmp_path)
    assert shown.code == 0, shown.err
    said = [line.strip() for line in re.findall(r"(?:^| {2})# (.+)$", code, re.MULTILINE)]
    assert shown.out.splitlines() == said
    assert programs.said(shown.err) == ""
