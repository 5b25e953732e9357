"""``configure``, ``context`` and ``settings``.

The base is one immutable object that ``configure`` swaps; a reader takes the reference once and sees either the old
or the new settings, never a mixture. ``context`` overrides live in one ContextVar, so they follow tasks (and, with
the context carried along, threads) and never leak between concurrent requests. A key that no override sets falls
through to the base as it is *now*, not as it was when the context was entered.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from tracekeeper.configuration import environment, values
from tracekeeper.types import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

MASKED_KEYS = (
    "api_key",
    "apikey",
    "api-key",
    "authorization",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "bearer_token",
    "private_key",
    "cookie",
    "set-cookie",
    "credentials",
    "x-api-key",
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, as it stands for the caller. Read it with ``tk.settings()``.

    Parameters
    ----------
    store:
        Where records go: ``sqlite:///path.db``; ``None`` means ``tracekeeper.db`` in ``directory``.
    directory:
        The data directory (journal, default store). ``None``: the nearest parent holding ``.tracekeeper``, else
        ``.tracekeeper`` in the working directory.
    project, environment, release:
        Written on every record.
    sample:
        Share of traces kept, 0 to 1, decided at the root of a trace. A recording forces its traces in.
    keep_errors:
        Keep a span that raised, and the spans above it, although its trace was not sampled.
    enabled:
        ``False`` turns tracing off (``TRACEKEEPER_DISABLED=1`` does so from outside).
    exit_timeout:
        Seconds that a normal exit gives to scores that are queued or running.
    capture_input, capture_output:
        Whether arguments and results are written.
    capture_limit:
        Bytes kept of one captured field; beyond it the field is cut and its full length noted.
    mask:
        ``mask(value) -> value`` applied to every captured input and output before it is encoded.
    mask_keys:
        Names whose values are replaced by ``***`` wherever they appear as a key or an argument name.
    journal_limit:
        Bytes of disk the journals of one process may take.
    sync:
        Seconds between ``fdatasync`` calls of the journal; ``None`` (default) never: kept through process death, not
        power loss.
    settle_within:
        Seconds after which a score that could not start is ``failed`` (default one day).
    lease:
        Seconds for which whoever computes a score holds it before somebody else may take it over, unless it is renewed.
    scoring_concurrency:
        Metrics that run at the same time in this process.
    isolated_concurrency:
        Metrics with ``isolation="process"`` that run at the same time, each in a process apart; ``None``: two for each
        processor, at most eight.
    sigterm:
        Install a SIGTERM handler that flushes and then calls the handler that was there before.
    otlp_endpoint:
        An OTLP/HTTP endpoint such as ``http://collector:4318`` that gets a copy of every span. Needs the extra
        ``[otlp]``.
    otlp_headers:
        HTTP headers for it, for instance its key; in the environment ``name=value,name=value``.
    lm:
        The language model that metrics and programs use when they are given none.
    api_key:
        For a Tracekeeper server given as ``store``.
    tags, session_id, user_id, metadata:
        Written on records; usually set with ``tk.context``.
    """

    store: str | None = None
    directory: Path | None = None
    project: str = "default"
    environment: str | None = None
    release: str | None = None
    sample: float = 1.0
    keep_errors: bool = True
    enabled: bool = True
    exit_timeout: float = 5.0
    capture_input: bool = True
    capture_output: bool = True
    capture_limit: int = 1_000_000
    mask: Callable[[Any], Any] | None = None
    mask_keys: tuple[str, ...] = MASKED_KEYS
    journal_limit: int = 1 << 30
    sync: float | None = None
    settle_within: float = 86_400.0
    lease: float = 30.0
    scoring_concurrency: int = 32
    isolated_concurrency: int | None = None
    sigterm: bool = False
    otlp_endpoint: str | None = None
    otlp_headers: Mapping[str, str] | None = None
    lm: Any = None
    api_key: str | None = None
    tags: tuple[str, ...] = ()
    session_id: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in ('api_key', 'otlp_headers') else repr(value)}"
            for name in self.__struct_fields__
            if (value := getattr(self, name)) != _DEFAULTS.get(name)
        )
        return f"Settings({', '.join(shown)})"


_DEFAULTS: dict[str, Any] = dict(zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True))
_FIELDS = frozenset(Settings.__struct_fields__)
PROCESS_ONLY = frozenset(
    {
        "store",
        "api_key",
        "directory",
        "exit_timeout",
        "lease",
        "journal_limit",
        "sync",
        "sigterm",
        "otlp_endpoint",
        "otlp_headers",
    }
)
"""Settings that describe the process and so cannot be overridden by ``context``."""

