"""What a process of a pool is asked to do, and what became of it: plain data and the sentences that tell it."""

from __future__ import annotations

import os
import pickle
import re
import signal
from collections.abc import Callable
from typing import Any, Literal

import msgspec

_PLACE = re.compile(r'^\s*File "(.+)", line (\d+) in (.+)$', re.MULTILINE)
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep

Status = Literal["ok", "raised", "timed_out", "died", "not_started", "cancelled"]


class ProcessOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call in a process of its own.

    Parameters
    ----------
    status:
        ``ok``, ``raised``, ``timed_out``, ``died`` (the process was killed by a signal or exited), ``not_started`` (no
        process could be had, or what was to be called could not be loaded) or ``cancelled``.
    value:
        What it returned.
    reason:
        Why it is not ``ok``, in one sentence.
    error, message, traceback:
        The exception's type, message and traceback as text; of a process that died, the traceback is where it was.
    retriable:
        Whether another attempt makes sense.
    memory:
        It raised ``MemoryError`` under a memory limit.
    """

    status: Status
    value: Any = None
    reason: str = ""
    error: str | None = None
    message: str = ""
    traceback: str | None = None
    retriable: bool = True
    memory: bool = False


class ProcessCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is asked to do.

    Parameters
    ----------
    target, arguments:
        Pickled: the callable (kept by the process for later calls) and the tuple of its arguments.
    timeout:
        Seconds for the call itself, once everything is loaded.
    load_within:
        Seconds for loading it: importing the callable's module, above all.
    memory_limit:
        Bytes of address space that it may take beyond what the process has.
    unwanted:
        Asked about twice a second: true when nobody wants the result any more.
    began:
        Called when loading is over and the call itself begins.
    told:
        Called with whatever the call says before it is over (``child.tell``).
    """

    target: bytes
    arguments: bytes
    timeout: float
    load_within: float = 30.0
    memory_limit: int | None = None
    unwanted: Callable[[], bool] | None = None
    began: Callable[[], None] | None = None
    told: Callable[[Any], None] | None = None


def outcome_of(answer: tuple[Any, ...]) -> ProcessOutcome:
    """The outcome of a call that was answered."""
    if answer[0] == "ok":
        try:
            return ProcessOutcome(status="ok", value=pickle.loads(answer[2]))
        except Exception as error:  # noqa: BLE001  an object whose pickle cannot be read here
            reason = f"its result could not be read back: {type(error).__name__}: {error}"
            return ProcessOutcome(status="raised", reason=reason, retriable=False)
    phase, kind, message, traceback, retriable, memory = answer[2:]
    said = f"{kind}: {message}".removesuffix(": ")
    reason = {
        "load": f"could not be loaded in its process: {said}",
        "call": f"raised {said}",
        "reply": f"its result cannot be sent between processes: {said}",
    }[phase]
    return ProcessOutcome(
        status="not_started" if phase == "load" else "raised",
        reason=reason,
        error=kind,
        message=message,
        traceback=traceback,
        retriable=retriable and phase == "call",
        memory=memory,
    )


def place_in(report: str) -> str:
    """``function (file:line)`` from what the fault handler wrote: the innermost that is the user's."""
    places = _PLACE.findall(report)
    for file, line, function in places:
        if not file.startswith(_STANDARD) or "site-packages" in file:
            return f"{function} ({os.path.basename(file)}:{line})"
    return f"{places[0][2]} ({os.path.basename(places[0][0])}:{places[0][1]})" if places else ""


def ending(code: int | None) -> str:
    """How a process ended, by its return code."""
    if code is None or code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
