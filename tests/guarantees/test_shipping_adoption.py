"""What dead processes left: whose it is, where it goes, and what becomes of damaged and foreign files."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.support import programs, spans

from tracekeeper.journal.layout import CHUNKS
from tracekeeper.testing import temporary_keeper

LEFT = (
    spans.PRELUDE
    + """
import tracekeeper.tracing.keeper as module
module.Keeper._make_shipper = lambda self: sys.exit()  # a process that is killed before it could store anything
k = keeper()
for n in range(20): call(k, str(n))
begin(k, "open")
os._exit(0)
"""
)


def left_behind(tmp_path: Path, **environment: str) -> Path:
    """A directory with the journal of a dead process: 20 calls and an open one."""
    done = programs.run(LEFT, tmp_path, **environment)
    assert done.code == 0, done.err
    data = tmp_path / ".tracekeeper"
    assert len(spans.journals(data)) == 1
    return data


def test_a_dead_process_is_adopted_by_whoever_comes_next(tmp_path: Path) -> None:
    data = left_behind(tmp_path)
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
        assert spans.statuses(data) == {"ok": 20, "interrupted": 1}
        (row,) = keeper.store().journal_rows()
        assert (row.state, row.spans_stored) == ("recovered", 21)
        assert keeper.receipt(30).journaled == 0, "they are not this process's spans"
    assert list((data / "journal").iterdir()) == []


def test_several_adopters_at_once_store_it_once(tmp_path: Path) -> None:
    data = left_behind(tmp_path)
    adopters = [
        programs.start(
            spans.PRELUDE
            + """
k = keeper()
print("ready", flush=True)
sys.stdin.readline()
assert k.ship(30) is None
""",
            tmp_path,
        )
        for _ in range(3)
    ]
    for adopter in adopters:
        programs.ready(adopter)
    for adopter in adopters:
        assert adopter.stdin is not None
        adopter.stdin.write("\n")
        adopter.stdin.flush()
    for adopter in adopters:
        _, err = adopter.communicate(timeout=60)
        assert (adopter.returncode, programs.said(err)) == (0, "")
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
    assert spans.statuses(data) == {"ok": 20, "interrupted": 1}
    assert spans.doubled(data) == []


@pytest.mark.parametrize("point", ["shipper.planned", "store.apply.commit", "store.apply.committed", "shipper.stored"])
def test_an_adopter_that_is_killed_is_succeeded(tmp_path: Path, point: str) -> None:
    data = left_behind(tmp_path)
    done = programs.run(
        spans.PRELUDE
        + f"""
from tracekeeper.types import faults
faults.arm({point!r}, faults.killing())
keeper().ship(30)
""",
        tmp_path,
    )
    assert done.code == -9, done.err
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
    assert spans.statuses(data) == {"ok": 20, "interrupted": 1}
    assert spans.doubled(data) == []
    assert spans.journals(data) == []


def test_a_directory_that_was_moved_takes_its_journals_along(tmp_path: Path) -> None:
    data = left_behind(tmp_path)
    moved = tmp_path / "moved"
    shutil.move(data, moved)
    with temporary_keeper(moved) as keeper:
        assert keeper.ship(30) is None
    assert spans.statuses(moved) == {"ok": 20, "interrupted": 1}
    assert not data.exists()


def test_a_journal_of_another_store_goes_there_if_it_is_there(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "tracekeeper.db"
    data = left_behind(tmp_path, TRACEKEEPER_STORE=f"sqlite:///{other}")
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
        assert len(spans.journals(data)) == 1
        (entry,) = keeper.status()["journals"]
        assert not entry["alive"]
        assert str(other) in entry["reason"]
        other.parent.mkdir()
        with temporary_keeper(tmp_path / "third", store=f"sqlite:///{other}") as third:
            third.store()
        assert keeper.ship(30) is None
        assert keeper.status()["journals"] == []
    assert spans.statuses(other.parent) == {"ok": 20, "interrupted": 1}
    assert spans.stored(data) == []


def test_damaged_frames_are_counted_and_the_good_ones_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = left_behind(tmp_path)
    (journal,) = spans.journals(data)
    with journal.open("r+b") as file:
        file.seek(CHUNKS + 400)
        file.write(b"\xff" * 40)
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
        assert keeper.ship(30) is None
        (aside,) = keeper.status()["set_aside"]
        (row,) = keeper.store().journal_rows()
        assert row.damaged >= 1
    assert Path(aside).exists()
    assert spans.journals(data) == []
    assert len(spans.stored(data)) >= 18
    assert caplog.text.count("moved aside") == 1


@pytest.mark.parametrize("content", [b"", b"something else entirely", os.urandom(100_000)])
def test_a_file_that_is_no_journal_is_moved_aside_and_named_once(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = left_behind(tmp_path)
    stranger = data / "journal" / "1-1-stranger.journal"
    stranger.write_bytes(content)
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
        assert keeper.ship(30) is None
    assert stranger.with_name("1-1-stranger.journal.damaged").read_bytes() == content
    assert not stranger.exists()
    assert spans.statuses(data) == {"ok": 20, "interrupted": 1}
    assert caplog.text.count("stranger") >= 1
    assert caplog.text.count("moved aside") == 1


def test_a_newer_versions_journal_is_left_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = left_behind(tmp_path)
    (journal,) = spans.journals(data)
    content = bytearray(journal.read_bytes())
    for copy in (0, 2048):
        content[copy + 8 : copy + 12] = (99).to_bytes(4, sys.byteorder)
    journal.write_bytes(bytes(content))
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
        assert keeper.ship(30) is None
        (entry,) = keeper.status()["journals"]
        assert "newer" in entry["reason"]
    assert journal.exists()
    assert caplog.text.count("is left where it is") == 1


def test_status_shows_the_living_and_the_dead(tmp_path: Path) -> None:
    process = programs.start(
        spans.PRELUDE
        + """
call(keeper())
print("ready", flush=True)
sys.stdin.readline()
""",
        tmp_path,
    )
    programs.ready(process)
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        spans.call(keeper)
        shown = {entry["pid"]: entry for entry in keeper.status()["journals"]}
    process.communicate("\n", timeout=30)
    assert shown[process.pid]["alive"]
    assert not shown[process.pid]["mine"]
    assert shown[os.getpid()]["mine"]
    assert shown[os.getpid()]["bytes"] > 0
