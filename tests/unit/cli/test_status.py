"""`status`: who is at work, what runs where, what waits for whom; once, watched, and while the database is locked."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.cli import status, status_view
from tracekeeper.cli.status import as_text, on_screen
from tracekeeper.scoring import snapshot
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.types import StoreError

from .conftest import Run

HANGS = """
    import threading
    import tracekeeper as tk

    tk.configure(directory="data")

    def wedged(output):
        threading.Event().wait(300)  # here
        return 1.0

    @tk.app(name="rag", version="1", metrics=[
        tk.metric(wedged, timeout=200), tk.metric(wedged, name="given_up", timeout=0.5)
    ])
    def ask(question):
        return "mild"

    ask("weather?")
    print("ready", flush=True)
    threading.Event().wait(300)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program with a metric that hangs, and one that timed out and goes on."""
    process = programs.start(HANGS, tmp_path)
    try:
        assert programs.ready(process) == "ready"
        yield process
    finally:
        programs.kill(process)


def command(directory: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "tracekeeper", "status", "--directory", str(directory / "data"), *words]


def line_of(text: str, code: str) -> int:
    return next(n for n, line in enumerate(code.splitlines(), 1) if line.endswith(text))


@pytest.mark.slow
def test_a_hanging_metric_of_another_process_is_watched(program: subprocess.Popen[str], tmp_path: Path) -> None:
    watching = subprocess.Popen(
        command(tmp_path, "--watch", "--interval", "0.2", "--stacks"),
        env=programs.environment(COLUMNS="200"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(60, watching.kill)
    guard.start()
    try:
        assert watching.stdout is not None
        lines, seen = [], set()
        where = f"wedged (program_0.py:{line_of('# here', HANGS)})"
        for line in watching.stdout:
            lines.append(line.rstrip("\n"))
            if re.match(rf"wedged +\d+\.\ds +3m20s +1 +{program.pid} +{re.escape(where)} +[0-9a-f]{{32}}:", line):
                seen.add("running")
            if re.match(rf"metric 'given_up' +\d+\.\ds +thread +{program.pid} +{re.escape(where)}", line):
                seen.add("held up")
            if seen == {"running", "held up"}:
                break
        else:
            pytest.fail("\n".join(lines[-60:]))
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=30)
        assert (watching.returncode, err) == (0, ""), "Ctrl-C is how watching ends"
    finally:
        guard.cancel()
        watching.kill()
        watching.communicate()
    assert "\x1b" not in "".join(lines), "piped, it is plain text"
    assert any(re.match(rf"app +{program.pid} ", line) for line in lines)
    assert len([line for line in lines if "Ctrl-C ends" in line]) >= 1


@pytest.mark.slow
def test_status_for_programs_has_the_whole_stack(program: subprocess.Popen[str], tmp_path: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(
            command(tmp_path, "--json"), env=programs.environment(), capture_output=True, text=True, timeout=60
        )
        [process] = json.loads(done.stdout)["processes"]
        says = process.get("says")
        if says is not None and says["running"] and says["running"][0]["stack"]:
            break
        assert time.monotonic() < deadline
    assert done.returncode == 0
    assert (process["kind"], process["pid"], says["running_count"]) == ("app", program.pid, 1)
    assert says["running"][0]["stack"][-1].startswith("wedged (program_0.py:")
    assert (says["abandoned_threads"], says["held_up"][0]["settled"]) == (1, True)


@pytest.fixture
def hanging(keeper: Keeper) -> Iterator[Keeper]:
    """This process has a metric that runs for as long as the test does."""
    gate = threading.Event()

    def stuck(output: str) -> float:
        gate.wait(60)
        return 1.0

    record = tk.log_record(input="q", output="a", app="rag", metrics=[tk.metric(stuck)])
    deadline = time.monotonic() + 20
    while not any(says["running_count"] for says in snapshot.read(keeper.directory)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert keeper.ship(20) is None
    yield keeper
    gate.set()
    record.wait_for_scores(timeout=20)


@pytest.mark.slow
def test_while_the_database_is_locked_it_shows_what_there_is(run: Run, hanging: Keeper) -> None:
    path = hanging.store().path
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        tk.log_record(input="q", output="b", app="rag")
        result = run("status")
        other.execute("ROLLBACK")
    other.close()
    assert result.code == 1
    assert "not stored yet" in result.out
    assert "locked by another process" in result.out
    assert "\nprocesses\n" in result.out
    assert "stuck" in result.out


@pytest.mark.slow
def test_when_the_store_cannot_be_read_the_processes_are_shown_all_the_same(
    run: Run, hanging: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StoreError("it is on fire")

    monkeypatch.setattr(hanging, "store", refuse)
    result = run("status")
    assert result.code == 1
    assert "the store cannot be read now: it is on fire" in result.out
    assert re.search(r"\nstuck +[0-9.]+m?s ", result.out)
    found = json.loads(run("status", "--json").out)
    assert "waiting" not in found
    assert found["processes"][0]["says"]["running"][0]["metric"] == "stuck"


@pytest.mark.slow
def test_watching_ends_with_ctrl_c_and_prints_blocks_when_piped(
    hanging: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    assert status.watch(Namespace(interval=0.5, json=False, stacks=False), sleep) == 0
    shown = capsys.readouterr().out
    assert shown.count("Ctrl-C ends") == 3
    assert all(pause >= 0 for pause in pauses)
    pauses.clear()
    assert status.watch(Namespace(interval=0.5, json=True, stacks=False), sleep) == 0
    assert [json.loads(line)["project"] for line in capsys.readouterr().out.splitlines()] == ["default"] * 3


def test_on_a_terminal_it_is_drawn_over_and_never_taller_than_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "10")
    drawn = on_screen("\n".join(f"{n} {'x' * 40}" for n in range(30)))
    assert drawn.startswith("\x1b[H0 xxx")
    assert drawn.endswith("\x1b[J")
    lines = drawn.removeprefix("\x1b[H").removesuffix("\x1b[J").splitlines()
    assert len(lines) == 9
    assert all(len(line.removesuffix("\x1b[K")) <= 20 for line in lines)


def base(**more: Any) -> dict[str, Any]:
    return {
        "directory": "d",
        "store": "s",
        "project": "p",
        "store_error": None,
        "dropped": {},
        "set_aside": [],
        "note": None,
        "shipping": {"trouble": None},
        "journals": [],
        **more,
    }


def waits(**changes: Any) -> dict[str, Any]:
    return {
        "name": "m",
        "version": "v1",
        "count": 3,
        "held": 0,
        "oldest": 90.0,
        "by": [],
        "import_path": "my.app:m",
        "requires": [],
        "why_not": [],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": ["worker 7 on vm"]}, "worker 7 on vm"),
        ({"held": 3}, "3 by whoever holds them"),
        ({"held": 1, "by": ["app 8"]}, "1 by whoever holds them; app 8"),
        ({}, "\nm: it needs my.app:m; start `tracekeeper worker --import my.app`"),
        ({"requires": ["torch"]}, "\nm: it needs my.app:m, which needs torch; start"),
        ({"why_not": ["my.app:m needs torch, which is not here"]}, "\nm: my.app:m needs torch, which is not"),
        ({"import_path": None}, "\nm: it needs the process that made it"),
    ],
)
def test_what_waits_is_named_with_who_can_compute_it_or_what_it_needs(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = status_view.waiting(base(waiting=[waits(**changes)]))
    assert said in text
    assert ("nobody alive" in text) == ("needs" in text)


def test_a_process_that_has_gone_silent_is_remarked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    says = {
        "pid": 7,
        "host": "vm",
        "waiting": 2,
        "oldest_waiting": 4.0,
        "running_count": 1,
        "late_results": 0,
        "abandoned_threads": 2,
        "abandoned_loops": 1,
        "ignoring_cancellation": 0,
        "errors": 0,
        "silent": 12.0,
        "dropped": {"journal full": 3},
        "callbacks": {"failed": 1},
        "claims": {"held": 5, "trouble": "locked"},
        "running": [],
        "held_up": [],
    }
    process = {"kind": "worker", "pid": 7, "host": "vm", "started": time.time(), "says": says, "leases": {}}
    text = as_text(base(processes=[process]))
    assert "2 threads, 1 loop" in text
    for said in ("silent for 12.0s: stopped, or", "1 callback failed", "cannot claim: locked", "dropped: 3 (journal"):
        assert said in text, "however narrow the terminal is"


def test_leases_rules_and_alerts_have_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rule = {
        "name": "sampled",
        "enabled": True,
        "target": "record",
        "matched": 9,
        "judged": 4,
        "not_sampled": 5,
        "over_budget": 0,
        "evaluations_today": 4,
        "daily_evaluations": 100,
        "cost_today": 0.5,
        "daily_cost": 2.0,
        "open": 0,
        "error": None,
    }
    alert = {
        "name": "quality",
        "enabled": True,
        "state": "firing",
        "since": time.time(),
        "value": 0.4,
        "n": 7,
        "measure": "mean",
        "threshold": "mean of m below 0.50 over 1h",
        "error": None,
        "delivery": "no webhook",
    }
    calm = {**alert, "name": "aside", "state": "ok"}
    leases = {"j1": {"held": 4, "lapsed": 1}, "j2": {"held": 2, "lapsed": 0}}
    text = as_text(base(leases=leases, rules=[rule], alerts=[calm, alert], waiting=[waits()]))
    assert "6 held, 1 of them lapsed" in text
    assert "4 of 100" in text
    assert "$0.50 of $2.00" in text
    assert text.index("quality") < text.index("aside"), "what fires comes first"


def test_a_worker_on_another_machine_is_shown_by_what_it_said_to_the_store(run: Run, keeper: Keeper) -> None:
    tk.log_record(input="q", output="a", app="rag")
    assert keeper.ship(20) is None
    store = keeper.store()
    data = json.dumps({"computes": [], "trouble": "the disk is full"}).encode()
    store.register_worker("elsewhere-1", kind="worker", host="far", pid=99, started_at=time.time_ns(), data=data)
    shown = run("status").out
    assert re.search(r"\nworker +99 +far ", shown)
    assert re.search(r"\nworker 99: seen .* ago; the disk is full\n", shown)
    store.remove_worker("elsewhere-1")
    assert "far" not in run("status").out
