"""Which of a record's values each parameter of a metric gets: by name, one rule everywhere.

A name is looked for in this order; the first place that has it wins:

1. the record's input fields: the call's arguments, and the keys of the only argument when that is a mapping;
2. ``input`` (aliases ``question``, ``query``, ``prompt``), ``output``, ``expected`` (alias ``reference``), ``context``
   (alias ``contexts``), ``record``, ``trace``, ``item``, where the record has it;
3. the output's fields, when it is a mapping;
4. ``answer``, ``response``: the output;
5. the dataset item's fields. (Of a session these are its turns and its id, and they come first.)

So a field ``answer`` of the output comes before the whole output, and both before a dataset's column of that name,
which usually holds the reference. A parameter with a default is optional, ``**kwargs``
gets nothing, and bare ``*args`` (no other positional parameter) gets the whole input. A wrapper ``(*args, **kwargs)``
that has closed over one function gets what that function wants.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from tracekeeper.judging.picking import Selector, listing, nearest, require, session_field, sole_input
from tracekeeper.judging.view import CannotBind, RecordView, SessionView
from tracekeeper.types import MetricError

INPUT_ALIASES = frozenset({"question", "query", "prompt"})
OUTPUT_ALIASES = frozenset({"answer", "response"})
ALIASES = {
    **dict.fromkeys(sorted(INPUT_ALIASES), "input"),
    **dict.fromkeys(sorted(OUTPUT_ALIASES), "output"),
    "reference": "expected",
    "contexts": "context",
}
CANONICAL = ("input", "output", "expected", "context", "record", "trace", "item")
AVAILABLE = frozenset(CANONICAL) | frozenset(ALIASES)
"""Names that are known without knowing the app."""
_WITH_SPANS = frozenset({"record", "trace"})
_Kind = inspect._ParameterKind
_WRAPPERS = 8
"""Wrappers around wrappers that are looked through."""


class Parameters(msgspec.Struct, frozen=True):
    """What a callable wants, read from its signature once."""

    positional: tuple[str, ...] = ()
    """Positional-only ones, which cannot be passed by name."""
    named: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    takes_whole: bool = False
    """Bare ``*args``."""
    takes_any: bool = False
    """``**kwargs``."""
    fixed: frozenset[str] = frozenset()
    """Set by a ``functools.partial``: the user's own choice, never bound from a record."""
    wraps: Parameters | None = None
    """Those of what a wrapper ``(*args, **kwargs)`` calls, where it can be told."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be bound, in the order of the signature."""
        return self.positional + self.named


def parameters_of(function: Callable[..., Any], _depth: int = 0) -> Parameters:
    """The parameters of any callable.

    Example
    -------
    >>> def decorator(function):
    ...     def wrapper(*args, **kwargs):  # without functools.wraps
    ...         return function(*args, **kwargs)
    ...     return wrapper
    >>> parameters_of(decorator(lambda question, k: question)).wraps.names
    ('question', 'k')

    Raises
    ------
    MetricError
        When Python cannot tell its signature (some functions written in C).
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise MetricError(
            f"the parameters of {function!r} cannot be read; wrap it in a function whose parameters are named"
        ) from None
    fixed = frozenset(function.keywords) if isinstance(function, partial) else frozenset()
    every = [parameter for parameter in signature.parameters.values() if parameter.name not in fixed]
    starred = any(parameter.kind is _Kind.VAR_POSITIONAL for parameter in every)
    positional = tuple(parameter.name for parameter in every if parameter.kind is _Kind.POSITIONAL_ONLY)
    named = tuple(
        parameter.name for parameter in every if parameter.kind in (_Kind.POSITIONAL_OR_KEYWORD, _Kind.KEYWORD_ONLY)
    )
    bare = starred and not any(
        parameter.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD) for parameter in every
    )
    required = frozenset(
        parameter.name
        for parameter in every
        if parameter.default is parameter.empty and parameter.name in positional + named
    )
    anything = any(parameter.kind is _Kind.VAR_KEYWORD for parameter in every)
    wraps = _wrapped(function, fixed, _depth) if bare and anything and not named else None
    return Parameters(positional, named, required, bare, anything, fixed, wraps)


def _wrapped(function: Callable[..., Any], fixed: frozenset[str], depth: int) -> Parameters | None:
    """Of the only function that a wrapper which says nothing of its parameters has closed over."""
    while isinstance(function, partial):
        function = function.func
    plain = inspect.unwrap(function)
    plain = getattr(plain, "__func__", plain)
    inner = []
    for cell in getattr(plain, "__closure__", None) or ():
        try:
            found = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if callable(found) and not inspect.isclass(found) and found is not plain:
            inner.append(found)
    if len(inner) != 1 or depth >= _WRAPPERS:
        return None
    try:
        known = parameters_of(inner[0], depth + 1)
    except MetricError:
        return None
    known = known.wraps or known
    if not known.names:
        return None
    named = tuple(name for name in known.named if name not in fixed)
    return msgspec.structs.replace(known, named=named, required=known.required - fixed, fixed=known.fixed | fixed)


def needs_spans(parameters: Parameters, selectors: Mapping[str, Selector]) -> bool:
    """Whether computing it may read the record's spans, so that the tracing keeps them at hand."""
    by_name = any(name in _WITH_SPANS and name not in selectors for name in parameters.names)
    return by_name or any(selector.needs_spans for selector in selectors.values())


