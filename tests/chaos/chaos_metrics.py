"""Metrics that do everything a metric can do, each for a known share of the questions, and what each must give.

Apps and workers import this module by its name. A metric's value is a function of the question (and of an answer that
belongs to it), so a score that belongs to another record is found by its value. What it does to a question is a
function of the question too, so the checker knows it without having been there.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from zlib import crc32

import tracekeeper as tk

LONG = 6_000
"""Characters of the longest answer: enough to fill journals where the disk is full for seconds."""
LEFT = 30.0
"""Seconds after which a metric that hangs returns after all: for ever, as far as its deadline is concerned."""


def answer(question: str) -> str:
    """What every app answers."""
    drawn = crc32(question.encode())
    return f"{drawn:08x} answers {question}{'.' * (drawn % LONG)}"


def value(metric: str, question: str) -> float:
    """What a metric must give for a question."""
    return crc32(f"value of {metric} for {question}".encode()) % 1_000_000 / 1_000_000


def ruins(metric: str, question: str) -> int:
    """0 to 999: what a metric does to a question, drawn once and for ever."""
    return crc32(f"{metric} ruins {question}".encode()) % 1000


def judge(metric: str, question: str, output: str) -> float:
    """The value, unless the metric was given an answer that belongs to another question."""
    return value(metric, question) if output == answer(question) else -1.0


class Expected(NamedTuple):
    """What a score must say when nothing came between."""

    status: str
    value: float | None = None
    label: str | None = None
    reason: str = ""
    """A part of its reason or error."""


# -- good ones -----------------------------------------------------------------------------------------------------


def fine(question: str, output: str) -> float:
    return judge("fine", question, output)


async def slow(question: str, output: str) -> float:
    await asyncio.sleep(0.2)
    return judge("slow", question, output)


def later(question: str, output: str) -> float:
    return judge("later", question, output)


async def later_slow(question: str, output: str) -> float:
    await asyncio.sleep(0.3)
    return judge("later_slow", question, output)


def pair(question: str, output: str) -> dict[str, float]:
    return {"a": judge("pair.a", question, output), "b": judge("pair.b", question, output)}


def ruled(question: str, output: str) -> float:
    return judge("ruled", question, output)


def apart(question: str, output: str) -> float:
    return judge("apart", question, output)


# -- bad ones ------------------------------------------------------------------------------------------------------


def raising(question: str, output: str) -> float:
    if ruins("raising", question) < 300:
        raise ValueError(f"no judgement of {question}")
    return judge("raising", question, output)


def later_raising(question: str, output: str) -> float:
    if ruins("later_raising", question) < 200:
        raise ValueError(f"no judgement of {question}")
    return judge("later_raising", question, output)


class Opaque:
    pass


GARBAGE: tuple[tuple[Any, Expected], ...] = (
    (float("nan"), Expected("failed", reason="nan")),
    (float("inf"), Expected("failed", reason="inf")),
    (None, Expected("skipped", reason="None")),
    (Opaque(), Expected("failed", reason="Opaque")),
    ({}, Expected("failed", reason="dict")),
    ("label", Expected("scored", label="label")),
    (True, Expected("scored", value=1.0)),
    (10**400, Expected("failed", reason="too large")),
)


def garbage(question: str, output: str) -> Any:
    drawn = ruins("garbage", question)
    return GARBAGE[drawn % len(GARBAGE)][0] if drawn < 500 else judge("garbage", question, output)


def hanging(question: str, output: str) -> float:
    if ruins("hanging", question) < 30:
        threading.Event().wait(LEFT)
    return judge("hanging", question, output)


async def swallowing(question: str, output: str) -> float:
    until = time.monotonic() + LEFT
    while ruins("swallowing", question) < 30 and time.monotonic() < until:
        try:
            await asyncio.sleep(LEFT)
        except asyncio.CancelledError:
            continue
    return judge("swallowing", question, output)


def later_hanging(question: str, output: str) -> float:
    if ruins("later_hanging", question) < 30:
        threading.Event().wait(LEFT)
    return judge("later_hanging", question, output)


def killer(question: str, output: str) -> float:
    if ruins("killer", question) < KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    return judge("killer", question, output)


KILLS = 2
"""Of a thousand questions, those at which ``killer`` kills its process: the worker at first, then one of its own."""


def doubtful(question: str) -> bool:
    """Of a guard, which lets pass what it cannot judge in time."""
    if ruins("doubtful", question) < 20:
        threading.Event().wait(LEFT)
    return True


def grip(question: str, output: str) -> float:
    if ruins("grip", question) < 20:
        ctypes.PyDLL(None).sleep(int(LEFT))  # a PyDLL keeps the interpreter lock
    return judge("grip", question, output)


def hungry(question: str, output: str) -> float:
    if ruins("hungry", question) < 20:
        held = bytearray(1 << 30)
        held[::4096] = bytes(len(held) // 4096)
    return judge("hungry", question, output)


def segfault(question: str, output: str) -> float:
    if ruins("segfault", question) < 20:
        ctypes.string_at(0)
    return judge("segfault", question, output)


# -- as metric objects, by app -------------------------------------------------------------------------------------

TIMEOUT = 2.0
APART_TIMEOUT = 5.0
GUARD_TIMEOUT = 1.0


def isolated(function: Callable[..., Any], **more: Any) -> tk.Metric:
    return tk.metric(function, isolation="process", timeout=APART_TIMEOUT, **more)


STEADY = [tk.metric(fine), tk.metric(slow), tk.metric(raising), tk.metric(garbage)]
HANGING = [tk.metric(hanging, timeout=TIMEOUT), tk.metric(swallowing, timeout=TIMEOUT), tk.metric(fine)]
DEFERRED = [
    tk.metric(later, mode="deferred"),
    tk.metric(later_slow, mode="deferred", priority=-1),
    tk.metric(pair, mode="deferred", names=["a", "b"]),
    tk.metric(later_raising, mode="deferred", retries=1),
    tk.metric(later_hanging, mode="deferred", timeout=TIMEOUT),
    tk.metric(killer, mode="deferred"),
]
APART = [isolated(apart), isolated(grip), isolated(hungry, memory_limit=512 << 20), isolated(segfault)]

LOCAL = "here"
"""A lambda of the app's own process."""
RULED = "ruled"
"""What an online rule asks of half of the records of one app."""
RULED_APP = "steady"
NOBODYS = "elsewhere"
"""A deferred metric of a module that no worker imports."""


def expected(metric: str, question: str) -> Expected:
    """What ``metric`` must say of ``question``."""
    drawn = ruins(metric, question)
    match metric:
        case "raising" if drawn < 300:
            return Expected("failed", reason=f"no judgement of {question}")
        case "later_raising" if drawn < 200:
            return Expected("failed", reason=f"no judgement of {question}")
        case "garbage" if drawn < 500:
            return GARBAGE[drawn % len(GARBAGE)][1]
        case "hanging" | "swallowing" | "later_hanging" if drawn < 30:
            return Expected("timed_out")
        case "grip" if drawn < 20:
            return Expected("timed_out")
        case "hungry" if drawn < 20:
            return Expected("failed", reason="memory")
        case "segfault" if drawn < 20:
            return Expected("failed", reason="SIGSEGV")
        case "killer" if drawn < KILLS:
            return Expected("failed", reason="SIGKILL")
    return Expected("scored", value=value(metric, question))
