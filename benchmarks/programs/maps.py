"""What the programs of the benchmark of maps share: arguments, the calls, the best of some rounds."""

import asyncio
import sys
import time

KIND = sys.argv[1]
AT_ONCE, CALLS = int(sys.argv[2]), int(sys.argv[3])
PAUSE, ROUNDS = float(sys.argv[4]), int(sys.argv[5])


def call(number):
    if PAUSE:
        time.sleep(PAUSE)
    return number


async def acall(number):
    if PAUSE:
        await asyncio.sleep(PAUSE)
    return number


def best(run):
    """Print the seconds of the best round of ``run()``, which gives the results in order."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        results = run()
        took.append(time.perf_counter() - begun)
        assert list(results) == list(range(CALLS)), "results are missing or out of order"
    print(min(took))
