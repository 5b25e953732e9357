"""The keeper without its store: finding it, writing, disks that refuse, definitions, switches."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path

import pytest
from tests.support import garbage, spans

from tracekeeper import configuration
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.frames import Definition, SpanStart, decode
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal
from tracekeeper.testing import temporary_keeper
from tracekeeper.tracing import intake, runtime
from tracekeeper.tracing.runtime import Keeper
from tracekeeper.types import faults


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """A keeper whose shipper never runs: these tests look at the journal."""
    monkeypatch.setattr("tracekeeper.shipper.worker.Worker.wake", lambda self: None)
    configuration.configure(directory=tmp_path / "data")
    return Keeper(configuration.settings(), tmp_path / "data")


def written(directory: Path) -> list[object]:
    found: list[object] = []
    for path in spans.journals(directory):
        reader = JournalReader(path)
        frames, _, damaged = reader.read(Cursor())
        reader.close()
        assert damaged == 0
        found += [decode(payload) for _, payload in frames]
    return found


def test_the_same_settings_give_the_same_keeper_and_no_file(tmp_path: Path) -> None:
    configuration.configure(directory=tmp_path / "a")
    first = runtime.keeper()
    assert runtime.keeper() is first
    configuration.configure(sample=0.5)
    assert runtime.keeper() is first
    configuration.configure(directory=tmp_path / "b")
    assert runtime.keeper() is not first
    configuration.configure(directory=tmp_path / "a")
    assert runtime.keeper() is first
    assert list(tmp_path.iterdir()) == []


def test_an_unnamed_directory_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".tracekeeper").mkdir()
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert runtime.keeper().directory == tmp_path / ".tracekeeper"
    monkeypatch.chdir("/")
    configuration.configure(sample=0.1)
    assert runtime.keeper().directory == tmp_path / ".tracekeeper"


def test_a_relative_store_means_the_same_file_to_everybody(tmp_path: Path) -> None:
    configuration.configure(store="sqlite:///there.db", directory=tmp_path / "data")
    assert runtime.keeper().store_url == f"sqlite:///{tmp_path}/there.db"


def test_a_frame_is_on_disk_when_write_returns(quiet: Keeper) -> None:
    assert spans.call(quiet)
    assert [type(frame).__name__ for frame in written(quiet.directory)] == ["SpanStart", "SpanEnd"]


@pytest.mark.slow
def test_the_database_layer_is_not_imported_by_a_write(tmp_path: Path) -> None:
    from tests.support import programs

    done = programs.run(
        spans.PRELUDE
        + """
