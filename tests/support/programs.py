"""Run small programs in processes of their own, as a user would: real exits, real signals, real forks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


class Finished(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACEKEEPER_")}
    return {**kept, "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1", **more}


def run(code: str, directory: Path, *, timeout: float = 60, **more: str) -> Finished:
    """Run ``code`` as a script in ``directory`` and wait for its end, at most ``timeout`` seconds."""
    program = write(code, directory)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=directory,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)


_LATER = re.compile(
    r"tracekeeper: (?:(?:[\d,]+ spans are|1 span is) still only in the journal|it is not known whether everything was "
    r"stored) in .* \(the database did not answer within .*"
    r"the next program that uses it stores (?:them, or `tracekeeper status` does|that)\n"
)


def said(err: str) -> str:
    """What a program said on stderr, without the line that all of it is in the journal but not stored yet.

    On a machine that is busy with other things the two seconds at exit may be too short for the database. That is
    promised, and nothing is lost by it: whoever reads next stores it, which the tests that use this go on to show.
    """
    return _LATER.sub("", err)


def start(code: str, directory: Path, **more: str) -> subprocess.Popen[str]:
    """Start ``code`` as a script; its first line of output says that it is ready (see ``ready``)."""
    return subprocess.Popen(
        [sys.executable, "-u", str(write(code, directory))],
        cwd=directory,
        env=environment(**more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(process: subprocess.Popen[str]) -> str:
    """The next line the program prints (it fails when the program ended instead)."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        process.wait(timeout=10)
        assert process.stderr is not None
        raise AssertionError(f"the program ended with {process.returncode}: {process.stderr.read()}")
    return line


def kill(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal, wait for the end and close the pipes."""
    process.send_signal(how)
    process.communicate(timeout=30)


def write(code: str, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    number = len(list(directory.glob("program_*.py")))
    path = directory / f"program_{number}.py"
    path.write_text(textwrap.dedent(code))
    return path
