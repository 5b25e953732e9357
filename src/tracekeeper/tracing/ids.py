"""Trace and span ids from a generator of our own.

The global ``random`` is the program's: an evaluation script that calls ``random.seed(42)`` must not get the same ids
twice. The generator is seeded by the operating system, and again in a forked child, which would otherwise repeat its
parent's ids. ``getrandbits`` is one C call, so it is atomic and safe in a finaliser or a signal handler.
"""

from __future__ import annotations

import os
import random

_generator = random.Random(os.urandom(32))
bits = _generator.getrandbits
"""``bits(n) -> int``. Reseeding changes the generator in place, so this may be kept by others."""

uniform = _generator.random
"""``uniform() -> float`` in [0, 1), for sampling."""

epoch = 0
"""How many forks lie between the first process and this one: a span belongs to the epoch that began it."""


def trace_id() -> bytes:
    """16 random bytes."""
    return bits(128).to_bytes(16, "big")


def span_id() -> bytes:
    """8 random bytes."""
    return bits(64).to_bytes(8, "big")


def _after_fork_in_child() -> None:
    global epoch
    _generator.seed(os.urandom(32))
    epoch += 1


if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