from tracekeeper.shipper.worker import Worker
Worker.wake = lambda self: None  # the shipper's thread may import what it likes
k = keeper()
call(k)
print("sqlalchemy" in sys.modules)
""",
        tmp_path,
    )
    assert done.out.split() == ["False"], done.err


def test_the_kill_switch_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
    configuration.configure(directory=tmp_path / "data")
    keeper = runtime.keeper()
    assert not spans.call(keeper)
    assert keeper.ship(1) is None
    assert keeper.receipt(1).complete
    assert keeper.close(1) is None
    assert not (tmp_path / "data").exists()


def test_switched_off_in_the_settings_nothing_is_written_but_what_a_context_switches_on(tmp_path: Path) -> None:
    configuration.configure(directory=tmp_path / "data", enabled=False)
    keeper = runtime.keeper()
    assert not spans.call(keeper)
    assert not (tmp_path / "data").exists()


def test_definitions_are_written_once_and_again_into_the_next_journal(quiet: Keeper) -> None:
    definition = Definition("app", "rag", "1")
    quiet.define(definition)
    assert not quiet.directory.exists()
    spans.begin(quiet)
    quiet.define(Definition("app", "rag", "1"))
    quiet.define(Definition("app", "rag", "2"))
    assert [type(frame).__name__ for frame in written(quiet.directory)] == ["Definition", "SpanStart", "Definition"]
    quiet.detach()
    spans.begin(quiet)
    assert [type(frame).__name__ for frame in written(quiet.directory)[3:]] == ["Definition", "Definition", "SpanStart"]


def test_a_journal_that_cannot_be_opened_is_said_once_counted_and_tried_again(
    quiet: Keeper, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.armed("journal.prepare", faults.failing(errno.EACCES)):
        for _ in range(3):
            assert not spans.call(quiet)
    assert caplog.text.count("nothing is kept at present") == 1
    assert str(quiet.directory) in caplog.text
    assert quiet.dropped() == {intake.UNOPENED: 6}
    assert not spans.call(quiet), "not tried again within five seconds"
    monkeypatch.setattr(quiet, "_retry_at", 0.0)
    assert spans.call(quiet)
    assert quiet.dropped() == {intake.UNOPENED: 8}


def test_what_cannot_be_encoded_is_mended(quiet: Keeper) -> None:
    identity = b"12345678"
    frame = SpanStart(b"t" * 16, identity, None, identity, "lone \ud800", "task", 2**70, tags=("\udfff", "b"))
    assert quiet.write(frame)
    (found,) = written(quiet.directory)
    assert isinstance(found, SpanStart)
    assert (found.name, found.started, found.tags) == ("lone \\ud800", 2**63 - 1, ("\\udfff", "b"))


def test_what_is_no_frame_at_all_is_counted_and_raises_nothing(quiet: Keeper) -> None:
    recursive: list[object] = []
    recursive.append(recursive)
    assert not quiet.write(recursive)  # type: ignore[arg-type]
    assert quiet.dropped() == {intake.UNENCODED: 1}


def test_many_threads_write_first_and_nothing_is_lost_or_overtaken(quiet: Keeper) -> None:
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait(10)
        for _ in range(20):
            assert spans.call(quiet, f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(spans.journals(quiet.directory)) == 1
    open_now: set[bytes] = set()
    frames = written(quiet.directory)
    assert len(frames) == 320
    for frame in frames:
        if isinstance(frame, SpanStart):
            open_now.add(frame.span_id)
        else:
            open_now.remove(frame.span_id)  # type: ignore[attr-defined]
    assert not open_now


@pytest.mark.slow
def test_a_finaliser_and_a_signal_handler_may_write_while_the_journal_is_opened(quiet: Keeper) -> None:
    class Finalised:
        def __del__(self) -> None:
            spans.call(quiet, "finaliser")

    def interrupt() -> None:
        cycle = Finalised()
        cycle.itself = cycle  # type: ignore[attr-defined]
        del cycle
        garbage.collect()
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: spans.call(quiet, "handler"))
    try:
        with faults.armed("journal.prepare", interrupt):
            assert spans.call(quiet, "outer")
    finally:
        signal.signal(signal.SIGUSR1, before)
    starts = [frame.name for frame in written(quiet.directory) if isinstance(frame, SpanStart)]
    assert sorted(starts) == ["finaliser", "handler", "outer"]


def test_the_first_write_in_a_finaliser_starts_the_shipper(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / "data") as keeper:

        class Finalised:
            def __del__(self) -> None:
                spans.call(keeper, "finaliser")

        Finalised()
        assert keeper.ship(30) is None
    assert spans.stored(tmp_path / "data") == [("finaliser", "ok")]


def test_configuring_another_store_keeps_the_first_one_shipping(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / "data") as first:
        spans.call(first, "first")
        configuration.configure(store=f"sqlite:///{tmp_path / 'other.db'}")
        second = runtime.keeper()
        assert second is not first
        spans.call(second, "second")
        spans.call(first, "first again")
        assert first.ship(30) is None
        assert second.ship(30) is None
    assert [name for name, _ in spans.stored(tmp_path / "data")] == ["first", "first again"]


def test_who_waits_for_the_journal_returns_to_a_frame_that_is_written_and_accounted_for(
    quiet: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    write = Journal.write

    def slow(journal: Journal, payload: bytes) -> bool:
        if not inside.is_set():
            inside.set()
            assert go_on.wait(20)
        return write(journal, payload)

    monkeypatch.setattr(Journal, "write", slow)
    returned: list[int] = []

    def work(number: int) -> None:
        assert quiet.write(Definition("app", "a", str(number)))
        returned.append(number)

    first, second = (threading.Thread(target=work, args=(number,)) for number in range(2))
    first.start()
    assert inside.wait(20)
    second.start()
    assert quiet.used, "a receipt asked for now knows that there is a journal"
    assert returned == []
    go_on.set()
    for thread in (first, second):
        thread.join(20)
    assert sorted(returned) == [0, 1]
    assert [frame.version for frame in written(quiet.directory)] == ["0", "1"]  # type: ignore[attr-defined]
