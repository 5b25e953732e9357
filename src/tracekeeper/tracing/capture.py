"""Values as JSON text, at call time: total, masked, and at a cost of O(limit) rather than O(object).

What is usually captured is small and plain: a walk that changes nothing checks that, and one C call encodes it. All
else takes the long way through :mod:`~tracekeeper.tracing.simplify`. See ``docs/design/capture.md``.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import orjson

from tracekeeper.tracing import masking, simplify, trouble

_DEPTH = 16
_isfinite = math.isfinite
_dumps = orjson.dumps
NULL = b"null"


def encode(
    value: Any, *, limit: int, mask_keys: tuple[str, ...], mask: masking.Mask | None = None, whole: int = 0
) -> tuple[bytes, int]:
    """The JSON text of any value, and its full size if it was cut, else 0. Never raises (but lets Ctrl-C through).

    Parameters
    ----------
    limit:
        Bytes to keep; a cut value ends with a marker that says how much there was, and is still valid JSON.
    mask_keys:
        Names whose values are replaced by ``***``.
    mask:
        ``mask(plain value) -> value``, applied to the whole.
    whole:
        Of a text that was cut before: how many characters it had.

    Example
    -------
    >>> encode({"question": "why?", "api_key": "sk-1"}, limit=1000, mask_keys=("api_key",))
    (b'{"question":"why?","api_key":"***"}', 0)
    """
    return encoded(value, limit, mask_keys, mask, whole)


def encoded(
    value: Any, limit: int, mask_keys: tuple[str, ...], mask: masking.Mask | None, whole: int = 0
) -> tuple[bytes, int]:
    """``encode`` with its arguments by position: every traced call comes through here twice."""
    if mask is None and not whole:
        try:
            kind = type(value)
            if kind is str:
                left = limit - len(value)
            elif kind is dict and len(value) < 16:
                last = masking.last
                keys = last[1] if last[0] is mask_keys else masking.key_mask(mask_keys)
                known = keys.known
                left = limit
                for key, item in value.items():
                    if known.get(key) is not False and (type(key) is not str or keys.hides(key)):
                        left = -1
                        break
                    if type(item) is str:
                        left -= len(key) + len(item)
                    else:
                        left = _left_of(item, left - len(key), keys, 1)
                    if left < 0:
                        break
            else:
                left = _left_of(value, limit, masking.key_mask(mask_keys), 0)
            if left >= 0:
                data = _dumps(value)
                if len(data) <= limit:
                    return data, 0
        except (TypeError, ValueError, RuntimeError, AttributeError):
            pass  # huge ints, lone surrogates, a dict that another thread changes: the long way knows them
    try:
        return _the_long_way(value, limit, mask_keys, mask, whole)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        trouble.note("capturing a value", error)
        return _dumps(f"<{type(value).__name__}: not captured ({type(error).__name__})>"), 0


def decode(data: bytes | str) -> Any:
    """The plain value of captured JSON text; integers of any size stay integers."""
    return msgspec.json.decode(data)


def text(value: str) -> str:
    """A ``str`` that every encoder takes: lone surrogates are escaped."""
    if value.isascii():
        return str(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return str(value)


def _left_of(value: Any, left: int, keys: masking.KeyMask, depth: int) -> int:
    """What a plain value leaves of ``left`` bytes; negative: too long, or not plain JSON, or something is to be hidden.

    Exact types only: a subclass may have its own ideas of iteration.
    """
    kind = type(value)
    if kind is str:
        return left - len(value)
    if kind is int or value is None or kind is bool:
        return left - 1
    if kind is float:
        return left - 8 if _isfinite(value) else -1  # encoders write null for NaN, without a word
    if depth > _DEPTH:
        return -1
    if kind is dict:
        if 4 * len(value) > left:
            return -1
        known = keys.known
        for key, item in value.items():
            if type(key) is not str:
                return -1
            if known.get(key) is not False and keys.hides(key):
                return -1
            left = _left_of(item, left - len(key), keys, depth + 1)
            if left < 0:
                return -1
        return left
    if kind is list or kind is tuple:
        count = len(value)
        if count > left:
            return -1
        if count > 32:
            kinds = set(map(type, value))
            if kinds == {str}:
                return left - sum(map(len, value))
            if kinds <= _NUMBERS:
                return left - 2 * count if float not in kinds or _isfinite(sum(value)) else -1
        elif count == 2 and type(value[0]) in _NAMES:
            return -1 if type(value[0]) is bytes or keys.hides(value[0]) else _pair(value, left, keys, depth)
        for item in value:
            left = _left_of(item, left, keys, depth + 1)
            if left < 0:
                return -1
        return left
    return -1


_NUMBERS = {int, float, bool}
_NAMES = (str, bytes)


def _pair(value: Any, left: int, keys: masking.KeyMask, depth: int) -> int:
    return _left_of(value[1], left - len(value[0]), keys, depth + 1)


def _the_long_way(
    value: Any, limit: int, mask_keys: tuple[str, ...], mask: masking.Mask | None, whole: int
) -> tuple[bytes, int]:
    keys = masking.key_mask(mask_keys)
    plain, size = simplify.simplify(value, limit, keys, whole)
    if mask is not None:
        # What the mask gives back may be anything, and longer: it is simplified once more.
        plain, again = simplify.simplify(masking.apply(mask, plain), limit + 256, keys)
        size = max(size, again)
    data = dumps(plain)
    # Escapes make JSON longer than the text it holds. Rarely much, so: measure, and cut again in proportion.
    room = limit
    while len(data) > limit + simplify.SLACK and room > 16:
        size = max(size, len(data))
        room = min(room * limit // len(data), room * 3 // 4)
        plain, again = simplify.simplify(plain, room, keys)
        size = max(size, again)
        data = dumps(plain)
    return data, size


def dumps(plain: Any) -> bytes:
    """JSON text of what ``simplify`` made: only lone surrogates in long lists and huge ints are left to care for."""
    try:
        return _dumps(plain)
    except TypeError:
        pass
    try:
        return msgspec.json.encode(plain)
    except UnicodeEncodeError:
        return msgspec.json.encode(simplify.without_surrogates(plain))
