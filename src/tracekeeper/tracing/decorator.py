"""``@tk.trace``."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar, overload

from tracekeeper.tracing.masking import Mask
from tracekeeper.tracing.plan import Plan
from tracekeeper.tracing.state import AppLink
from tracekeeper.tracing.wrapping import plan_of, wrap
from tracekeeper.types import ConfigurationError, SpanKind

F = TypeVar("F", bound=Callable[..., Any])


@overload
def trace(fn: F, /) -> F: ...
@overload
def trace(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    mask: Mask | None = None,
    app: AppLink | None = None,
) -> Callable[[F], F]: ...
@overload
def trace(
    fn: F,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    mask: Mask | None = None,
    app: AppLink | None = None,
) -> F: ...


def trace(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    mask: Mask | None = None,
    app: AppLink | None = None,
    **unknown: Any,
) -> Any:
    """Trace every call of a callable. It stays what it was: signature, results, exceptions, sync or async.

    Works on functions, ``async def``, generators, async generators, methods, classmethods and staticmethods (in either
    order), partials, builtins, callable objects, and classes (all public methods defined in the class body, and
    ``__call__``). A call that gives a coroutine, a future or a generator is traced until that ends.

    Parameters
    ----------
    name:
        Name of the spans; default: the callable's qualified name.
    kind:
        One of ``SpanKind`` (default ``task``). The documents that a ``retriever`` returns become its record's context.
    capture_input, capture_output:
        ``False`` writes no arguments or no result.
    mask:
        ``mask(value) -> value``, applied to arguments and result before ``configure(mask=…)``. It gets plain data.
    app:
        The app that each call is a record of; set by ``tk.app``.

    Raises
    ------
    ConfigurationError
        What is given cannot be called, ``kind`` is none that exists, or an option is unknown. The calls themselves
        never raise for tracing.

    Example
    -------
    >>> @trace
    ... def retrieve(question):
    ...     return ["Ireland is mild."]
    >>> @trace(kind="llm", capture_input=False)
    ... async def answer(question, documents): ...
    """
    options: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "capture_input": capture_input,
        "capture_output": capture_output,
        "mask": mask,
        "app": app,
    }
    for option in unknown:
        near = difflib.get_close_matches(option, _DEFAULTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_DEFAULTS)}"
        raise ConfigurationError(f"@tk.trace has no option {option!r}; {hint}")
    if kind is not None:
        _check_kind(kind)
    if mask is not None and not callable(mask):
        raise ConfigurationError(f"mask={mask!r}: expected a callable that takes a value and returns one")
    if fn is None:
        return lambda decorated: _traced(decorated, options)
    return _traced(fn, options)


def _traced(fn: Any, options: dict[str, Any]) -> Any:
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(_traced(fn.__func__, options))
    if not callable(fn):
        named = f"; did you mean @tk.trace(name={fn!r})?" if isinstance(fn, str) else ""
        raise ConfigurationError(f"trace needs something that can be called, not {type(fn).__name__}: {fn!r}{named}")
    if inspect.isclass(fn):
        return _traced_class(fn, options)
    plan = plan_of(fn)
    if plan is None:
        return wrap(Plan(fn, **options))
    # Traced already: one span for a call, with what is said here put over what was said before.
    said = {name: value for name, value in options.items() if value is not _DEFAULTS[name]}
    if not said:
        return fn
    again = wrap(Plan(plan.function, **{**plan.given, **said}))
    return types.MethodType(again, fn.__self__) if inspect.ismethod(fn) else again


_DEFAULTS: dict[str, Any] = {
    "name": None,
    "kind": None,
    "capture_input": True,
    "capture_output": True,
    "mask": None,
    "app": None,
}


def _traced_class(cls: type, options: dict[str, Any]) -> type:
    if options["app"] is not None:
        raise ConfigurationError(
            f"an app is one callable: give it an object or a method of {cls.__name__}, not the class"
        )
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__call__":
            continue
        if inspect.isfunction(member) or isinstance(member, staticmethod | classmethod):
            own = {**options, "name": f"{options['name']}.{name}"} if options["name"] else options
            setattr(cls, name, _traced(member, own))
    return cls


def _check_kind(kind: str) -> None:
    if str(kind) not in set(SpanKind):
        near = difflib.get_close_matches(str(kind), list(SpanKind), n=1)
        hint = f"did you mean {str(near[0])!r}?" if near else f"known: {', '.join(SpanKind)}"
        raise ConfigurationError(f"kind={kind!r}: {hint}")
