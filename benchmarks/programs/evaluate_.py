"""What the programs of the benchmark of evaluations share: arguments, the task, how a round is timed."""

import asyncio
import sys
import time

KIND = sys.argv[1]
AT_ONCE, ITEMS = int(sys.argv[2]), int(sys.argv[3])
PAUSE, ROUNDS = float(sys.argv[4]), int(sys.argv[5])


def task(number):
    if PAUSE:
        time.sleep(PAUSE)
    return number


async def atask(number):
    if PAUSE:
        await asyncio.sleep(PAUSE)
    return number


def best(run):
    """Print the seconds of the best round of ``run()``, which gives the mean of a metric that is 1 for each item."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        mean = run()
        took.append(time.perf_counter() - begun)
        assert mean == 1, f"the mean is {mean}"
    print(min(took), flush=True)
