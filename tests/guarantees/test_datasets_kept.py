"""Items of a dataset under real processes: those that insert at the same time, and those that are killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.testing import temporary_keeper

INSERT = """
import os, sys
import tracekeeper as tk
from tracekeeper.evaluation.datasets import inserting
from tracekeeper.types import faults

inserting.BATCH = 10
tk.configure(directory={directory!r})
{before}
tk.Dataset("d").insert({{"id": f"i{{n}}", "n": n}} for n in range({count}))
print("done")
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    with temporary_keeper(folder):
        assert len(tk.Dataset("d")) == 0  # the database is there
        yield folder


def numbers() -> list[int]:
    return [item.fields["n"] for item in tk.Dataset("d")]


def test_processes_that_insert_the_same_at_once_store_one_copy(data: Path, tmp_path: Path) -> None:
    ready = 'print("ready"); sys.stdin.readline()'
    code = INSERT.format(directory=str(data), before=ready, count=300)
    processes = [programs.start(code, tmp_path / f"p{n}") for n in range(3)]
    for process in processes:
        assert programs.ready(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, "done"), err
    assert sorted(numbers()) == list(range(300))
    alone = tk.Dataset("alone").insert({"id": f"i{n}", "n": n} for n in range(300))
    assert tk.Dataset("d").version == alone.version
    assert tk.Dataset("d").versions()[-1].complete


@pytest.mark.parametrize(("point", "kept"), [("store.dataset.commit", 40), ("store.dataset.committed", 50)])
def test_a_process_killed_in_an_insert_leaves_whole_batches(data: Path, tmp_path: Path, point: str, kept: int) -> None:
    code = INSERT.format(directory=str(data), before=f'faults.arm("{point}", faults.killing(after=4))', count=95)
    done = programs.run(code, tmp_path)
    assert done.code == -signal.SIGKILL
    assert numbers() == list(range(kept))
    [version] = tk.Dataset("d").versions()
    assert (version.items, version.complete) == (kept, False)
    pinned = tk.Dataset("d").pin()
    again = programs.run(INSERT.format(directory=str(data), before="", count=95), tmp_path)
    assert again.out.strip() == "done", again.err
    assert numbers() == list(range(95))
    assert [item.fields["n"] for item in pinned] == list(range(kept))
    assert tk.Dataset("d").versions()[-1].complete
