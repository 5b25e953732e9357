"""Receipts and the status: figures that fit together."""

from __future__ import annotations

import math
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.reading.accounts import status
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.store import Store
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.types import ConfigurationError, StoreError


def test_a_receipt_accounts_for_every_span_and_score(keeper: Keeper) -> None:
    for _ in range(3):
        tk.log_record(input="q", output="a", metrics=[tk.metric(lambda output: 1.0, name="one")])
    tk.records()
    receipt = tk.flush()
    assert (receipt.journaled, receipt.stored, receipt.pending, receipt.complete) == (3, 3, 0, True)
    assert sum(receipt.scores.values()) == 3


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, "5", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout="):
        tk.flush(timeout)


def test_flush_before_anything_was_traced_is_an_empty_receipt(keeper: Keeper) -> None:
    receipt = tk.flush()
    assert (receipt.journaled, receipt.pending, receipt.complete) == (0, 0, True)


def test_the_status_shows_what_the_store_and_the_journals_say(keeper: Keeper) -> None:
    tk.log_record(input="q", output="a", metrics=[tk.metric(lambda output: 1.0, name="one", mode="deferred")])
    found = status()
    assert found["store_error"] is None
    assert (found["stored"]["records"], found["stored"]["spans"]) == (1, 1)
    [journal] = found["journals"]
    assert (journal["state"], journal["spans_stored"], journal["pending"]) == ("live", 1, 0)
    [score] = found["open"]
    assert (score["name"], score["status"]) == ("one", "pending")
    assert score["age"] > 0
    assert score["pid"] == journal["pid"]


@pytest.mark.slow
def test_the_status_counts_what_is_only_in_the_journal(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    tk.log_record(input="q", output="a")
    tk.flush()

    def locked(*arguments: Any, **options: Any) -> Any:
        raise StoreLocked("the database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "apply", locked)
        for _ in range(2):
            tk.log_record(input="q", output="a")
        found = status(timeout=0.5)
    assert found["note"]
    [journal] = found["journals"]
    assert (journal["spans_stored"], journal["pending"]) == (1, 2)


def test_a_store_that_cannot_be_read_still_shows_the_journals(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    tk.log_record(input="q", output="a")

    def broken(self: Keeper) -> Any:
        raise StoreError("the file is no database")

    monkeypatch.setattr(Keeper, "store", broken)
    found = status()
    assert found["store_error"] == "the file is no database"
    assert [journal["state"] for journal in found["journals"]] == ["live"]
