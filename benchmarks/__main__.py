"""``python -m benchmarks [name …]``: run benchmarks and print their tables."""

from __future__ import annotations

import importlib
import os
import platform
import sys

NAMES = {
    "startup": "what an import and a first traced call cost, beside the peers",
    "traced_call": "what a traced call costs its caller, beside the peers",
    "stream": "what a streamed chunk costs",
    "clients": "what tracing adds to a model client's call and to its streams' chunks, beside the peers",
    "lm": "what a call by tk.LM costs beside the bare SDK and LiteLLM, and one that the cache answers",
    "maps": "1,000 calls of 50 ms at 16, 64 and 256 at once, beside the ideal, plain pools, anyio and dspy.Parallel",
    "evaluate": "1,000 evaluated calls of 50 ms beside the ideal and the peers, cost of an item (BENCH_ITEMS: fewer)",
    "ingest": "stored spans a second, beside a bulk insert of the same rows",
    "scoring": "scored records a second, call end to visible score, twenty records that wait",
    "workers": "claimed scores a second: one worker and two, claims alone",
    "isolation": "what an evaluation in a process of its own costs",
    "linear": "settling and reading at 10k to 1M stored scores (BENCH_SCORES: fewer)",
    "growth": "storing and reading at 1k to 1M stored spans (BENCH_SPANS: fewer)",
}

USAGE = "python -m benchmarks [name …]\n\n" + "\n".join(f"  {name:<12} {about}" for name, about in NAMES.items())


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    if {"-h", "--help"} & {*names}:
        print(USAGE)
        return 0
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for name in names or NAMES:
        importlib.import_module(f"benchmarks.{name}").main()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
