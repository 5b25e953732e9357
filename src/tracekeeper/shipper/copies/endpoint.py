"""One request to an OTLP endpoint, and what its answer means.

Source: OTLP/HTTP 1.x (https://opentelemetry.io/docs/specs/otlp/#otlphttp): binary protobuf by POST to ``/v1/traces``;
429, 502, 503 and 504 may be tried again, after ``Retry-After`` if it is given; any other error may not. Redirects are
not followed and proxies of the environment not used: what leaves this machine goes where it was told to go.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import http.client

TIMEOUT = 10.0
"""Seconds for one request and its answer, however slowly either goes."""

RETRYABLE = frozenset({429, 502, 503, 504})
LARGEST_ANSWER = 1 << 20
"""Bytes that are read of an answer."""
LONGEST_WAIT = 3_600.0
"""Seconds, whatever a ``Retry-After`` says."""


class Endpoint(NamedTuple):
    """Where copies go."""

    url: str
    """With ``/v1/traces``; without a user name, a password or a query."""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, base: str, headers: Mapping[str, str] | None = None) -> Endpoint:
        """From the settings ``otlp_endpoint`` and ``otlp_headers``.

        Example
        -------
        >>> Endpoint.of("http://collector:4318/").url
        'http://collector:4318/v1/traces'
        """
        url = base.rstrip("/")
        return cls(url if url.endswith("/v1/traces") else f"{url}/v1/traces", tuple((headers or {}).items()))


class Answer(NamedTuple):
    """What came of a request."""

    status: int | None
    """``None``: there was no answer."""
    body: bytes = b""
    reason: str = ""
    """Why it did not succeed, in a few words."""
    retry_after: float | None = None
    """Seconds that the endpoint asks for."""

    @property
    def ok(self) -> bool:
        """Whether the endpoint took the request."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in RETRYABLE


def post(endpoint: Endpoint, body: bytes, *, timeout: float = TIMEOUT) -> Answer:
    """Send a request once. Never raises for what the network or the endpoint does.

    Parameters
    ----------
    timeout:
        Seconds for everything but the look-up of the host's name.
    """
    import http.client  # here: this module is read before the first span is stored, which must not wait for TLS

    parts = urlsplit(endpoint.url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout)
    # Socket timeouts are for one read each: an endpoint that sends a byte a second would never be over.
    late = threading.Event()
    clock = threading.Timer(timeout, _hang_up, (connection, late))
    clock.daemon = True
    try:
        clock.start()
        head = {"Content-Type": "application/x-protobuf", "User-Agent": "tracekeeper", **dict(endpoint.headers)}
        connection.request("POST", parts.path, body, head)
        response = connection.getresponse()
        said = response.read(LARGEST_ANSWER)
        if late.is_set():
            return Answer(None, reason=f"it did not answer within {timeout:g} s")
        reason = "" if 200 <= response.status < 300 else f"HTTP {response.status} {response.reason}".strip()
        return Answer(response.status, said, reason, _retry_after(response.getheader("Retry-After")))
    except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            return Answer(None, reason=f"it did not answer within {timeout:g} s")
        return Answer(None, reason=f"it cannot be reached ({type(error).__name__}: {error})"[:300])
    finally:
        clock.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    import http.client

    if scheme == "https":
        import ssl

        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    made = connection.sock
    if made is not None:
        with contextlib.suppress(OSError):  # it may be closed by now, which is what is wanted
            made.shutdown(socket.SHUT_RDWR)


def _retry_after(text: str | None) -> float | None:
    """Seconds of a ``Retry-After``: a number, or a date (RFC 9110, 10.2.3).

    >>> _retry_after("7"), _retry_after("soon"), _retry_after("99999999")
    (7.0, None, 3600.0)
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_WAIT, float(text[:10]))
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return min(LONGEST_WAIT, max(0.0, (when - datetime.now(UTC)).total_seconds()))
