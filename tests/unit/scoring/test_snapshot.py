"""What a process says of itself in a file: enough to know what hangs where, seldom, and gone with the process."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.concurrency import Runner
from tracekeeper.scoring import snapshot
from tracekeeper.scoring.engine import Engine, engine_for
from tracekeeper.tracing.keeper import Keeper


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Metrics wait for it; at the end it is open whatever happened."""
    made = threading.Event()
    yield made
    made.set()


def eventually(look: Callable[[], Any], timeout: float = 20) -> Any:
    """What ``look`` finds as soon as it finds something."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def said(keeper: Keeper) -> dict[str, Any] | None:
    found = snapshot.read(keeper.directory)
    return found[0] if found else None


def judge(*metrics: tk.Metric) -> tk.Record:
    return tk.log_record(input="q", output="a", app="rag", metrics=list(metrics))


def stuck_metric(gate: threading.Event, **options: Any) -> tk.Metric:
    def stuck(output: str) -> float:
        gate.wait(60)  # here
        return 1.0

    return tk.metric(stuck, **options)


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(text))


@pytest.mark.slow
def test_a_metric_that_hangs_is_named_with_the_line_where_it_hangs(keeper: Keeper, gate: threading.Event) -> None:
    record = judge(stuck_metric(gate, timeout=60))
    says = eventually(lambda: (found := said(keeper)) and found["running"] and found["running"][0]["where"] and found)
    [call] = says["running"]
    assert (call["metric"], call["attempt"], call["timeout"]) == ("stuck", 1, 60.0)
    assert (call["trace_id"], call["span_id"]) == (record.trace_id, record.span_id)
    assert call["age"] >= snapshot.STACK_AFTER
    assert call["where"].endswith(f"stuck (test_snapshot.py:{line_of('# here')})")
    assert any("Event.wait" in line for line in call["stack"])
    assert not any("attempts.py" in line for line in call["stack"]), "the metric's own frames only"
    assert (says["pid"], says["running_count"]) == (os.getpid(), 1)


@pytest.mark.slow
def test_what_timed_out_and_goes_on_is_told_apart_until_it_comes_back(
    keeper: Keeper, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "AGAIN", 1.0)

    def held_up() -> bool:  # other tests of this process may have left some of their own
        return "metric 'held'" in [call["name"] for call in (said(keeper) or {"held_up": []})["held_up"]]

    record = judge(stuck_metric(gate, name="held", timeout=0.2))
    assert record.wait_for_scores(timeout=20)["held"].status == "timed_out"
    eventually(held_up)
    says = said(keeper)
    assert says is not None
    assert says["abandoned_threads"] >= 1
    assert says["running"] == []
    gate.set()
    eventually(lambda: not held_up())


@pytest.mark.slow
def test_when_all_is_done_the_file_says_so(keeper: Keeper, gate: threading.Event) -> None:
    record = judge(stuck_metric(gate))
    eventually(lambda: (found := said(keeper)) and found["running_count"])
    gate.set()
    record.wait_for_scores(timeout=20)
    says = eventually(lambda: (found := said(keeper)) and not found["running_count"] and found)
    assert (says["waiting"], says["settled"]) == (0, {"scored": 1})


@pytest.mark.slow
def test_it_is_written_at_most_once_a_second_and_not_when_nothing_changes(
    keeper: Keeper, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "abandoned", lambda self: (0, 0))  # what other tests of this process have left
    judge(stuck_metric(gate))
    eventually(lambda: (found := said(keeper)) and found["running_count"])
    written: list[float] = []
    put = snapshot._put

    def seen(path: Path, data: bytes) -> None:
        if path.parent == snapshot.folder(keeper.directory):  # not of an engine that another test has left
            written.append(time.monotonic())
        put(path, data)

    monkeypatch.setattr(snapshot, "_put", seen)
    eventually(lambda: len(written) >= 3)
    assert min(b - a for a, b in itertools.pairwise(written)) >= snapshot.EVERY * 0.9
    gate.set()
    engine = engine_for(keeper)
    assert engine.wait(20)
    eventually(lambda: (found := said(keeper)) and not found["running_count"])
    engine_state = snapshot._written[engine]
    engine_state.at, before = float("-inf"), len(written)
    snapshot.write(engine)
    assert len(written) == before


def test_only_its_owner_can_read_it_and_nothing_half_written_is_ever_there(
    keeper: Keeper, gate: threading.Event
) -> None:
    judge(stuck_metric(gate))
    eventually(lambda: said(keeper))
    [path] = snapshot.folder(keeper.directory).glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_disk_that_is_full_costs_the_view_and_no_score(
    keeper: Keeper, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(snapshot, "_put", full)
    gate.set()
    assert judge(stuck_metric(gate)).wait_for_scores(timeout=20)["stuck"].value == 1.0
    assert engine_for(keeper).errors == 0


def test_without_a_journal_there_is_nothing_to_say(keeper: Keeper) -> None:
    snapshot.write(Engine(keeper))
    assert not snapshot.folder(keeper.directory).exists()


def test_files_of_dead_processes_and_of_others_are_not_read(keeper: Keeper, gate: threading.Event) -> None:
    judge(stuck_metric(gate))
    eventually(lambda: said(keeper))
    place = snapshot.folder(keeper.directory)
    (place / "0-1-dead.json").write_text('{"version": 1}')
    [mine] = (path for path in place.glob("*.json") if "dead" not in path.name)
    assert [found["pid"] for found in snapshot.read(keeper.directory)] == [os.getpid()]
    assert not (place / "0-1-dead.json").exists()
    mine.write_text("no json")
    assert snapshot.read(keeper.directory) == []


LEAVES = """
    import time
    import tracekeeper as tk
    tk.configure(directory="data")
    def slow(output):
        time.sleep({seconds})
        return 1
    tk.log_record(input="q", output="a", app="rag", metrics=[tk.metric(slow)])
    deadline = time.monotonic() + 20
    from pathlib import Path
    while not list(Path("data/processes").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    print(len(list(Path("data/processes").glob("*.json"))), flush=True)
"""


@pytest.mark.slow
def test_a_process_takes_its_file_along_when_it_ends(tmp_path: Path) -> None:
    finished = programs.run(LEAVES.format(seconds=1), tmp_path)
    assert (finished.code, finished.out.strip()) == (0, "1"), finished.err
    assert list((tmp_path / "data" / "processes").iterdir()) == []


def test_the_file_of_a_process_that_was_killed_is_dropped_by_who_reads(tmp_path: Path) -> None:
    process = programs.start(LEAVES.format(seconds=60), tmp_path)
    try:
        assert programs.ready(process) == "1"
        [says] = snapshot.read(tmp_path / "data")
        assert says["pid"] == process.pid
    finally:
        programs.kill(process)
    assert snapshot.read(tmp_path / "data") == []
    assert list((tmp_path / "data" / "processes").glob("*.json")) == []


@pytest.mark.slow
def test_looking_costs_little(keeper: Keeper, gate: threading.Event) -> None:
    judge(*(stuck_metric(gate, name=f"m{n}") for n in range(8)))
    eventually(lambda: (found := said(keeper)) and found["running_count"] == 8)
    engine = engine_for(keeper)
    begun = time.perf_counter()
    for _ in range(20):
        snapshot.account(engine)
    assert (time.perf_counter() - begun) / 20 < 0.1
