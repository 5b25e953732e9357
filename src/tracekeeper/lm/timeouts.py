"""The deadlines of one request, each kept whatever the server does."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import msgspec

from tracekeeper.types import ConfigurationError, LMTimeoutError

T = TypeVar("T")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a request may take; retries begin anew.

    Parameters
    ----------
    total:
        From sending to the last token. Of a stream only the time spent waiting for the provider counts: a program that
        reads slowly loses nothing.
    connect:
        Until there is a connection.
    first_token:
        Of a stream: until its first event. ``None``: as long as ``total`` lasts.
    between_tokens:
        Of a stream: between two events. Single bytes and comments are none.

    Example
    -------
    >>> Timeouts(total=30, first_token=5).first_token
    5
    """

    total: float = 600.0
    connect: float = 10.0
    first_token: float | None = None
    between_tokens: float = 60.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
            if not good and not (value is None and name == "first_token"):
                raise ConfigurationError(f"timeout {name}={value!r}: expected a number of seconds above 0")


def timeouts_of(given: Any) -> Timeouts:
    """From ``timeout=``: seconds in total, ``Timeouts``, or a mapping with its names."""
    if isinstance(given, Timeouts):
        return given
    if isinstance(given, Mapping):
        unknown = {*given} - {*Timeouts.__struct_fields__}
        if unknown:
            known = ", ".join(Timeouts.__struct_fields__)
            raise ConfigurationError(f"timeout={dict(given)!r}: unknown {', '.join(map(str, unknown))}; known: {known}")
        return Timeouts(**given)
    return Timeouts(total=given)


class Deadlines:
    """What is left of one request's time."""

    def __init__(self, timeouts: Timeouts, model: str) -> None:
        self.timeouts = timeouts
        self._model = model
        self._left = timeouts.total

    async def whole(self, waiting: Awaitable[T]) -> T:
        """A whole answer."""
        return await self._within(waiting, None, "")

    async def first(self, waiting: Awaitable[T]) -> T:
        """A stream's first event."""
        return await self._within(waiting, self.timeouts.first_token, "first_token")

    async def next(self, waiting: Awaitable[T]) -> T:
        """A stream's next event."""
        return await self._within(waiting, self.timeouts.between_tokens, "between_tokens")

    async def _within(self, waiting: Awaitable[T], seconds: float | None, phase: str) -> T:
        limit = self._left
        if seconds is None or seconds >= limit:
            phase = "total"
        else:
            limit = seconds
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, limit)) as scope:
                return await waiting
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._late(phase) from None
        finally:
            self._left -= time.monotonic() - began

    def _late(self, phase: str) -> LMTimeoutError:
        seconds = getattr(self.timeouts, phase)
        what = {
            "total": f"no {'end of the ' if self._left < self.timeouts.total else ''}answer within {seconds:g} s",
            "first_token": f"no first token within {seconds:g} s",
            "between_tokens": f"no further token within {seconds:g} s",
        }[phase]
        return LMTimeoutError(f"{self._model}: {what}", model=self._model, phase=phase)
