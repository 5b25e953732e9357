"""``tk.testing``: a keeper of one's own, and everything as before afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.support import spans

from tracekeeper import configuration
from tracekeeper.testing import temporary_keeper
from tracekeeper.testing.pytest_plugin import tracekeeper_keeper
from tracekeeper.tracing import runtime
from tracekeeper.tracing.runtime import Keeper

__all__ = ["tracekeeper_keeper"]


def test_the_configuration_is_as_before_and_nothing_is_left(tmp_path: Path) -> None:
    configuration.configure(directory=tmp_path / "mine", project="mine", tags=["a"])
    before = configuration.settings()
    with temporary_keeper(project="test") as keeper:
        assert runtime.keeper() is keeper
        assert keeper.project == "test"
        spans.call(keeper)
        assert keeper.ship(30) is None
        place = keeper.directory
        assert spans.statuses(place) == {"ok": 1}
    assert configuration.settings() == before
    assert not place.parent.exists()
    assert runtime.keeper().directory == tmp_path / "mine"
    assert keeper not in runtime.keepers()


def test_what_was_traced_is_stored_and_the_journal_gone_when_the_block_ends(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / "data") as keeper:
        spans.call(keeper)
    assert spans.statuses(tmp_path / "data") == {"ok": 1}
    assert list((tmp_path / "data" / "journal").iterdir()) == []


def test_a_keeper_from_around_the_block_is_left_alone(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / "outer") as outer:
        spans.call(outer)
        with temporary_keeper(tmp_path / "inner") as inner:
            spans.call(inner)
        assert runtime.keeper() is outer
        spans.call(outer)
        assert outer.receipt(30).stored == 2


def test_the_fixture_gives_a_keeper_of_its_own(tracekeeper_keeper: Keeper) -> None:
    assert runtime.keeper() is tracekeeper_keeper
    spans.call(tracekeeper_keeper)
    assert tracekeeper_keeper.receipt(30).stored == 1