_FROM_ENVIRONMENT: dict[str, type] = {
    "store": str,
    "api_key": str,
    "directory": Path,
    "project": str,
    "environment": str,
    "release": str,
    "sample": float,
    "keep_errors": bool,
    "enabled": bool,
    "exit_timeout": float,
    "capture_input": bool,
    "capture_output": bool,
    "capture_limit": int,
    "mask_keys": tuple,
    "journal_limit": int,
    "sync": float,
    "settle_within": float,
    "lease": float,
    "scoring_concurrency": int,
    "isolated_concurrency": int,
    "sigterm": bool,
    "otlp_endpoint": str,
    "otlp_headers": str,
    "lm": str,
    "tags": tuple,
    "session_id": str,
    "user_id": str,
}

_resets = 0

_base: Settings | None = None
_overrides: ContextVar[dict[str, Any] | None] = ContextVar("tracekeeper_overrides", default=None)
overrides_variable = _overrides
overrides = _overrides.get
"""``overrides()``: what ``context`` changes here; ``None`` where the base settings hold as they are."""


def settings() -> Settings:
    """The settings as they stand here and now: the process's base under the overrides of this context.

    Example
    -------
    >>> with context(tags=["a"]):
    ...     settings().tags
    ('a',)
    """
    base = _base or _first_base()
    overrides = _overrides.get()
    if overrides is None:
        return base
    merged: Settings = msgspec.structs.replace(base, **overrides)
    return merged


def base_settings() -> Settings:
    """The process-wide base, without the overrides of this context."""
    return _base or _first_base()


def configure(**changes: Any) -> Settings:
    """Change settings for the whole process, from any thread or task, at any time.

    Keys that are not named keep their value. The swap is atomic; calls under way keep the settings they began with.

    Raises
    ------
    ConfigurationError
        An unknown key (the nearest known one is named) or a value that cannot work. Nothing is changed then.

    Example
    -------
    >>> configure(project="support-bot", sample=1.0).project
    'support-bot'
    """
    global _base
    checked = check(changes)
    changed: Settings = msgspec.structs.replace(_base or _first_base(), **checked)
    _base = changed
    return changed


def reset() -> None:
    """Forget everything that ``configure`` set, and read the environment again at the next use. For tests."""
    global _base, _resets
    _base = None
    _resets += 1


def resets() -> int:
    """How often ``reset`` was called: what was found out before (such as the data directory) is void after it."""
    return _resets


class _Entered(dict[str, Any]):
    """All overrides in force inside a ``context``."""

    __slots__ = ("before", "by")

    def __init__(self, by: context, before: dict[str, Any] | None) -> None:
        super().__init__(before or ())
        self.update(by._changes)
        self.by = by
        self.before = before


class context:
    """Override settings for the calls made inside: ``with``, ``async with``, or as a decorator.

    The overrides belong to the current thread or task and what it starts with its context carried along. One object
    may be entered again and by several threads or tasks at once.

    Raises
    ------
    ConfigurationError
        An unknown key, a value that cannot work, or a key that describes the whole process (``store``, ``directory``…).

    Example
    -------
    >>> with context(session_id="s-1", tags=["beta"]):
    ...     settings().session_id
    's-1'
    """

    __slots__ = ("_changes",)

    def __init__(self, **changes: Any) -> None:
        for name in changes:
            if name in PROCESS_ONLY:
                raise ConfigurationError(f"{name} belongs to the whole process; set it with tk.configure({name}=…)")
        self._changes = check(changes)

    def __enter__(self) -> context:
        _overrides.set(_Entered(self, _overrides.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is in force says who made it so and what was before. A token would say that too, but it fits only the
        # context it was made in, and a framework may leave a block in another one (a generator closed elsewhere, the
        # second half of a dependency); and it would have to be kept somewhere, for ever if the block is never left.
        here = _overrides.get()
        if type(here) is _Entered and here.by is self:
            _overrides.set(here.before)

    async def __aenter__(self) -> context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise ConfigurationError("tk.context cannot decorate a generator: use `with tk.context(…)` inside it")
        if iscoroutinefunction(function):

            @wraps(function)
            async def asynchronous(*args: Any, **kwargs: Any) -> Any:
                with context_of(self._changes):
                    return await function(*args, **kwargs)

            return asynchronous  # type: ignore[return-value]

        @wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            with context_of(self._changes):
                return function(*args, **kwargs)

        return synchronous  # type: ignore[return-value]


def bare_context() -> Context:
    """A new context that holds nothing but the overrides in force here: no current span, no recording.

    For work that belongs to a call but is no part of it, such as judging its result.
    """
    made = Context()
    held = _overrides.get()
    if held is not None:
        made.run(_overrides.set, held)
    return made


def context_of(changes: Mapping[str, Any]) -> context:
    """A context from values that were checked before."""
    made = context.__new__(context)
    made._changes = dict(changes)
    return made


def _first_base() -> Settings:
    global _base
    found = check(environment.read(_FROM_ENVIRONMENT))
    if _base is None:
        _base = msgspec.structs.replace(Settings(), **found)
    return _base


def check(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are kept. Raises ``ConfigurationError``: an unknown key, or a value that cannot work."""
    checked: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(_FIELDS))}"
            raise ConfigurationError(f"unknown setting {name!r}{hint}")
        checked[name] = values.checked(name, value)
    return checked
