"""The programs of the page on language models, run as they are written, against a server that speaks the formats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs
from tests.support.wire import TEXT, serving

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lm.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SAID = {"output": '{"place": "Ireland", "celsius": 11.5}'}
SHOWN = {"output": "Ireland 11.5", "tools": TEXT, "usage": "2 14 20 3.76e-05\n0 0"}


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_of_the_page_runs(number: int, tmp_path: Path) -> None:
    program = PROGRAMS[number]
    title = program.removeprefix("# ").partition("\n")[0]
    with serving() as server:
        if title in SAID:
            server.script.append({"text": SAID[title]})
        if title == "tools":
            server.script.append({"calls": True})
        more = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
        finished = programs.run(program, tmp_path, **more)
    assert finished.code == 0, finished.err
    assert SHOWN.get(title, "") in finished.out
    assert "Traceback" not in finished.err
