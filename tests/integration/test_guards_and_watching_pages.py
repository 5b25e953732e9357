"""The programs of the pages about guards and watching print what their comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


PROGRAMS = [(page, number, code) for page in ("guards.md", "watching.md") for number, code in enumerate(blocks(page))]


def test_the_pages_have_programs() -> None:
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize(
    ("page", "code"), [(page, code) for page, _, code in PROGRAMS], ids=[f"{page}-{n}" for page, n, _ in PROGRAMS]
)
def test_a_program_prints_what_the_page_says(page: str, code: str, tmp_path: Path) -> None:
    shown = programs.run(code, tmp_path)
    assert shown.code == 0, shown.err
    said = [line.strip() for line in re.findall(r"(?:^ +| {2})# (.+)$", code, re.MULTILINE)]
    printed = shown.out.splitlines()
    for line in said:
        assert line in printed, shown.err
    assert len(printed) >= max(1, len(said))
    assert programs.said(shown.err) == ""
