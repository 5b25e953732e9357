"""A dataset of any size takes the memory of a page: in, out, selected, compared and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import programs

PROGRAM = """
import resource, sys
import tracekeeper as tk
from tracekeeper.evaluation.datasets.items import items_of

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)

tk.Dataset("warm").insert({"n": n, "text": "x" * 1_000} for n in range(3_000)).to_jsonl("warm.jsonl")
tk.Dataset.from_jsonl("warm back", "warm.jsonl").schema()
before = used()
dataset = tk.Dataset("big").insert({"n": n, "text": f"{n} " * 200, "tags": "odd" * (n % 2)} for n in range(COUNT))
inserted = used()
assert sum(1 for _ in dataset) == sum(1 for _ in items_of(dataset)) == len(dataset) == COUNT
assert len(dataset.select(tags="odd", sample=10)) == 10
dataset.to_jsonl("big.jsonl")
dataset.to_csv("big.csv")
again = tk.Dataset.from_jsonl("again", "big.jsonl")
assert again.version == dataset.version
print(round(inserted - before), round(used() - before))
"""


@pytest.mark.slow
def test_a_large_dataset_is_never_in_memory(tmp_path: Path) -> None:
    """50,000 items are 70 MB of text; all that is done with them takes less than half of that."""
    done = programs.run(PROGRAM.replace("COUNT", "50_000"), tmp_path, timeout=300)
    assert done.code == 0, done.err
    inserted, all_of_it = map(int, done.out.split())
    assert inserted < 30
    assert all_of_it < 30
