"""Prints: seconds until it returned, seconds from then until all is stored, bytes an item, items that are stored."""

import gc
import time

from evaluate_ import AT_ONCE, ITEMS, KIND, ROUNDS, atask, task

import tracekeeper as tk
from tracekeeper.testing import temporary_keeper


def right(output, expected):
    return output == expected


def held():
    """Bytes of memory that is the process's own: the mapped journal and the mapped database are files."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


items = [{"id": str(number), "number": number, "expected": number} for number in range(ITEMS)]
function = atask if KIND == "async" else task
rounds = []
with temporary_keeper():
    tk.evaluate(items[:10], function, metrics=[right])
    tk.flush(timeout=60)
    for _ in range(ROUNDS):
        before = held()
        begun = time.perf_counter()
        experiment = tk.evaluate(items, function, metrics=[right], concurrency=AT_ONCE)
        returned = time.perf_counter()
        receipt = tk.flush(timeout=120)
        stored = time.perf_counter() - returned
        assert receipt.complete, receipt
        exact = experiment.summary().metrics["right"]
        assert (exact.mean, exact.scored, len(experiment)) == (1, ITEMS, ITEMS)
        rounds.append((returned - begun, stored, (held() - before) / ITEMS))
        del experiment
best = min(rounds)
print(best[0], best[1], rounds[0][2])
