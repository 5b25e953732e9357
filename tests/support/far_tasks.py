"""Tasks that other processes can import."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import tracekeeper as tk


class Odd(Exception):
    """Pickles, and cannot be read back."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Closed:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return "<closed>"


def work(n: int) -> str:
    with tk.span(f"inside {n}", kind="tool") as span:
        span.set(output=n)
    if n == 3:
        raise ValueError("no three")
    if n == 2:
        raise Odd(1, 2)
    return str(n)


def sync(n: int) -> str:
    if n == 4:
        threading.Event().wait(60)
    return work(n)


async def asynchronous(n: int) -> str:
    if n == 4:
        await asyncio.sleep(60)
    return work(n)


def wrapped(*args: Any, **kwargs: Any) -> Any:
    return asynchronous(*args, **kwargs)


def stream(n: int) -> Iterator[str]:
    yield "begun "
    if n == 4:
        threading.Event().wait(60)
    yield work(n)


async def astream(n: int) -> AsyncIterator[str]:
    yield "begun "
    if n == 4:
        await asyncio.sleep(60)
    yield work(n)


def closed(n: int) -> Any:
    return {"n": n, "it": Closed()}


def fatal(n: int, place: str) -> str:
    with tk.span("inside"):
        if n == 2 and not (Path(place) / "died").exists():
            (Path(place) / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if n == 5:
            os._exit(3)
    return str(n)


def holding(n: int) -> str:
    if n == 3:
        re.match(r"(a+)+$", "a" * 40 + "b")  # for years, in C, without letting go of the interpreter lock
    return str(n)


def flaky(n: int, place: str) -> str:
    path = Path(place) / str(n)
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    if len(path.read_text()) < 3:
        raise OSError("not yet")
    return str(n)


def whose(n: int) -> str:
    return str(os.getpid())


def waits(n: int, place: str) -> str:
    """Ends at once for the first two items, and for the others when they may."""
    if n >= 2 and not (Path(place) / "go").exists():
        threading.Event().wait(600)
    return str(os.getpid())
