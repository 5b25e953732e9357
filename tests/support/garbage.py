"""A full garbage collection that is known to have happened."""

from __future__ import annotations

import gc
import threading


def collect() -> None:
    """``gc.collect()`` does nothing while another thread is in a collection; this one goes on until it did."""
    collected: list[None] = []
    here = threading.get_ident()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2 and threading.get_ident() == here:
            collected.append(None)

    gc.callbacks.append(note)
    try:
        while not collected:
            gc.collect()
    finally:
        gc.callbacks.remove(note)