def check(
    metric: str,
    parameters: Parameters,
    selectors: Mapping[str, Selector],
    given: frozenset[str] | None,
    may_have_field: Callable[[str], bool],
) -> None:
    """Refuse a metric with a parameter that nothing can ever provide.

    ``given`` are the app's parameter names (``None``: not known, nothing can be refused); ``may_have_field`` tells
    whether the output could have a field of that name.

    Raises
    ------
    MetricError
        Naming the parameter, what is available, and the nearest name.
    """
    if given is None:
        return
    available = given | AVAILABLE
    for name in parameters.names:
        if name not in parameters.required or name in selectors or name in available or may_have_field(name):
            continue
        known = (*sorted(given), *CANONICAL, *(alias for alias in ALIASES if alias not in given))
        raise MetricError(
            f"metric {metric!r}: nothing provides its argument {name!r}{nearest(name, known)}; "
            f"available: {listing(known, 24)}; to take it from elsewhere: .on({name}=tk.select.…)"
        )


def bind(
    function: Callable[..., Any],
    parameters: Parameters,
    selectors: Mapping[str, Selector],
    view: RecordView,
    *,
    accept_cut: bool = False,
) -> Callable[[], Any]:
    """The call with everything it needs, ready to be made once.

    The values are the view's own: whoever makes a view for each attempt keeps metrics from changing what others see.

    Raises
    ------
    CannotBind
        When a required argument has no value in this record.
    """
    lookup = _Lookup(view, accept_cut)
    args: list[Any] = []
    keywords: dict[str, Any] = {}
    for name in parameters.positional:
        found, value = _value(name, parameters, selectors, lookup, view, accept_cut)
        if not found:
            break  # a default; a positional-only parameter after it cannot be passed either
        args.append(value)
    for name in parameters.named:
        found, value = _value(name, parameters, selectors, lookup, view, accept_cut)
        if found:
            keywords[name] = value
    if parameters.takes_whole:
        args.append(sole_input(require(view, "input", accept_cut)))
    return partial(function, *args, **keywords)


def _value(
    name: str,
    parameters: Parameters,
    selectors: Mapping[str, Selector],
    lookup: _Lookup,
    view: RecordView,
    accept_cut: bool,
) -> tuple[bool, Any]:
    selector = selectors.get(name)
    if selector is not None:
        return True, selector.pick(view, accept_cut=accept_cut)  # asked for by name: absent is never a silent default
    try:
        return True, lookup.find(name)
    except _Nothing as nothing:
        if name not in parameters.required:
            return False, None
        raise CannotBind(nothing.reason, unknown=nothing.unknown) from None


class _Nothing(Exception):
    """Nothing has this name, which is not the same as having it truncated."""

    def __init__(self, reason: str, unknown: str | None = None) -> None:
        self.reason = reason
        self.unknown = unknown


class _Lookup:
    """The order of places, for one record."""

    def __init__(self, view: RecordView, accept_cut: bool) -> None:
        self.view = view
        self.accept_cut = accept_cut

    def find(self, name: str) -> Any:
        view = self.view
        if name in view.item and isinstance(view, SessionView):
            return session_field(view, name, self.accept_cut)
        fields = input_fields(view.input)
        if name in fields:
            require(view, "input", self.accept_cut)
            return fields[name]
        if name in _WITH_SPANS:
            return view if name == "record" else view.spans
        reason: str | None = None
        canonical = name if name in CANONICAL else ALIASES.get(name)
        if canonical is not None and name not in OUTPUT_ALIASES:
            found, value, reason = self._field(canonical)
            if found or canonical == "output":  # a dataset's column "output" is not what the app returned
                return self._or_nothing(found, value, reason)
        if isinstance(view.output, Mapping) and name in view.output and canonical != "expected":
            require(view, "output", self.accept_cut)
            return view.output[name]
        if name in OUTPUT_ALIASES:
            return self._or_nothing(*self._field("output"))
        if name in view.item:
            return view.item[name]
        if reason is not None:
            raise _Nothing(reason)
        raise self._nowhere(name, fields)

    @staticmethod
    def _or_nothing(found: bool, value: Any, reason: str | None) -> Any:
        if not found:
            raise _Nothing(reason or "nothing")
        return value

    def _field(self, name: str) -> tuple[bool, Any, str | None]:
        view = self.view
        if name == "input":
            if view.input is None and "input" not in view.missing:
                return False, None, "no input"
            return True, sole_input(require(view, "input", self.accept_cut)), None
        if name in view.cut or name in view.missing:
            return True, require(view, name, self.accept_cut), None  # raises CannotBind unless cut is accepted
        try:
            return True, require(view, name, self.accept_cut), None
        except CannotBind as cannot:
            return False, None, cannot.reason

    def _nowhere(self, name: str, fields: Mapping[str, Any]) -> _Nothing:
        view = self.view
        if view.cut & {"input", "output"} and not self.accept_cut:
            return _Nothing(f"input truncated: {name!r} is in none of the fields that were kept")
        for field_name in ("input", "output"):
            if field_name in view.missing:
                return _Nothing(f"{name!r} cannot be found: the record's {field_name} was not captured")
        if view.output is None and view.error:
            return _Nothing(f"no output: the call ended with {view.error.splitlines()[0][:200]}")
        every = [*fields, *(view.output if isinstance(view.output, Mapping) else ()), *view.item, *CANONICAL]
        known = list(dict.fromkeys(every))  # an item's field is an argument of its task, too
        return _Nothing(
            f"nothing is named {name!r} in this record; it has: {listing(known)}{nearest(name, known)}", unknown=name
        )


def input_fields(whole: Any) -> Mapping[str, Any]:
    """The arguments by name, and the keys of the only one when that is a mapping."""
    if not isinstance(whole, Mapping):
        return {}
    sole = sole_input(whole)
    if sole is not whole and isinstance(sole, Mapping):
        return {**sole, **whole}
    return whole
