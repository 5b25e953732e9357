"""``tracekeeper worker``: what it says, what it refuses, and that it makes what it needs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.support import programs, workers

import tracekeeper as tk

from .conftest import Run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--import", "no_such_app.metrics"], "--import 'no_such_app.metrics': there is no module 'no_such_app'"),
        (["--import", "tracekeper"], "did you mean 'tracekeeper'?"),
        (["--import", "tracekeeper.metrix"], "there is no module 'metrix' in 'tracekeeper'; did you mean"),
        (["--import", "tracekeeper.metrics:Lenght"], "did you mean 'tracekeeper.metrics:Length'?"),
        (["--import", "my_app/metrics.py"], "expected the name of a module, as in --import my_app.metrics"),
        (["--concurrency", "0"], "expected a whole number, 1 or more"),
        (["--lease", "-1"], "expected a positive number of seconds"),
        (["--imports", "x"], "unknown option --imports; did you mean --import?"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once_in_one_sentence(run: Run, words: list[str], message: str) -> None:
    result = run("worker", *words)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_it_refuses_to_work_in_vain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
    tk.configure(project="other")
    result = run("worker", "--once")
    assert result.code == 2
    assert "tracing is turned off" in result.err


def test_a_store_that_is_none_is_said_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "foreign.db").write_text("this is no database, and never was one, whatever its name says" * 30)
    result = run("worker", "--once", "--store", f"sqlite:///{tmp_path / 'foreign.db'}")
    assert result.code == 1
    assert "foreign.db" in result.err


@pytest.mark.slow
def test_it_makes_the_store_where_there_is_none_and_settles_what_comes(tmp_path: Path) -> None:
    worker = workers.start(tmp_path, "--verbose", "--concurrency", "3", "--lease", "20")
    try:
        assert (tmp_path / ".tracekeeper" / "tracekeeper.db").exists()
        workers.app(tmp_path, "app('demo', [later])('what')")
        assert programs.ready(worker).startswith("scored 1.0 later on record ")
        worker.send_signal(signal.SIGINT)
        said = workers.finish(worker)
    finally:
        worker.kill()
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("ends: 1 claimed, 1 scored\n")


@pytest.mark.slow
def test_it_names_what_waits_and_why_it_cannot_compute_it(tmp_path: Path) -> None:
    workers.app(tmp_path, "app('demo', [tk.metric(later, requires=['a-large-model'])])('q')")
    (tmp_path / "elsewhere.py").write_text("def judged(output):\n    return 1\n")
    workers.app(tmp_path, "import elsewhere; app('demo', [tk.metric(elsewhere.judged, mode='deferred')])('q')")
    said = workers.once(tmp_path)
    assert said.code == 0
    assert "0 claimed" in said.out
    assert "judges:later needs a-large-model, which is not here" in said.err
    assert "elsewhere:judged is in a module that was not named; start a worker with --import elsewhere" in said.err
    said = workers.once(tmp_path, "--import", "elsewhere", "--have", "a-large-model")
    assert "2 claimed, 2 scored" in said.out
