"""The client object of one model: made at the first call, closed on its own loop when the model is thrown away."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from tracekeeper.lm.engine import Engine

logger = logging.getLogger("tracekeeper")
_closing: set[asyncio.Task[None]] = set()


class Clients:
    """One client for each loop that there ever is: a forked child makes its own."""

    def __init__(self, engine: Engine, make: Callable[[], Any]) -> None:
        self._engine = engine
        self._make = make
        self._making = threading.Lock()
        self._made: dict[int, Any] = {}
        self._known: frozenset[str] | None = None

    def prepare(self) -> None:
        """Have one. In the caller's thread: it imports the library and reads certificates."""
        generation = self._engine.generation
        if generation not in self._made:
            with self._making:
                if generation not in self._made:
                    client = self._made[generation] = self._make()
                    # It holds the client: in one sweep of garbage, connections would else go before it is closed.
                    weakref.finalize(self, _let_go, self._engine, generation, client).atexit = False

    def get(self) -> Any:
        """The one for the loop that runs this."""
        return self._made[self._engine.generation]

    def fitted(self, create: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the client's function has; what it does not know goes into the request's body as it is."""
        if self._known is None:
            self._known = frozenset(inspect.signature(create).parameters)  # a millisecond: once
        known = self._known
        body = {name: value for name, value in options.items() if name not in known}
        if not body:
            return options
        given = {name: value for name, value in options.items() if name in known}
        return {**given, "extra_body": {**body, **(options.get("extra_body") or {})}}


def _let_go(engine: Engine, generation: int, client: Any) -> None:
    """Called by a finaliser: takes no lock. The parent's connections are none of a forked child's to close."""
    if generation == engine.generation:
        engine.call_soon(_close_later, client)


def _close_later(client: Any) -> None:
    task = asyncio.get_running_loop().create_task(_close(client))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(client: Any) -> None:
    try:
        await client.close()
    except Exception as error:  # noqa: BLE001  its connections are gone already
        logger.debug("tracekeeper: closing a model's client: %r", error)
