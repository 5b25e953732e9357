"""A journal before there is anything to write, and whoever works on the store stopping before it is closed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tracekeeper.testing import temporary_keeper


def test_a_journal_is_opened_without_a_frame_and_only_once(keeper: Any) -> None:
    assert not keeper.ships
    journal = keeper.begin()
    assert journal is not None
    assert keeper.begin() is journal
    assert journal.frames_written() == 0
    assert keeper.ship(20) is None
    assert keeper.ships
    assert keeper.store().journal_row(journal.name) is not None


def test_switched_off_there_is_none() -> None:
    with temporary_keeper(enabled=False) as keeper:
        assert keeper.begin() is None
        assert not keeper.directory.exists()


def test_a_journal_that_cannot_be_opened_is_told_as_ever(keeper: Any, caplog: pytest.LogCaptureFixture) -> None:
    keeper.directory.parent.mkdir(parents=True, exist_ok=True)
    keeper.directory.write_text("a file where the data directory should be")
    assert keeper.begin() is None
    assert "nothing is kept at present" in caplog.text
    keeper.directory.unlink()


def test_whoever_works_on_the_store_is_stopped_before_it_is_closed(keeper: Any) -> None:
    told: list[float] = []
    keeper.before_close.append(told.append)
    keeper.begin()
    assert keeper.close(20) is None
    [deadline] = told
    assert deadline > time.monotonic() - 20
