"""What a metric's function and selectors must be, said when the metric is made."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from tracekeeper.judging.binding import Parameters
from tracekeeper.judging.picking import Selector, listing, nearest
from tracekeeper.types import MetricError


def check_callable(function: Any) -> None:
    """Refuse what is no function: a result, a class, a generator."""
    if not callable(function):
        if inspect.iscoroutine(function):
            function.close()
        raise MetricError(
            f"metric({_short(function)}): not callable; pass the function itself, not the result of calling it"
        )
    if isinstance(function, type):
        raise MetricError(f"metric({function.__name__}): a class; pass an instance of it: {function.__name__}(…)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise MetricError(f"metric {name_of(function)!r}: a generator; return the value instead of yielding it")


def check_selectors(name: str, wanted: Parameters, selectors: Mapping[str, Any]) -> None:
    """Refuse a selector for a parameter that does not exist, and what is no selector."""
    for parameter, selector in selectors.items():
        if parameter not in wanted.names:
            raise MetricError(
                f"metric {name!r}: .on({parameter}=…): it has no parameter of that name"
                f"{nearest(parameter, wanted.names)}; it has: {listing(wanted.names)}"
            )
        if not isinstance(selector, Selector):
            raise MetricError(
                f"metric {name!r}: .on({parameter}={_short(selector)}): expected a selector such as tk.select.input(); "
                "for a fixed value use functools.partial"
            )


def name_of(function: Any) -> str:
    """A function's own name; of an object its class's, in snake case."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        # OverlapGroundedness -> overlap_groundedness
        letters = type(function).__name__.lstrip("_")
        name = "".join(
            f"_{letter.lower()}" if letter.isupper() and index and not letters[index - 1].isupper() else letter.lower()
            for index, letter in enumerate(letters)
        )
    return "lambda" if name == "<lambda>" else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
