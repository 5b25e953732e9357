"""Sending a webhook: signed as Standard Webhooks has it, to a public address only, bounded in time and in size.

Source of the format: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
(``webhook-id``, ``webhook-timestamp``, ``webhook-signature``). Redirects are not followed and proxies are not used, so
the only address that is ever talked to is the one that was checked.

A URL often is a secret itself (Slack's are): whatever is printed or logged shows its host only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tracekeeper.scoring.alerts.addresses import Place, PrivateAddressError, places, refuse_at_once
from tracekeeper.types import ConfigurationError

TIMEOUT = 10.0
"""Seconds for everything: the name, the connection, the request and the answer."""
LARGEST_ANSWER = 64 << 10
"""Bytes that are read of an answer, its head included."""
SHOWN = 200
"""Characters of an answer that are shown."""
PREFIX = "whsec_"


class Target(NamedTuple):
    """A webhook's URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """With its query."""

    @property
    def host_header(self) -> str:
        """What the receiver is called by."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"


class Answer(NamedTuple):
    """What came of sending once. ``status`` is ``None`` when there was no answer."""

    status: int | None
    text: str
    """The beginning of the answer, or why there was none."""
    retry_after: float | None = None
    """Seconds that the receiver asked for."""
    refused: bool = False
    """It was not sent, and it would not be another time."""

    @property
    def ok(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    def __str__(self) -> str:
        if self.status is None:
            return self.text
        return f"{self.status}{f' {_phrase(self.status)}'}{f': {self.text}' if self.text else ''}"


def target_of(url: str, *, allow_private: bool = False) -> Target:
    """Take a URL apart and refuse what can never be sent to.

    Raises
    ------
    ConfigurationError
        It is no http or https URL, has a user name or password in it, or its host is a private address.

    Example
    -------
    >>> target_of("https://hooks.example.com/services/T0?x=1")
    Target(scheme='https', host='hooks.example.com', port=443, path='/services/T0?x=1')
    """
    if not isinstance(url, str) or not url or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ConfigurationError("webhook: expected a URL such as https://hooks.example.com/alerts, without spaces")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"webhook: this is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"webhook: expected a URL that begins with https:// (or http://) and has a host, not {parts.scheme or url}:"
        )
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"webhook to {host}: no user name or password in the URL; sign what is sent with secret= instead"
        )
    if ":" not in host:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ConfigurationError(f"webhook: {host!r} is no name of a host") from None
    if not allow_private:
        refuse_at_once(host)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~[]")
    return Target(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], path)


def shown(url: str | None) -> str | None:
    """A URL for people: where it leads, without its path, which may be a secret.

    >>> shown("https://hooks.slack.com/services/T00/B00/XXX")
    'https://hooks.slack.com/…'
    """
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
    except ValueError:
        return "…"


def key_of(secret: str) -> bytes:
    """The bytes that sign: of ``whsec_…`` what its base64 says, of any other text its own.

    Raises
    ------
    ConfigurationError
        It is empty, or begins with ``whsec_`` and goes on with no base64.
    """
    if not isinstance(secret, str) or not secret.strip():
        raise ConfigurationError("secret: expected a text, best whsec_ and the base64 of 24 to 64 random bytes")
    if not secret.startswith(PREFIX):
        return secret.encode()
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ConfigurationError("secret: what follows whsec_ is no base64")
    return key


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` of a message: ``v1,`` and the base64 of HMAC-SHA256 of ``id.timestamp.body``.

    Example
    -------
    >>> body = b'{"test": 2432232314}'
    >>> sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def send(
    url: str,
    message_id: str,
    payload: Mapping[str, Any],
    *,
    secret: str | None = None,
    allow_private: bool = False,
    timeout: float = TIMEOUT,
) -> Answer:
    """Send a message once. Never raises for what the network or the receiver does.

    Parameters
    ----------
    message_id:
        The same whenever the same message is sent again, so that the receiver can tell.
    timeout:
        Seconds for everything.
    """
    deadline = time.monotonic() + timeout
    try:
        target = target_of(url, allow_private=allow_private)
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        head = _head(target, message_id, secret, body)
        found = places(target.host, target.port, allow_private=allow_private)
        return _exchange(target, found, head, body, deadline)
    except ConfigurationError as error:
        return Answer(None, str(error), refused=not isinstance(error, PrivateAddressError) or _is_literal(url))
    except TimeoutError:
        return Answer(None, f"{shown(url)} did not answer within {timeout:g} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(None, f"{shown(url)} could not be reached: {type(error).__name__}: {error}"[:500])


def _is_literal(url: str) -> bool:
    try:
        target_of(url)
    except ConfigurationError:
        return True
    return False  # by name: what it resolves to may be mended


def _head(target: Target, message_id: str, secret: str | None, body: bytes) -> dict[str, str]:
    timestamp = int(time.time())
    head = {
        "Host": target.host_header,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "tracekeeper",
        "Connection": "close",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        head["webhook-signature"] = sign(secret, message_id, timestamp, body)
    return head


def _exchange(target: Target, found: list[Place], head: dict[str, str], body: bytes, deadline: float) -> Answer:
    connection = _Connection(target, found, deadline)
    try:
        connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in head.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        try:
            text = response.read(LARGEST_ANSWER).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):  # its status has come; that is the answer
            text = ""
        return Answer(response.status, " ".join(text.split())[:SHOWN], _retry_after(response.getheader("Retry-After")))
    finally:
        connection.hang_up()


def _retry_after(text: str | None) -> float | None:
    """Seconds of a ``Retry-After``: a number, or a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _phrase(status: int) -> str:
    return http.client.responses.get(status, "of its own")


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked; TLS knows the host by its name all the same."""

    def __init__(self, target: Target, found: list[Place], deadline: float) -> None:
        super().__init__(target.host, target.port)
        self._target, self._places, self._deadline = target, found, deadline
        self._made: socket.socket | None = None

    def hang_up(self) -> None:
        """Close the socket itself, which ``close`` leaves to an answer that is still read."""
        self.close()
        if self._made is not None:
            self._made.close()

    def connect(self) -> None:
        """Connect to the first of its addresses that takes the connection."""
        failed: OSError | None = None
        for place in self._places:
            made = socket.socket(place.family, socket.SOCK_STREAM)
            try:
                made.settimeout(_left(self._deadline))
                made.connect(place.sockaddr)
                if self._target.scheme == "https":
                    context = ssl.create_default_context()
                    made = context.wrap_socket(made, server_hostname=self._target.host)
                self._made = made
                self.sock = _Bounded(made, self._deadline)  # what http.client uses of one
                return
            except OSError as error:
                made.close()
                failed = error
                if isinstance(error, TimeoutError) and time.monotonic() >= self._deadline:
                    break
        raise failed or OSError("no address")


class _Bounded:
    """A socket that neither takes longer than its deadline, however slowly the other side goes, nor reads too much."""

    def __init__(self, made: socket.socket, deadline: float) -> None:
        self._socket = made
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(_left(self._deadline))
            view = view[self._socket.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._socket, self._deadline))

    def close(self) -> None:
        """Called as soon as the head of the answer was read, whose rest still comes: see ``hang_up``."""


class _Answer(io.RawIOBase):
    """The bytes that come back."""

    def __init__(self, made: socket.socket, deadline: float) -> None:
        self._socket = made
        self._deadline = deadline
        self._room = LARGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._room <= 0:
            raise OSError(f"the answer is longer than {LARGEST_ANSWER} bytes")
        self._socket.settimeout(_left(self._deadline))
        read = self._socket.recv_into(buffer, min(len(buffer), self._room))
        self._room -= read
        return read


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time is left")
    return left
