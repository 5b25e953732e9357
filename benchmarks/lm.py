"""What a call of a model costs by ``tk.LM``, beside the bare SDK and LiteLLM; and one that the cache answers.

Against the local server that speaks the formats, in a process of its own; all take turns. Wall time is what a caller
waits, processor time is of this whole process: ``tk.LM`` works in a thread of its own. ``BENCH_CALLS`` in a round.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import tracekeeper as tk
from benchmarks.clients import wire
from benchmarks.report import table, verdict

CALLS = int(os.environ.get("BENCH_CALLS", "60"))
ROUNDS = 5
TARGET = 0.5
"""Share of what LiteLLM adds to the bare SDK's call that ``tk.LM`` may add, tracing included."""
CACHED = 1.0
"""Milliseconds that an answer from the cache may take."""
MESSAGES = [{"role": "user", "content": "What is the weather like?"}]


def main() -> None:
    """Each way in turn, the medians of the rounds."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # LiteLLM would ask the network for prices
    with wire() as url, tempfile.TemporaryDirectory() as directory:
        tk.configure(directory=directory)
        found = asyncio.run(_measured(_ways(f"{url}/v1")))
        tk.shutdown()
    bare = found["openai"][0], found["openai, async"][0]
    rows = []
    for title, (wall, cpu) in found.items():
        added = wall - bare["async" in title]
        met = ""
        if title.startswith("tk.LM"):
            lite = found[title.replace("tk.LM", "LiteLLM")][0] - bare["async" in title] if "cache" not in title else 0.0
            met = verdict(wall, CACHED) if "cache" in title else verdict(added, TARGET * lite)
        rows.append((title, wall, cpu, "" if title.startswith("openai") else added, met))
    columns = ("call", "wall ms", "processor ms", "beyond the bare SDK", "target")
    table("A call of a model, median of rounds", columns, rows)


def _ways(base: str) -> dict[str, tuple[bool, Callable[[], Any]]]:
    openai = importlib.import_module("openai")
    litellm = importlib.import_module("litellm")
    client, aclient = (kind(api_key="k", base_url=base) for kind in (openai.OpenAI, openai.AsyncOpenAI))
    lm = tk.LM("openai/full", api_base=base, api_key="k")
    kept = tk.LM("openai/full", api_base=base, api_key="k", cache=True)
    asked: dict[str, Any] = {"model": "full", "messages": MESSAGES}
    lite: dict[str, Any] = {"model": "openai/full", "messages": MESSAGES, "api_base": base, "api_key": "k"}
    return {
        "openai": (False, lambda: client.chat.completions.create(**asked)),
        "tk.LM": (False, lambda: lm(MESSAGES)),
        "LiteLLM": (False, lambda: litellm.completion(**lite)),
        "tk.LM, cached": (False, lambda: kept(MESSAGES)),
        "openai, async": (True, lambda: aclient.chat.completions.create(**asked)),
        "tk.LM, async": (True, lambda: lm.acall(MESSAGES)),
        "LiteLLM, async": (True, lambda: litellm.acompletion(**lite)),
        "tk.LM, cached, async": (True, lambda: kept.acall(MESSAGES)),
    }


async def _measured(ways: dict[str, tuple[bool, Callable[[], Any]]]) -> dict[str, tuple[float, float]]:
    """Wall and processor time of a call in ms; in one loop, since LiteLLM's and OpenAI's connections belong to one."""
    rounds: dict[str, list[tuple[float, float]]] = {title: [] for title in ways}
    for number in range(ROUNDS + 1):
        for title, (awaits, call) in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(CALLS):
                if awaits:
                    await call()
                else:
                    call()
            spent = (time.perf_counter() - wall) * 1e3 / CALLS, (time.process_time() - cpu) * 1e3 / CALLS
            if number:  # the first round makes clients and connections
                rounds[title].append(spent)
    return {
        title: tuple(sorted(of)[len(of) // 2] for of in zip(*spent, strict=True)) for title, spent in rounds.items()
    }  # type: ignore[misc]
