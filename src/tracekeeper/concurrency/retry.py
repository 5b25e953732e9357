"""Whether, when and for how long a call is tried again.

Back-off is exponential with *full jitter* (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015):
the wait is drawn evenly between nothing and a bound that doubles, so that those who failed together do not come back
together. What a server asks for in ``Retry-After`` is the least that is waited. The time spent has a ceiling: a wait
that would pass it is not begun, and the error is raised at once.

What cannot succeed is never tried again: a bad request (400), no or the wrong key (401, 403), nothing there (404), what
does not validate (405, 413, 422, …), and every exception that is no answer of a server and no loss of a connection.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
"""Statuses after which the same request may succeed. 409: OpenAI's "lock timeout"; 52x: Cloudflare; 529: Anthropic's
"overloaded"."""
_TOO_MANY = frozenset({429, 529})


class Verdict(StrEnum):
    """What an error says of another attempt."""

    NEVER = "never"
    AGAIN = "again"
    TOO_MUCH = "too much"
    """Again, but slower."""


def verdict(error: BaseException) -> Verdict:
    """Judge an error by the status it carries, else by what it is.

    Example
    -------
    >>> verdict(ConnectionResetError()), verdict(ValueError("no such parameter"))
    (<Verdict.AGAIN: 'again'>, <Verdict.NEVER: 'never'>)
    """
    status = status_of(error)
    if status is not None:
        if status in _TOO_MANY:
            # OpenAI says 429 too when the account has no money left, which waiting does not bring.
            return Verdict.NEVER if _code_of(error) == "insufficient_quota" else Verdict.TOO_MUCH
        return Verdict.AGAIN if status in _AGAIN else Verdict.NEVER
    if isinstance(error, ConnectionError | TimeoutError):
        return Verdict.AGAIN
    names = {kind.__name__ for kind in type(error).__mro__}
    return Verdict.AGAIN if names & _LOST_CONNECTION else Verdict.NEVER


_LOST_CONNECTION = frozenset({"APIConnectionError", "TransportError", "ServiceUnavailableError"})
"""Of ``openai`` and ``anthropic``, of ``httpx``, of ``litellm``: told by name, so that none is imported."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error carries."""
    for found in (getattr(error, "status_code", None), getattr(getattr(error, "response", None), "status_code", None)):
        if isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600:
            return found
    return None


def _code_of(error: BaseException) -> Any:
    return getattr(error, "code", None)


def retry_after(error: BaseException, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a server asks to wait; ``None`` when it does not.

    Reads ``retry-after-ms`` (OpenAI) and ``retry-after`` in both forms of RFC 9110, section 10.2.3.
    """
    headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None or not isinstance(said, str):
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now())
    except ValueError:
        return None


def _number(said: Any) -> float | None:
    try:
        found = float(said)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < float("inf") else None


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long.

    Parameters
    ----------
    retries:
        Attempts after the first.
    within:
        Seconds from the beginning of the first attempt; no wait is begun that would end later.
    first, longest:
        Bounds in seconds of the first wait and of any.

    Example
    -------
    >>> Retry(retries=3).wait(ConnectionResetError(), failures=1, elapsed=0.0, draw=lambda low, high: high)
    0.5
    >>> Retry(retries=3).wait(ValueError(), failures=1, elapsed=0.0) is None
    True
    """

    retries: int = 2
    within: float = 120.0
    first: float = 0.5
    longest: float = 30.0

    def wait(
        self,
        error: BaseException,
        *,
        failures: int,
        elapsed: float,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> float | None:
        """Seconds to wait after the ``failures``-th failure in a row; ``None``: give up and raise it."""
        if failures > self.retries or verdict(error) is Verdict.NEVER:
            return None
        asked = retry_after(error) or 0.0
        # Those who were all told the same time do not come back in the same instant either.
        wait = asked + draw(0.0, min(self.longest, self.first * 2 ** (failures - 1)))
        return wait if elapsed + wait <= self.within else None

    def call(
        self,
        attempt: Callable[[], T],
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> T:
        """Call until it succeeds or is not to be tried again, whose error is raised."""
        began, failures = clock(), 0
        while True:
            try:
                return attempt()
            except Exception as error:
                failures += 1
                wait = self.wait(error, failures=failures, elapsed=clock() - began)
                if wait is None:
                    raise
            sleep(wait)

    async def acall(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> T:
        """The same for an async callable."""
        import asyncio

        began, failures = clock(), 0
        while True:
            try:
                return await attempt()
            except Exception as error:
                failures += 1
                wait = self.wait(error, failures=failures, elapsed=clock() - began)
                if wait is None:
                    raise
            await (sleep or asyncio.sleep)(wait)
