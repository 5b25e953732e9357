"""What holds of the benchmarks themselves: they end, and a row says why it is empty."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from benchmarks import evaluate
from benchmarks.bounded import ProgramError, bounded

HANGS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
pathlib.Path("child").write_text(str(child.pid))
if sys.argv[1] == "hang":
    time.sleep(600)
print(1.5)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def ended(pid: int) -> bool:
    until = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < until:
        os.sched_yield()
    return gone(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", HANGS, "hang"]
    with pytest.raises(ProgramError, match=r"not done within 0\.8 s"):
        bounded(command, str(tmp_path), os.environ, 0.8)
    assert ended(int((tmp_path / "child").read_text()))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_what_a_program_leaves_running_holds_nobody_up(tmp_path: Path) -> None:
    done = bounded([sys.executable, "-S", "-c", HANGS, "end"], str(tmp_path), os.environ, 30)
    assert (done.returncode, done.stdout) == (0, "1.5\n")
    assert ended(int((tmp_path / "child").read_text()))


def test_a_row_says_why_a_cell_is_empty() -> None:
    said = evaluate.with_failures("set so", {16: "9 of 60 items", 64: "not done within 240 s", 256: "9 of 60 items"})
    assert said == "set so; at 16 and 256 at once: 9 of 60 items; at 64 at once: not done within 240 s"


def test_a_program_that_fails_gives_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails.py").write_text("raise AssertionError('9 of 60 items are in its result')")
    monkeypatch.setattr(evaluate, "PROGRAMS", tmp_path)
    with pytest.raises(ProgramError, match="AssertionError: 9 of 60 items are in its result"):
        evaluate._said("fails.py", sys.executable, "sync", 1, 1, 0.0, 1)
