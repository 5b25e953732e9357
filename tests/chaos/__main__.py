"""``python -m tests.chaos``: ten minutes of chaos; ``CHAOS_SECONDS`` and ``CHAOS_SEED`` change that."""

from __future__ import annotations

import os
import random
import signal
import sys

from tests.chaos.report import chaos


def main() -> int:
    """Print the seed, a line about every ten seconds, and the summary. 0 when nothing is wrong."""
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    for each in (signal.SIGTERM, signal.SIGHUP):  # leave through the same door as Ctrl-C, which leaves nothing behind
        signal.signal(each, signal.default_int_handler)
    print(f"chaos for {seconds:g} s; repeat with CHAOS_SEED={seed}", flush=True)
    try:
        result = chaos(seed, seconds, settle=60 + seconds / 5, say=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(f"interrupted; repeat with CHAOS_SEED={seed}")
        return 130
    print(result.text())
    result.forget()
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
