"""Programs that are run in a process of their own, and end in time, whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class ProgramError(Exception):
    """A program of the benchmark did not say its numbers: why, in a sentence."""


def bounded(command: list[str], place: str, env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program, and end it with all that it started when it is over or has taken too long.

    Raises
    ------
    ProgramError
        It took longer.
    """
    with (Path(place) / "stdout").open("w+") as stdout, (Path(place) / "stderr").open("w+") as stderr:
        # (Files, not pipes: what a program leaves running would hold a pipe open.)
        program = subprocess.Popen(
            command, cwd=place, env=dict(env), stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            code = program.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"not done within {seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):  # it left nothing
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())
