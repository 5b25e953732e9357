"""What every way to a model has in common."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import AsyncIterator
from typing import Any, Protocol

from tracekeeper.conventions.told import Told
from tracekeeper.lm.engine import Engine
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.providers import Provider
from tracekeeper.lm.timeouts import Timeouts
from tracekeeper.tracing.responses import Reader
from tracekeeper.types import ConfigurationError, MissingExtraError


class Adapter(Protocol):
    """One provider's wire format behind four questions. All that awaits runs on ``engine``."""

    engine: Engine
    provider: str
    """``gen_ai.provider.name``."""
    limited: bool
    """Whether its calls have places (see ``concurrency.limits``) although no limit was given."""

    def prepare(self) -> None:
        """What takes time or may fail before a call: imports, the client. In the caller's thread."""
        ...

    def options(self, prompt: Prompt) -> dict[str, Any]:
        """What is sent, in the provider's words."""
        ...

    async def call(self, options: dict[str, Any], timeouts: Timeouts) -> Told:
        """A whole answer."""
        ...

    async def stream(self, options: dict[str, Any], timeouts: Timeouts) -> AsyncIterator[Any]:
        """The events of an answer; has ``close`` or ``aclose``."""
        ...

    def reader(self) -> Reader:
        """Of one stream's events."""
        ...


def need(library: str, extra: str, what: str) -> None:
    """Raise ``MissingExtraError`` unless the library is installed. Does not import it."""
    try:
        found = importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise MissingExtraError(f"{what} needs {library}: pip install 'tracekeeper[{extra}]'")


def loaded(library: str, extra: str, what: str) -> Any:
    """The library, imported. Raises ``MissingExtraError``."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtraError(f"{what} needs {library}: pip install 'tracekeeper[{extra}]'") from error


def key_of(provider: Provider, given: str | None) -> str:
    """The key to send. Servers that want none get a word, since clients want one.

    Raises
    ------
    ConfigurationError
        There is none; the message says where it is looked for.
    """
    if given is not None:
        return given
    if provider.key_name is None:
        return "none"
    found = os.environ.get(provider.key_name)
    if not found:
        raise ConfigurationError(
            f"no API key for {provider.prefix}: set {provider.key_name}, or give tk.LM(…, api_key=…)"
        )
    return found
