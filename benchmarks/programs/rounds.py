"""What the programs of the benchmarks of maps and evaluations share: arguments, the calls, the best of some rounds."""

import asyncio
import sys
import time

KIND = sys.argv[1]
AT_ONCE, COUNT = int(sys.argv[2]), int(sys.argv[3])
PAUSE, ROUNDS = float(sys.argv[4]), int(sys.argv[5])


def task(number):
    if PAUSE:
        time.sleep(PAUSE)
    return number


async def atask(number):
    if PAUSE:
        await asyncio.sleep(PAUSE)
    return number


either = atask if KIND == "async" else task
"""The call of the kind that is asked for."""


def best(run, wanted):
    """Print the seconds of the best round of ``run()``, each of which has to give what is ``wanted``."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = run()
        took.append(time.perf_counter() - begun)
        assert found == wanted, f"a round gave {str(found)[:80]}"
    print(min(took), flush=True)
