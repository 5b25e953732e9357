"""The options of a map: their types, defaults and checks, once for all doors. What they mean, ``parallel_map`` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypedDict, TypeVar

from tracekeeper.concurrency.outcome import Outcome

T = TypeVar("T")

CONCURRENCY = 32
TIMEOUT = 60.0
"""Seconds."""


class MapOptions(TypedDict, Generic[T], total=False):
    """See ``parallel_map``; ``T`` is what the function gives."""

    concurrency: int
    timeout: float | None
    retries: int
    on_result: Callable[[Outcome[T]], object] | None
    progress: bool | str


def check_options(*, concurrency: Any, timeout: Any, retries: Any, on_result: Any) -> None:
    """Refuse what cannot work.

    Raises
    ------
    TypeError, ValueError
        The message names the option, what was given and what is expected.
    """
    _count("concurrency", concurrency, 1)
    _count("retries", retries, 0)
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if timeout is not None and not 0 < timeout < float("inf"):
        raise ValueError(f"timeout must be more than 0 seconds, or None for no deadline, not {timeout!r}")
    if on_result is not None and not callable(on_result):
        raise TypeError(f"on_result must be callable, not {on_result!r}")


def _count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")
