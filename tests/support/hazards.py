"""Functions that a process should not survive, or that its caller should not notice. They run in processes apart."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tracekeeper as tk

kept: list[Any] = []


def add(a: int, b: int) -> int:
    return a + b


def pid() -> int:
    return os.getpid()


def hold_the_interpreter(output: str = "") -> None:
    """A catastrophic regular expression: it never lets go of the interpreter lock, nor looks at signals."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def segfault(output: str = "") -> None:
    ctypes.string_at(0)


def leave(output: str = "") -> None:
    os._exit(3)


def ask_to_leave(output: str = "") -> None:
    sys.exit(4)


def allocate(size: int) -> int:
    return len(bytearray(size))


def allocate_much(output: str = "") -> int:
    return len(bytearray(1 << 30))


def keep(size: int) -> int:
    kept.append(bytearray(b"x" * size))
    return os.getpid()


def give_a_lock(output: str = "") -> Any:
    return threading.Lock()


def fail(output: str = "") -> None:
    raise ValueError("on purpose")


def print_garbage(output: str = "") -> int:
    sys.stdout.buffer.write(b"\x80\x04garbage" * 100)
    sys.stdout.flush()
    os.write(1, b"\x00" * 100)
    return 1


def close_everything(output: str = "") -> int:
    os.closerange(0, 1000)
    return 1


def close_everything_and_stay(output: str = "") -> None:
    os.closerange(0, 1000)
    time.sleep(3600)


def fork_and_return_twice(output: str = "") -> int:
    os.fork()
    return 1


def fork_and_hang(path: str) -> None:
    """What it forks writes its number, holds what it inherited, and hangs, as does the process itself."""
    if os.fork() == 0:
        Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


def leave_a_child(path: str) -> int:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(path).write_text(str(process.pid))
    os._exit(5)


def ignore_signals(output: str = "") -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)


def block_all_signals(output: str = "") -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return 1


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hang(output: str = "") -> None:
    time.sleep(3600)


async def hang_async(output: str = "") -> None:
    await asyncio.Event().wait()


def read_input(output: str = "") -> int:
    return len(sys.stdin.read())


def length(output: str) -> int:
    return len(output)


async def length_async(output: str, record: Any) -> tuple[float, str]:
    await asyncio.sleep(0)
    return len(output), f"{len(record.spans)} spans of {record.app}"


async def same_loop(output: str) -> int:
    """How many loops it has seen so far."""
    loop = asyncio.get_running_loop()
    if loop not in kept:
        kept.append(loop)
    return len(kept)


def several(output: str) -> dict[str, float]:
    return {"a": 1.0, "b": 2.0}


async def cancels_itself(output: str) -> None:
    raise asyncio.CancelledError


def where(output: str) -> tuple[int, str]:
    return os.getpid(), str(threading.current_thread() is threading.main_thread())


def settings_there(output: str) -> tuple[bool, dict[str, str]]:
    now = tk.settings()
    return True, {"reason": f"{now.project} {now.environment} {now.directory} {now.capture_input}"}


def judge(output: str) -> float:
    with tk.span("ask the judge", kind="llm", input="is it good?") as span:
        span.set(output="yes", usage={"input_tokens": 3, "cost": 0.25})
    return 0.5


def judge_and_die(output: str) -> None:
    with tk.span("ask the judge", kind="llm", input="is it good?") as span:
        span.set(output="yes")
    os._exit(9)


class Needs:
    """A callable object with a parameter, and one that cannot be pickled."""

    def __init__(self, much: Any) -> None:
        self.much = much

    def __call__(self, output: str) -> float:
        return float(self.much)


@contextmanager
def no_process_left(within: float = 10.0) -> Iterator[None]:
    """Nothing that was started inside lives on."""
    before = descendants()
    yield
    until = time.monotonic() + within
    while descendants() - before:
        assert time.monotonic() < until, f"left behind: {descendants() - before}"
        time.sleep(0.02)


def descendants() -> set[int]:
    """Processes below this one, zombies included."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended just now
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {os.getpid()}
        found |= more


def alive(number: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(number: int, within: float = 10.0) -> bool:
    """Wait until a process has ended; false when it lives on."""
    until = time.monotonic() + within
    while alive(number):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
