"""Where tracing's own failures go: counted always, said once per place, never raised.

Tracing runs inside other people's calls, so a failure of ours (a bug, a hostile object, a full disk) must neither
reach them nor fill their log. ``quiet`` is for finalisers: they may run while the same thread is inside the logging
module's locks, so they only count, and what they counted is said by the next ordinary failure or by ``counts``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("tracekeeper")

_counts: dict[str, int] = {}
_said: set[str] = set()


def note(place: str, error: BaseException, *, quiet: bool = False) -> None:
    """Count a failure at ``place``; log it with its traceback the first time (unless ``quiet``)."""
    _counts[place] = _counts.get(place, 0) + 1
    if quiet or place in _said:
        return
    _said.add(place)
    try:
        log.warning(
            "tracing failed while %s (%s); the traced program goes on, further failures of this kind are only counted",
            place,
            type(error).__name__,
        )
        log.debug("traceback of the failure while %s", place, exc_info=error)
    except Exception:  # noqa: BLE001  a log handler of the program's raised: nobody is left to be told, the count stands
        _counts["saying so"] = _counts.get("saying so", 0) + 1


def guarded(place: str) -> Callable[[F], F]:
    """For methods that programs call on spans: whatever fails inside is noted, and the span itself is returned."""

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def safely(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001
                note(place, error)
                return self

        return safely  # type: ignore[return-value]

    return decorate


def counts() -> dict[str, int]:
    """Failures so far by place."""
    return dict(_counts)


def forget() -> None:
    """Start counting and saying anew. For tests."""
    _counts.clear()
    _said.clear()
