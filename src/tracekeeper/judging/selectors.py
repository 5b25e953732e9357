"""Where a metric's argument comes from, when its name does not say: ``metric.on(documents=tk.select.spans(…))``.

Public as ``tk.select``.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from tracekeeper.judging.picking import (
    Attribute,
    Context,
    Expected,
    Input,
    Item,
    Output,
    Selector,
    Spans,
    check_path,
)
from tracekeeper.types import MetricError, SpanKind

__all__ = ["Selector", "attribute", "context", "expected", "input", "item", "output", "spans"]


def input(path: str | None = None) -> Selector:
    """The record's input: the only argument's value if there is one argument, else the arguments by name.

    Parameters
    ----------
    path:
        A place within it: ``"question"``, ``"messages[0].content"``, ``"filters.language"``.

    Example
    -------
    >>> input("messages[-1].content")
    select.input('messages[-1].content')
    """
    return Input(path)


def output(path: str | None = None) -> Selector:
    """The record's output, or the place ``path`` within it."""
    return Output(path)


def expected(path: str | None = None) -> Selector:
    """The expected output of the dataset item or import, or the place ``path`` within it."""
    return Expected(path)


def item(path: str | None = None) -> Selector:
    """The dataset item's fields, or the one at ``path``."""
    return Item(path)


def context() -> Selector:
    """The retrieved documents: the outputs of the record's retriever spans, or what was logged as its context."""
    return Context()


def attribute(name: str) -> Selector:
    """An attribute of the record's own span, e.g. ``attribute("user.tier")``."""
    return Attribute(name)


def spans(
    *,
    kind: str | None = None,
    name: str | None = None,
    attribute: str | None = None,
    input: str | Literal[True] | None = None,
    output: str | Literal[True] | None = None,
    collect: bool = False,
    pick: Literal["first", "last"] | None = None,
) -> Selector:
    """A value of the spans below the record, by their kind and name.

    Parameters
    ----------
    kind:
        A span kind: ``llm``, ``retriever``, ``tool``, …
    name:
        The span's exact name.
    attribute, input, output:
        What to take of each span, at most one of them: the attribute of that name; the input or output, or a place
        within (``input="messages[0]"``, ``output=True`` for the whole). The whole output when none is given.
    collect:
        Take all matching spans: a list of their values in the order of their start. When every value is itself a
        list (documents of several retrievals) they are joined into one.
    pick:
        ``"first"`` or ``"last"`` of several. Without it and without ``collect`` exactly one span must match.

    Raises
    ------
    MetricError
        An unknown kind (the nearest is named), a path that does not parse, or options that exclude each other.

    Example
    -------
    >>> spans(kind="retriever", attribute="documents", collect=True)
    select.spans(kind='retriever', attribute='documents', collect=True)
    """
    if kind is not None and kind not in list(SpanKind):
        near = difflib.get_close_matches(str(kind), list(SpanKind), n=1)
        hint = f"; did you mean {str(near[0])!r}?" if near else ""
        raise MetricError(f"select.spans(kind={kind!r}): unknown kind of span{hint}; known: {', '.join(SpanKind)}")
    stated = {"attribute": attribute, "input": input, "output": output}
    given = [part for part, value in stated.items() if value is not None]
    if len(given) > 1:
        raise MetricError(f"select.spans: {' and '.join(given)} exclude each other; give one of them")
    if collect and pick is not None:
        raise MetricError("select.spans: collect=True takes all spans, so pick= has no meaning beside it")
    if pick not in (None, "first", "last"):
        raise MetricError(f"select.spans(pick={pick!r}): expected 'first' or 'last'")
    part: Any = given[0] if given else "output"
    path = stated[part]
    if path is True:
        path = None
    check_path(path, f"spans({part}=…)", required=part == "attribute")
    take: Any = "all" if collect else pick or "only"
    return Spans(span_kind=None if kind is None else str(kind), name=name, part=part, path=path, take=take)
