"""What goes between home and a worker. All of it is plain data; what is the user's is pickled inside it, as bytes.

Whoever reads the bytes decides when: the task is loaded once for each worker, arguments and results by the call that
they belong to, so that what cannot be read costs that call alone.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from tracekeeper.tracing import capture, failures
from tracekeeper.tracing.elsewhere import Above, Said
from tracekeeper.tracing.tracking import UsageTotal

LIMIT = 1 << 20
"""Bytes of JSON that are kept of a result that cannot be pickled."""


by_value: Callable[[Any], bytes] | None = None
"""Pickles what can only be sent by value (cloudpickle's ``dumps``); an engine that brings it along puts it here."""


class Setup(NamedTuple):
    """What a worker is told once."""

    task: bytes
    settings: bytes
    places: int
    """Calls that it makes at a time."""
    timeout: float | None
    """Seconds for each."""


class Order(NamedTuple):
    """One call to be made."""

    number: int
    arguments: bytes
    above: Above | None


class Ready(NamedTuple):
    """The first word of a worker; ``refused`` says why it will make no calls."""

    refused: str | None
    host: str
    pid: int


class Frame(NamedTuple):
    """Something was traced."""

    payload: bytes


class Chunk(NamedTuple):
    """A streaming call yielded this."""

    number: int
    value: bytes


class Ended(NamedTuple):
    """A call is over. ``status`` is an ``OutcomeStatus``."""

    number: int
    status: str
    value: bytes
    error: bytes
    traceback: str
    reason: str | None
    seconds: float
    said: Said | None
    usage: UsageTotal
    held: int
    """Threads and loops of the worker that calls hold which did not come back."""


class Lost(NamedTuple):
    """Said at home: the worker is gone."""

    number: int
    reason: str


Message = Ready | Frame | Chunk | Ended


class _Remote(Exception):
    """Where it was raised, shown as the cause of an exception that came from another process."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def dumped(value: Any) -> bytes:
    """A result or an exception; what cannot be pickled becomes what a record would show of it."""
    try:
        return _dumps(value)
    except Exception:  # noqa: BLE001  whatever its parts raise
        return pickle.dumps(capture.decode(capture.encode(value, limit=LIMIT, mask_keys=())[0]))


def dumped_error(error: BaseException) -> tuple[bytes, str]:
    """An exception and its traceback as text; its type's name and message where it cannot be pickled and read back."""
    shown = "".join(traceback.format_exception(error))
    try:
        data = _dumps(error)
        pickle.loads(data)  # many exceptions pickle and cannot be read: their constructor takes something else
    except Exception:  # noqa: BLE001
        info = failures.info(error)
        module, _, name = info.type.rpartition(".")
        data = pickle.dumps((module or "builtins", name, info.message))
    return data, shown


def loaded_error(data: bytes, shown: str) -> BaseException:
    """The exception, with the traceback that it had where it was raised as its cause."""
    found: Any
    try:
        found = pickle.loads(data)
    except Exception as error:  # noqa: BLE001  its module is not here
        last = shown.strip().splitlines()[-1:] or [str(error)]
        found = ("builtins", *last[0].partition(": ")[::2])
    if isinstance(found, BaseException):
        raised = found
    else:
        module, name, message = found
        raised = type(name, (Exception,), {"__module__": module, "__qualname__": name})(message)
    raised.__cause__ = _Remote(shown)
    return raised


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:
        if by_value is None:
            raise
        return by_value(value)  # of a class in the program's own file, say
