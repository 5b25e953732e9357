"""Prints: seconds of a local run; of one on Ray with 2 workers, and of those until its first result."""

import os
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from items import items, right
from rounds import AT_ONCE, COUNT, KIND, PAUSE

import tracekeeper as tk
from tracekeeper.testing import temporary_keeper


def tasks():
    """Made here, so that they are sent by value: workers do not have this folder."""
    seconds = PAUSE

    def task(number):
        time.sleep(seconds)
        return number

    async def atask(number):
        import asyncio

        await asyncio.sleep(seconds)
        return number

    return atask if KIND == "async" else task


ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
said = []
with temporary_keeper():
    tk.evaluate(items[:10], tasks(), metrics=[right])
    for executor in ("local", "ray"):
        results = []
        begun = time.perf_counter()
        experiment = tk.evaluate(
            items,
            tasks(),
            metrics=[right],
            concurrency=AT_ONCE,
            executor=executor,
            on_result=lambda one, results=results: results.append(time.perf_counter()),
        )
        said.append((time.perf_counter() - begun, results[0] - begun))
        exact = experiment.summary().metrics["right"]
        assert (exact.mean, exact.scored, len(experiment)) == (1, COUNT, COUNT)
ray.shutdown()
print(said[0][0], said[1][0], said[1][1])
