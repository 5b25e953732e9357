"""``tk.instrument()`` and ``tk.uninstrument()``: which libraries are traced, from when on, and how that is undone.

Nothing is imported that the program does not import itself. An integration of a library that is not loaded yet waits
for its import (wrapt's import hook) and is installed right after it. Whatever goes wrong, because the library is
broken, of an unknown version, or lacks what is to be traced, costs one line in the log and no call: the replacements
that were made are taken back.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from tracekeeper.integrations.known import KNOWN, Integration
from tracekeeper.types import ConfigurationError

log = logging.getLogger("tracekeeper")

Undo = Callable[[], None]


class Instrumented(NamedTuple):
    """What became of one integration."""

    name: str
    state: str
    """``active``, ``waiting`` (for the program's own import), ``not installed``, ``failed`` or ``off``."""
    detail: str = ""
    """The version of the library, or why it failed."""


class _State:
    """One integration of this process."""

    def __init__(self, integration: Integration) -> None:
        self.integration = integration
        self.wanted = False
        self.hooked = False
        self.undo: Undo | None = None
        self.shown = Instrumented(integration.name, "off")


_states: dict[str, _State] = {}
_lock = threading.RLock()  # the import of a library may import another one that is waited for


def instrument(*names: str) -> list[Instrumented]:
    """Trace the calls of installed clients and frameworks, and let plain threads carry the context.

    Call it once, early: functions that the program has imported by name before (``from litellm import completion``)
    stay as they were. Calling it again does nothing twice. Libraries that are not imported yet are not imported by
    this.

    Parameters
    ----------
    names:
        Which ones, e.g. ``"openai"``, ``"threads"``; default: everything that is installed, except
        ``"opentelemetry"`` (the spans of other instrumentation), which is asked for by name.

    Returns
    -------
    list[Instrumented]
        A row for each: its name, its state, and the version or the reason.

    Raises
    ------
    ConfigurationError
        There is no integration of that name. Nothing else is raised: what cannot be traced costs one line in the log.

    Example
    -------
    >>> import tracekeeper as tk
    >>> openai, = tk.instrument("openai")
    >>> openai.name
    'openai'
    >>> tk.uninstrument("openai")
    """
    chosen = [_known(name) for name in names] or [row for row in KNOWN.values() if row.by_default]
    with _lock:
        return [_want(_state(integration), asked_for=bool(names)) for integration in chosen]


def uninstrument(*names: str) -> None:
    """Put back what ``instrument`` replaced; default: everything. Calls and streams under way end as they would have.

    Raises
    ------
    ConfigurationError
        There is no integration of that name.
    """
    chosen = [_known(name) for name in names] or list(KNOWN.values())
    with _lock:
        for integration in chosen:
            state = _states.get(integration.name)
            if state is not None:
                _release(state)


def instrumented() -> list[Instrumented]:
    """What became of each integration that was asked for so far."""
    with _lock:
        return [state.shown for state in _states.values()]


def _known(name: str) -> Integration:
    found = KNOWN.get(name)
    if found is None:
        near = difflib.get_close_matches(str(name), KNOWN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KNOWN)}"
        raise ConfigurationError(f"instrument({name!r}): there is no such integration; {hint}")
    return found


def _state(integration: Integration) -> _State:
    state = _states.get(integration.name)
    if state is None:
        state = _states[integration.name] = _State(integration)
    return state


def _want(state: _State, *, asked_for: bool) -> Instrumented:
    integration = state.integration
    state.wanted = True
    if state.undo is not None:
        return state.shown
    if integration.module is None or integration.module in sys.modules:
        _install(state)
    elif not _findable(integration.module):
        level = logging.WARNING if asked_for else logging.DEBUG
        log.log(level, "%s is not traced: %s is not installed", integration.name, integration.module)
        state.shown = Instrumented(integration.name, "not installed")
    else:
        state.shown = Instrumented(integration.name, "waiting", f"for the import of {integration.module}")
        if not state.hooked:
            state.hooked = True
            import wrapt

            wrapt.register_post_import_hook(lambda module: _imported(state), integration.module)
    return state.shown


def _imported(state: _State) -> None:
    """The program has just imported the library, in whichever thread that was."""
    with _lock:
        if state.wanted and state.undo is None:
            _install(state)


def _install(state: _State) -> None:
    integration = state.integration
    version = _version(integration.distribution)
    try:
        room = importlib.import_module(f"tracekeeper.integrations.{integration.room}")
        state.undo = room.install()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        log.warning("%s is not traced: %s", f"{integration.name} {version}".strip(), reason)
        log.debug("traceback of the failure", exc_info=error)
        state.shown = Instrumented(integration.name, "failed", reason)
        return
    state.shown = Instrumented(integration.name, "active", version)


def _release(state: _State) -> None:
    state.wanted = False
    undo, state.undo = state.undo, None
    state.shown = Instrumented(state.integration.name, "off")
    if undo is None:
        return
    try:
        undo()
    except Exception as error:  # noqa: BLE001
        log.warning("%s could not be put back: %s: %s", state.integration.name, type(error).__name__, error)


def _findable(module: str) -> bool:
    """Whether it seems to be installed, without importing any of it."""
    package, _, below = module.partition(".")
    try:
        found = importlib.util.find_spec(package)
        if found is None or not below or found.origin is not None:
            return found is not None
        # Others may live in the same namespace (`google`).
        places = list(found.submodule_search_locations or ())
        return importlib.machinery.PathFinder.find_spec(f"{package}.{below.partition('.')[0]}", places) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _version(distribution: str | None) -> str:
    if distribution is None:
        return ""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def forget() -> None:
    """Put everything back and start anew. For tests."""
    uninstrument()
    with _lock:
        for state in _states.values():
            state.shown = Instrumented(state.integration.name, "off")
