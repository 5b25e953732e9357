"""Settings from ``TRACEKEEPER_*`` environment variables, and the data directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracekeeper.types import ConfigurationError

PREFIX = "TRACEKEEPER_"
DIRECTORY_NAME = ".tracekeeper"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def disabled() -> bool:
    """Whether the kill switch ``TRACEKEEPER_DISABLED`` is set; it wins over every setting."""
    return os.environ.get(PREFIX + "DISABLED", "").strip().lower() not in _FALSE


def read(fields: Mapping[str, type]) -> dict[str, Any]:
    """The settings found in the environment, converted to the types given per field.

    Raises
    ------
    ConfigurationError
        When a variable does not convert; the message names it.
    """
    found: dict[str, Any] = {}
    for name, kind in fields.items():
        text = os.environ.get(PREFIX + name.upper())
        if text is not None:
            found[name] = _convert(name, text.strip(), kind)
    return found


def find_directory(start: Path | None = None) -> Path:
    """The data directory: the nearest ``.tracekeeper`` at or above ``start`` (default: the working directory).

    Where there is none it will be made in the working directory, on the first write.

    Raises
    ------
    ConfigurationError
        There is no working directory (any more).
    """
    try:
        here = (start or Path.cwd()).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"the working directory is gone or may not be read ({error.strerror}), and no data directory is set: "
            f"tracekeeper.configure(directory=…) or {PREFIX}DIRECTORY names one"
        ) from error
    for folder in (here, *here.parents):
        if (folder / DIRECTORY_NAME).is_dir():
            return folder / DIRECTORY_NAME
    return here / DIRECTORY_NAME


_KINDS = {int: "a whole number", float: "a number"}
"""What cannot be converted, in words. Any text is a path, a name or an id."""


def _convert(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ConfigurationError(
            f"{PREFIX}{name.upper()}={text!r}: expected one of 1, 0, true, false, yes, no, on, off"
        )
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"{PREFIX}{name.upper()}={text!r}: expected {_KINDS[kind]}") from None
