"""The programs of docs/evaluation.md print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ON_RAY = re.findall(r"```python ray\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    shown = programs.run(PROGRAMS[number], tmp_path)
    assert (shown.code, programs.said(shown.err)) == (0, "")
    said = re.findall(r"^# prints (.+)$", PROGRAMS[number], re.MULTILINE)
    assert said
    for line in said:
        assert line in shown.out.splitlines()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_programs_on_ray_print_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert len(ON_RAY) == 2
    # One after another on one cluster, which takes longer to start than both to run.
    together = "import ray\nray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR', log_to_driver=False)\n"
    shown = programs.run(together + "\n".join(ON_RAY), tmp_path, timeout=90, RAY_USAGE_STATS_ENABLED="0")
    assert shown.code == 0, shown.err
    said = [line for program in ON_RAY for line in re.findall(r"^# prints (.+)$", program, re.MULTILINE)]
    assert len(said) == 2
    assert [line for line in shown.out.splitlines() if line in said] == said
