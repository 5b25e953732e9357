"""A frame that cannot be encoded as it is: mended rather than lost.

What can be wrong is known: text with lone surrogates (seen in broken model output), whole numbers beyond 64 bits, and
values that are not of the declared kind at all.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from tracekeeper.journal.frames import Frame, encode

log = logging.getLogger("tracekeeper")

_LARGEST = (1 << 63) - 1


def repaired(frame: Frame, error: Exception) -> bytes | None:
    """The frame's encoding with the offending values replaced, or ``None`` when that does not help either."""
    try:
        payload = encode(_mended(frame))
    except Exception as second:  # noqa: BLE001  the caller counts it; the traced call must not see it
        log.warning("a %s frame could not be encoded and is lost: %s; %s", type(frame).__name__, error, second)
        return None
    log.debug("a %s frame was mended before encoding: %s", type(frame).__name__, error)
    return payload


def _mended(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, str):
        return str(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return max(-_LARGEST, min(_LARGEST, int(value)))
    if isinstance(value, msgspec.Struct):
        changes = {name: _mended(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, tuple | list):
        return tuple(_mended(each) for each in value)
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return repr(value).encode("utf-8", "backslashreplace").decode()
