"""The values of settings: each in its final form, or an error that says what was expected."""

from __future__ import annotations

import difflib
import importlib.util
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tracekeeper.types import ConfigurationError, MissingExtraError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Names of HTTP headers (RFC 9110, 5.1)."""


def checked(name: str, value: Any) -> Any:
    """A setting's value in its final form.

    Raises
    ------
    ConfigurationError
        One sentence: the setting, the value, what is expected.
    """
    match name:
        case "sample":
            return _number(name, value, low=0, high=1)
        case "exit_timeout" | "settle_within":
            return _number(name, value, low=0)
        case "lease":
            return _number(name, value, low=0.1)
        case "sync":
            return None if value is None else _number(name, value, low=0)
        case "capture_limit":
            return int(_number(name, value, low=0))
        case "journal_limit":
            return int(_number(name, value, low=1 << 20))
        case "scoring_concurrency":
            return int(_number(name, value, low=1))
        case "isolated_concurrency":
            return None if value is None else int(_number(name, value, low=1))
        case "tags" | "mask_keys":
            return _names(name, value)
        case "directory":
            return _directory(value)
        case "mask":
            if value is not None and not callable(value):
                raise ConfigurationError(f"mask={value!r}: expected a callable that takes a value and returns one")
            return value
        case "store":
            return _store(value)
        case "otlp_endpoint":
            return _otlp_endpoint(value)
        case "otlp_headers":
            return _otlp_headers(value)
        case "project":
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"project={value!r}: expected a name")
            return _text(name, value)
        case "environment" | "release" | "session_id" | "user_id" | "api_key":
            return None if value is None else _text(name, value)
        case "lm":
            if value is not None and not callable(value) and not (isinstance(value, str) and value):
                raise ConfigurationError(
                    f"lm={value!r}: expected tk.LM(…), a name such as 'openai/gpt-4.1-mini', or a callable"
                )
            return value
        case "metadata":
            if value is not None and not isinstance(value, Mapping):
                raise ConfigurationError(f"metadata={value!r}: expected a mapping such as {{'customer': 'acme'}}")
            return value
        case "enabled" | "keep_errors" | "capture_input" | "capture_output" | "sigterm":
            return bool(value)
        case _:
            return value


def _number(name: str, value: Any, *, low: float, high: float = math.inf) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not good or not math.isfinite(value):
        span = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise ConfigurationError(f"{name}={value!r}: expected a number {span}")
    return value  # type: ignore[no-any-return]


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name}={value!r}: expected a list of names")
    return tuple(_text(name, part) for part in value)


def _text(name: str, value: Any) -> str:
    """Ids are often numbers or UUIDs: what names one thing is taken as its text.

    Frames hold text there and nothing else: any other type, or half of a surrogate pair, could not be read back.
    """
    if isinstance(value, Mapping | list | tuple | set | frozenset | bytes | bytearray):
        raise ConfigurationError(f"{name}={value!r}: expected text")
    return str(value).encode("utf-8", "backslashreplace").decode()


def _directory(value: Any) -> Path | None:
    if value is None:
        return None
    try:
        return Path(value).expanduser().absolute()
    except (TypeError, RuntimeError) as error:  # no path at all; ~somebody who is not here
        raise ConfigurationError(f"directory={value!r}: expected a path ({error})") from None


def _store(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Path):
        value = f"sqlite:///{value}"
    if not isinstance(value, str) or "://" not in value:
        raise ConfigurationError(f"store={value!r}: expected a URL such as sqlite:///path/to/file.db")
    scheme = value.split("://", 1)[0].lower()
    if scheme == "sqlite":
        place = value.split("://", 1)[1]
        path = place.removeprefix("/")
        if path in ("", ":memory:"):
            raise ConfigurationError(
                f"store={value!r}: a store in memory could not survive the process; name a file, "
                "or use tk.testing for a temporary one"
            )
        if path == place:
            raise ConfigurationError(f"store={value!r}: three slashes come before the path: sqlite:///{path}")
        return value
    if scheme in ("postgresql", "postgres", "http", "https"):
        raise ConfigurationError(f"store={_without_password(value)!r}: this version stores to sqlite:///path.db only")
    near = difflib.get_close_matches(scheme, ["sqlite"], n=1)
    hint = f"; did you mean {near[0]}://?" if near else "; expected sqlite:///path/to/file.db"
    raise ConfigurationError(f"store={_without_password(value)!r}: unknown kind of store {scheme!r}{hint}")


def _otlp_endpoint(value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, good = None, False
    if parts is None or not good or any(ord(char) <= 32 for char in value):
        raise ConfigurationError(f"otlp_endpoint={value!r}: expected a URL such as http://collector:4318")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"otlp_endpoint to {parts.hostname}: no user name, password or query in the URL, which is shown to people; "
            "otlp_headers={…} takes what is secret"
        )
    if not _is_installed("opentelemetry.proto"):
        raise MissingExtraError("otlp_endpoint needs the messages of OTLP: pip install 'tracekeeper[otlp]'")
    return str(value)


def _otlp_headers(value: Any) -> Mapping[str, str] | None:
    """A mapping, or text as in ``OTEL_EXPORTER_OTLP_HEADERS``: ``name=value,name=value``, values percent-encoded."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not mark for _, mark, _ in pairs):
            raise ConfigurationError("otlp_headers: expected name=value,name=value")
        value = {name.strip(): unquote(text.strip()) for name, _, text in pairs}
    if not isinstance(value, Mapping):
        raise ConfigurationError("otlp_headers: expected a mapping such as {'api-key': '…'}")
    for name, text in value.items():
        good = isinstance(name, str) and isinstance(text, str) and _TOKEN.fullmatch(name)
        if not good or not text.isascii() or any(ord(char) < 32 for char in text):
            raise ConfigurationError(
                f"otlp_headers: {name!r} is no name of a header, or its value is no line of ASCII text"
            )
    return dict(value)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}://{login.split(':')[0]}:***@{place}" if at and ":" in login else url
