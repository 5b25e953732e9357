"""What must not be written: values under secret names, and whatever the program's own mask function removes.

Names are compared whole and without regard to case, wherever they appear as a key: argument names, mapping keys, fields
of dataclasses and models, and pairs such as ``("Authorization", "Bearer …")`` in a list of headers.

A mask function gets the plain copy that would be written (dicts, lists, text, numbers), never the program's own
objects: it cannot change them. If it raises, the field is replaced as a whole; the raw value is never written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tracekeeper.tracing import trouble

HIDDEN = "***"
_KNOWN_LIMIT = 4096

Mask = Callable[[Any], Any]


class KeyMask:
    """Which names hide their values. ``known`` remembers answers, so that the hot path is one dict lookup."""

    __slots__ = ("_names", "known")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self.known: dict[str, bool] = {}

    def hides(self, name: str) -> bool:
        """Whether a value under this name is hidden."""
        hidden = name.lower() in self._names if len(name) <= 256 else False
        if len(self.known) >= _KNOWN_LIMIT:  # keys made of data would fill it for ever
            self.known.clear()
        if len(name) <= 256:
            self.known[name] = hidden
        return hidden


last: tuple[tuple[str, ...], KeyMask] = ((), KeyMask(()))
"""The mask that was used last: settings rarely differ from one call to the next."""


def key_mask(names: tuple[str, ...]) -> KeyMask:
    """The mask for these names. One assignment, so racing threads cost a rebuild and nothing else."""
    global last
    known = last
    if known[0] is names:
        return known[1]
    last = known = (names, KeyMask(names) if known[0] != names else known[1])
    return known[1]


_busy = threading.local()


def apply(mask: Mask, plain: Any) -> Any:
    """``mask(plain)``, or what says that it failed. Never raises (but lets Ctrl-C through).

    A mask that itself calls traced functions does not recurse: their values are hidden whole meanwhile.
    """
    if getattr(_busy, "masking", False):
        return HIDDEN
    _busy.masking = True
    try:
        return mask(plain)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        trouble.note("masking a value", error)
        return f"<mask failed: {type(error).__name__}>"
    finally:
        _busy.masking = False


def both(first: Mask | None, second: Mask | None) -> Mask | None:
    """A function's own mask and the settings' one: the second sees what the first left."""
    if first is None or second is None or first is second:
        return first or second
    inner, outer = first, second
    return lambda value: outer(inner(value))
