"""Where a call is stuck, as a few short lines. Reads frames of other threads; never raises, never reads sources."""

from __future__ import annotations

import os
import sys
from types import CodeType
from typing import Any

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = ("site-packages", "dist-packages")
LIMIT = 8

Places = list[tuple[CodeType, int | None]]
"""Code and line, innermost first."""


def of_thread(ident: int | None) -> Places:
    """Where a thread is, without the frames of this package; empty when it is gone."""
    frame = sys._current_frames().get(ident) if ident is not None else None
    found: Places = []
    while frame is not None and len(found) < LIMIT:
        if frame.f_code.co_filename.startswith(_OURS):
            if found:
                break  # below the first frame of ours there is only the machinery of threads and loops
        else:
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def of_coroutine(coroutine: Any) -> Places:
    """The chain of frames at which a suspended coroutine waits."""
    found: Places = []
    depth = 0
    while coroutine is not None and depth < 64:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_OURS):
            found.append((frame.f_code, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        depth += 1
    return found[::-1][:LIMIT]


def shown(places: Places) -> tuple[str, ...]:
    """One line for each: ``function (file:line)``."""
    return tuple(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line or '?'})" for code, line in places)


def telling(places: Places) -> str:
    """The one line that tells most: the innermost that is not in the standard library, else the innermost."""
    for place in places:
        filename = place[0].co_filename
        if not filename.startswith(_STANDARD) or any(part in filename for part in _INSTALLED):
            return shown([place])[0]
    return shown(places[:1])[0] if places else ""
