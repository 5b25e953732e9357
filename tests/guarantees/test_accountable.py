"""G10: one ledger. Journaled = stored + pending, what was dropped is counted, every door shows the same."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from tests.support import programs

import tracekeeper as tk


def test_a_receipt_adds_up_while_threads_write(keeper: Any) -> None:
    @tk.trace
    def call(n: int) -> int:
        return n

    def work() -> None:
        for n in range(500):
            call(n)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        receipt = tk.flush(timeout=30)
        assert receipt.journaled == receipt.stored + receipt.pending
    for thread in threads:
        thread.join()
    receipt = tk.flush(timeout=30)
    assert (receipt.complete, receipt.journaled, receipt.stored, receipt.pending) == (True, 4000, 4000, 0)
    assert receipt.dropped == {}


def test_the_receipt_counts_scores_by_status(keeper: Any) -> None:
    def good(output: str) -> float:
        return 1.0

    def bad(output: str) -> float:
        raise ValueError

    @tk.app(name="a", version="1", metrics=[good, bad])
    def ask(q: int) -> str:
        return "mild"

    for number in range(10):
        ask(number)
    ask.app.wait_for_scores(timeout=30)
    assert tk.flush(timeout=30).scores == {"scored": 10, "failed": 10}


def test_the_command_and_the_library_show_the_same_numbers(tmp_path: Path) -> None:
    done = programs.run(
        """
        import tracekeeper as tk
        @tk.trace
        def call(n): return n
        for n in range(25): call(n)
        print(tk.flush(timeout=30).stored)
        """,
        tmp_path,
    )
    assert done.out.strip() == "25", done.err
    shown = programs.run("from tracekeeper.cli import main; import sys; sys.exit(main(['status', '--json']))", tmp_path)
    assert shown.code == 0, shown.err
    assert '"spans": 25' in json.dumps(json.loads(shown.out))
