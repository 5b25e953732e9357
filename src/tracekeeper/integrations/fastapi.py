"""FastAPI's sync dependencies with ``yield``: what one enters holds for the request, as it does in an async one.

FastAPI runs the two halves of a ``def`` dependency in worker threads, each in a copy of the request's context that is
thrown away after it. So ``with tk.context(…): yield`` reaches neither the endpoint nor its own second half, where a
token of the first one does not fit. With this installed (``TracekeeperMiddleware`` does so), what Tracekeeper keeps in
context variables is taken over by the request's task after the first half, put back before the second, and found by the
second as the first left it: settings, current span, recordings. The program's own context variables are as always.

Invariants
----------
- The dependency runs as FastAPI runs it: its own function gets its own context manager, in its threads.
- What was taken over is given back by the same task, before the second half runs, however the request ends.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

from tracekeeper.configuration.settings import overrides_variable
from tracekeeper.tracing.context import OWN_KEY, VAR
from tracekeeper.tracing.recordings import active

_NAME = "contextmanager_in_threadpool"
_changing = threading.Lock()
_installed: list[tuple[Any, Any, Any]] = []


def install() -> Callable[[], None]:
    """Have sync dependencies reach the endpoint. Idempotent.

    Returns
    -------
    Callable
        Undoes it; requests under way keep what they have.

    Raises
    ------
    RuntimeError
        This FastAPI is built otherwise; nothing was changed.
    """
    with _changing:
        if _installed:
            return uninstall
        from fastapi.dependencies import utils

        original: Any = getattr(utils, _NAME, None)
        usable = callable(original) and isinstance(VAR, ContextVar)
        if not usable:
            raise RuntimeError("its sync dependencies are run in another way: use `async def` ones with tk.context")

        @functools.wraps(original)
        def carrying(cm: Any) -> Any:
            return _Dependency(original, cm)

        setattr(utils, _NAME, carrying)
        _installed.append((utils, original, carrying))
    return uninstall


def uninstall() -> None:
    """Undo ``install``."""
    with _changing:
        if _installed:
            utils, original, carrying = _installed.pop()
            if getattr(utils, _NAME, None) is carrying:
                setattr(utils, _NAME, original)


class _Dependency:
    """FastAPI's async context manager around a sync one; in between, the request's task has what that one entered."""

    def __init__(self, original: Callable[[Any], Any], inner: Any) -> None:
        self._halves = _Halves(inner)
        self._inner = original(self._halves)
        self._taken: list[tuple[Any, Any, Any]] = []

    async def __aenter__(self) -> Any:
        value = await self._inner.__aenter__()
        for variable, there in self._halves.changed():
            self._taken.append((variable, there, variable.set(there)))
        return value

    async def __aexit__(self, *details: Any) -> Any:
        while self._taken:
            variable, there, token = self._taken.pop()
            try:
                variable.reset(token)
            except ValueError:  # a stack that another task closes
                if variable.get() is there:
                    variable.set(token.old_value)
        return await self._inner.__aexit__(*details)


class _Halves:
    """A sync context manager whose halves run in two contexts. Each is looked up by FastAPI and called in a thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._context: Context | None = None
        """Where the first half ran, with what it left."""

    @property
    def __enter__(self) -> Callable[..., Any]:
        return _There(self._first)

    @property
    def __exit__(self) -> Callable[..., Any]:
        return _There(self._second)

    def _first(self) -> Callable[..., Any]:
        self._context = copy_context()
        return functools.partial(self._context.run, self._inner.__enter__)

    def _second(self) -> Callable[..., Any]:
        for variable, there in self.changed():
            variable.set(there)
        self._context = None
        return self._inner.__exit__  # type: ignore[no-any-return]

    def changed(self) -> list[tuple[Any, Any]]:
        """The variables of ours that the first half left otherwise than they are here."""
        left = self._context
        if left is None:
            return []
        found: list[tuple[Any, Any]] = []
        ours: tuple[Any, ...] = (overrides_variable, active, VAR)
        for variable in ours:
            there, here = left.get(variable, _MISSING), variable.get(_MISSING)
            if there is here or there is _MISSING:
                continue
            if variable is VAR and there.get(OWN_KEY) is (None if here is _MISSING else here.get(OWN_KEY)):
                continue  # somebody else's current span: as it always was
            found.append((variable, there))
        return found


_MISSING: Any = object()


class _There:
    """Something to call that is made in the thread that calls it: while ``__call__`` is looked up, not in a frame."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make

    @property
    def __call__(self) -> Callable[..., Any]:
        return self._make()
