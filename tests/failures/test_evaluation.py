"""What the evaluators of Opik 2.2, DSPy 3.4, MLflow 3.17, Inspect 0.3.285 and pydantic_evals 2.62 do wrong, done right.

Each test is a row or a fact of the failure catalogue.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk

SLACK = 3.0
ITEMS = [{"id": f"i{n:03d}", "n": n, "expected": n * 2} for n in range(20)]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def double(n: int) -> int:
    return n * 2


def exact(output: int, expected: int) -> bool:
    return output == expected


def counts(experiment: tk.Experiment, name: str) -> dict[str, int]:
    return experiment.summary().metrics[name].counts


def values(experiment: tk.Experiment, name: str) -> list[Any]:
    return [item.scores[name].value for item in experiment]


def on_item_3(value: Any) -> Any:
    """A metric that does something on one item and gives 1.0 on the others."""

    def metric(n: int) -> Any:
        if n == 3:
            return value() if callable(value) else value
        return 1.0

    return metric


def raises(kind: type[BaseException]) -> Any:
    def now() -> Any:
        raise kind("no judge today")

    return now


# -- Opik's evaluate: tasks ------------------------------------------------------------------------------------


def test_an_async_task_is_run_and_judged(keeper: object) -> None:
    async def task(n: int) -> int:
        await asyncio.sleep(0.001)
        return n * 2

    experiment = tk.evaluate(ITEMS, task, metrics=[exact])
    assert counts(experiment, "exact") == {"scored": 20}
    assert experiment.summary().metrics["exact"].mean == 1


def test_one_task_that_raises_costs_only_itself(keeper: object) -> None:
    def task(n: int) -> int:
        if n == 7:
            raise ValueError("seven")
        return n * 2

    experiment = tk.evaluate(ITEMS, task, metrics=[exact])
    assert len(experiment) == 20
    assert experiment.complete
    [failure] = experiment.failures
    assert (failure.item_id, failure.status, failure.error) == ("i007", "error", "ValueError: seven")
    assert counts(experiment, "exact") == {"scored": 19, "skipped": 1}
    with pytest.raises(tk.ItemsFailedError, match="seven"):
        experiment.raise_for_failures()


def test_the_first_error_loads_no_client_and_asks_no_network(tmp_path: Path) -> None:
    done = programs.run(
        """
        import socket, sys, tracekeeper as tk
        def refused(*args, **kwargs):
            raise AssertionError(f"a connection to {args}")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
        def task(n):
            raise ValueError(n)
        experiment = tk.evaluate([{"n": n} for n in range(20)], task, metrics=[tk.metric(lambda output: 1.0, name="m")])
        print(len(experiment.failures), *({"litellm", "openai", "anthropic", "requests", "httpx"} & set(sys.modules)))
        """,
        tmp_path,
    )
    assert done.out.split() == ["20"], done.err
    assert done.seconds < 4 * SLACK


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_task_that_raises_a_base_exception_is_an_item_with_that_error(
    kind: type[BaseException], asynchronous: bool, keeper: object
) -> None:
    def task(n: int) -> int:
        if n == 7:
            raise kind("leave")
        return n * 2

    async def atask(n: int) -> int:
        return task(n)

    experiment = tk.evaluate(ITEMS, atask if asynchronous else task, metrics=[exact], timeout=10)
    [failure] = [item for item in experiment if item.status != "ok"]
    assert failure.item_id == "i007"
    assert kind.__name__ in f"{failure.error} {failure.reason}"
    assert counts(experiment, "exact")["scored"] == 19
    tk.flush(timeout=20)
    [record] = [record for record in tk.records(limit=30) if record.status != "ok"]
    assert record.status in ("error", "cancelled")


def test_a_task_may_return_text_or_anything(keeper: object) -> None:
    def text(n: int) -> str:
        return f"the answer is {n}"

    def length(output: str) -> int:
        return len(output)

    assert {item.output[:13] for item in tk.evaluate(ITEMS, text, metrics=[length])} == {"the answer is"}
    for given in (None, [1, {"a": 2}], 1.5, True, {"answer": "x", "score": 1}):
        experiment = tk.evaluate(
            ITEMS[:1], lambda n, given=given: given, metrics=[tk.metric(lambda output: 1, name="m")]
        )
        assert (experiment.items[0].output, values(experiment, "m")) == (given, [1])


def test_results_are_in_the_order_of_the_items_and_not_of_their_ends(keeper: object) -> None:
    async def later_first(n: int) -> int:
        await asyncio.sleep((20 - n) * 0.005)
        return n * 2

    experiment = tk.evaluate(ITEMS, later_first, concurrency=20)
    assert [item.output for item in experiment] == [n * 2 for n in range(20)]


# -- Opik's evaluate: metrics ----------------------------------------------------------------------------------


def test_a_metric_that_raises_on_one_item_has_no_value_there_and_is_counted(keeper: object) -> None:
    metric = tk.metric(on_item_3(raises(ValueError)), name="m")
    experiment = tk.evaluate(ITEMS, double, metrics=[metric])
    score = experiment.items[3].scores["m"]
    assert (score.status, score.value, score.error) == ("failed", None, "ValueError: no judge today")
    assert counts(experiment, "m") == {"scored": 19, "failed": 1}
    assert experiment.summary().metrics["m"].mean == 1.0
    assert [item.item_id for item in experiment.failures] == ["i003"]


def test_a_metric_that_raises_on_all_items_does_not_vanish(keeper: object) -> None:
    def broken(output: int) -> float:
        raise ValueError("no judge today")

    experiment = tk.evaluate(ITEMS, double, metrics=[broken, exact], name="all")
    for one in (experiment, tk.Experiment.load("all")):
        found = one.summary().metrics["broken"]
        assert (found.mean, found.counts) == (None, {"failed": 20})
        assert found.reasons[0].n == 20
        assert "ValueError: no judge today" in found.reasons[0].text
        assert "broken" in one.text(color=False)
        assert counts(one, "exact") == {"scored": 20}


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_metric_that_raises_a_base_exception_costs_neither_the_run_nor_the_output(
    kind: type[BaseException], asynchronous: bool, keeper: object
) -> None:
    body = on_item_3(raises(kind))

    async def abody(n: int) -> Any:
        return body(n)

    metric = tk.metric(abody if asynchronous else body, name="m")
    experiment = tk.evaluate(ITEMS, double, metrics=[metric, exact], name="base")
    for one in (experiment, tk.Experiment.load("base")):
        item = one.items[3]
        assert (item.status, item.output, item.scores["exact"].value) == ("ok", 6, True)
        assert item.scores["m"].status in ("failed", "cancelled")
        assert item.scores["m"].value is None
        why = f"{item.scores['m'].error} {item.scores['m'].reason}"
        assert kind.__name__ in why or why == "None it was cancelled from within"
        assert counts(one, "m")["scored"] == 19


@pytest.mark.parametrize("value", [None, tk.Score(value=None)], ids=["None", "Score(value=None)"])
def test_a_metric_that_returns_none_on_one_item_has_a_state_there(value: Any, keeper: object) -> None:
    experiment = tk.evaluate(ITEMS, double, metrics=[tk.metric(on_item_3(value), name="m"), exact], name="none")
    for one in (experiment, tk.Experiment.load("none")):
        score = one.items[3].scores["m"]
        assert score.status in ("failed", "skipped")
        assert score.value is None
        assert score.reason
        assert sum(counts(one, "m").values()) == 20
        assert counts(one, "m")["scored"] == counts(one, "exact")["scored"] - 1 == 19


@pytest.mark.parametrize("value", [0.5, 1, True, "good", (0.5, "half"), tk.Score(0.5)], ids=repr)
def test_a_metric_may_return_a_bare_value(value: Any, keeper: object) -> None:
    experiment = tk.evaluate(ITEMS, double, metrics=[tk.metric(lambda output: value, name="m")])
    plain = value[0] if isinstance(value, tuple) else value.value if isinstance(value, tk.Score) else value
    assert values(experiment, "m") == [plain] * 20
    assert counts(experiment, "m") == {"scored": 20}


@pytest.mark.parametrize("value", [math.nan, math.inf, tk.Score(math.nan)], ids=["nan", "inf", "Score(nan)"])
def test_nan_is_refused_counted_and_never_written(value: Any, keeper: Any, tmp_path: Path) -> None:
    experiment = tk.evaluate(ITEMS, double, metrics=[tk.metric(on_item_3(value), name="m")], name="nan")
    for one in (experiment, tk.Experiment.load("nan")):
        assert (one.items[3].scores["m"].status, one.items[3].scores["m"].value) == ("failed", None)
        assert counts(one, "m") == {"scored": 19, "failed": 1}
        assert one.summary().metrics["m"].mean == 1.0
        one.to_json(tmp_path / "results.json")

        def refuse(constant: str) -> Any:
            raise AssertionError(constant)

        json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
        one.to_csv(tmp_path / "results.csv")
        cells = re.split(r"[,\n]", (tmp_path / "results.csv").read_text().lower())
        assert not {"nan", "inf"} & {*cells}


def test_an_argument_that_one_item_lacks_costs_only_its_score(keeper: object) -> None:
    items = [{"id": str(n), "n": n} | ({} if n == 3 else {"reference": n * 2}) for n in range(20)]

    def same(output: int, reference: int) -> bool:
        return output == reference

    experiment = tk.evaluate(items, double, metrics=[same])
    score = experiment.items[3].scores["same"]
    assert (score.status, score.value) == ("skipped", None)
    assert score.reason == "no expected output"
    assert counts(experiment, "same") == {"scored": 19, "skipped": 1}


def test_metrics_sync_and_async_of_one_item_run_side_by_side(keeper: object) -> None:
    meet = threading.Barrier(3)

    def sync_one(output: int) -> bool:
        return meet.wait(20) >= 0

    def sync_two(output: int) -> bool:
        return meet.wait(20) >= 0

    async def asynchronous(output: int) -> bool:
        return await asyncio.to_thread(meet.wait, 20) >= 0

    experiment = tk.evaluate(ITEMS[:1], double, metrics=[sync_one, sync_two, asynchronous])
    assert {name: score.value for name, score in experiment.items[0].scores.items()} == {
        "sync_one": True,
        "sync_two": True,
        "asynchronous": True,
    }


def test_scores_of_what_failed_are_stored_with_their_state(keeper: Any) -> None:
    def task(n: int) -> int:
        if n == 1:
            raise ValueError("one")
        return n * 2

    def m(output: int) -> float:
        return on_item_3(raises(ValueError))(output // 2)  # type: ignore[no-any-return]

    tk.evaluate(ITEMS, task, metrics=[m, exact], name="stored")
    tk.flush(timeout=20)
    with sqlite3.connect(keeper.directory / "tracekeeper.db") as database:
        rows = database.execute("SELECT name, status, count(*) FROM score GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
    database.close()
    assert rows == [
        ("exact", "scored", 19),
        ("exact", "skipped", 1),
        ("m", "failed", 1),
        ("m", "scored", 18),
        ("m", "skipped", 1),
    ]
    read = tk.Experiment.load("stored")
    assert all(set(item.scores) == {"m", "exact"} for item in read), "no cell is empty"
    assert all(score.reason for item in read for score in item.scores.values() if score.status != "scored")


# -- what hangs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_task_that_hangs_is_timed_out_and_no_wrong_answer(
    asynchronous: bool, keeper: object, gate: threading.Event
) -> None:
    begun = Counter[int]()

    def task(n: int) -> int:
        begun[n] += 1
        if n == 3:
            gate.wait(3600)
        return n * 2

    async def atask(n: int) -> int:
        begun[n] += 1
        if n == 3:
            await asyncio.sleep(3600)
        return n * 2

    started = time.monotonic()
    experiment = tk.evaluate(ITEMS, atask if asynchronous else task, metrics=[exact], timeout=0.3, concurrency=4)
    assert time.monotonic() - started < 1 * SLACK
    hung = experiment.items[3]
    assert (hung.status, hung.output, hung.scores["exact"].status) == ("timed_out", None, "skipped")
    found = experiment.summary()
    assert found.statuses == {"ok": 19, "timed_out": 1}
    assert (found.metrics["exact"].mean, found.metrics["exact"].counts) == (1.0, {"scored": 19, "skipped": 1})
    assert set(begun.values()) == {1}, "nothing is sent again behind its back"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_metric_that_hangs_is_timed_out_and_its_neighbours_are_not(
    asynchronous: bool, keeper: object, gate: threading.Event
) -> None:
    def hangs(n: int) -> float:
        if n == 3:
            gate.wait(3600)
        return 1.0

    async def ahangs(n: int) -> float:
        if n == 3:
            await asyncio.sleep(3600)
        return 1.0

    metric = tk.metric(ahangs if asynchronous else hangs, name="m", timeout=0.3)
    started = time.monotonic()
    experiment = tk.evaluate(ITEMS, double, metrics=[metric, exact])
    assert time.monotonic() - started < 1 * SLACK
    item = experiment.items[3]
    assert (item.output, item.scores["exact"].value, item.scores["m"].status) == (6, True, "timed_out")
    assert counts(experiment, "m") == {"scored": 19, "timed_out": 1}


@pytest.mark.parametrize("what", ["task", "atask", "metric", "ametric", "blocking atask", "all"])
def test_a_process_in_which_something_hung_ends(what: str, tmp_path: Path) -> None:
    done = programs.run(
        f"""
        import asyncio, time, tracekeeper as tk
        WHAT = {what!r}
        def task(n):
            if WHAT == "task" and n == 3 or WHAT == "all":
                time.sleep(3600)
            return n
        async def atask(n):
            if n == 3:
                time.sleep(3600) if WHAT == "blocking atask" else await asyncio.sleep(3600)
            return n
        def metric(n):
            if WHAT == "metric" and n == 3:
                time.sleep(3600)
            return 1.0
        async def ametric(n):
            if WHAT == "ametric" and n == 3:
                await asyncio.sleep(3600)
            return 1.0
        metrics = [tk.metric(metric, timeout=0.3), tk.metric(ametric, timeout=0.3)]
        experiment = tk.evaluate(
            [{{"n": n}} for n in range(12)], atask if "atask" in WHAT else task, metrics=metrics, timeout=0.3
        )
        print(sum(item.status == "ok" for item in experiment), experiment.complete, flush=True)
        """,
        tmp_path,
        timeout=60,
    )
    assert done.code == 0, done.err
    ok, complete = done.out.split()
    # (What shares a loop with a call that blocks it ends with it, and says so: it had begun and is not begun again.)
    assert int(ok) == {"metric": 12, "ametric": 12, "all": 0}.get(what, 11) or what == "blocking atask"
    assert complete == "True"
    assert done.seconds < 4 * SLACK


# -- interruption ----------------------------------------------------------------------------------------------

COUNTED = """
import os, sys, time, tracekeeper as tk
def task(n):
    file = os.open("begun", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b".")
    os.close(file)
    sys.stdout.write("begun\\n")  # one write, unlike print: threads must not tear it
    time.sleep(60 if HANG and n else 0.25)
    return n
ITEMS = [{"n": n, "expected": n} for n in range(20)]
experiment = tk.evaluate(ITEMS, task, metrics=["exact_match"], name="run", concurrency=CONCURRENCY)
done = [item for item in experiment if item.status == "ok"]
print(len(done), experiment.missing, experiment.complete, {item.scores["exact_match"].value for item in done})
"""


@pytest.mark.parametrize(("concurrency", "hang"), [(1, False), (4, False), (4, True)], ids=["1", "4", "4 that hang"])
def test_ctrl_c_stops_the_bill_and_gives_what_is_finished(concurrency: int, hang: bool, tmp_path: Path) -> None:
    code = COUNTED.replace("CONCURRENCY", str(concurrency)).replace("HANG", str(hang))
    process = programs.start(code, tmp_path)
    for _ in range(concurrency + 1):  # the first has ended and another has begun
        assert programs.ready(process) == "begun"
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 2 * SLACK
    assert process.returncode == 0, err
    done, missing, complete, scores = out.strip().split("\n")[-1].split(maxsplit=3)
    assert int(done) + int(missing) == 20
    assert (complete, scores) == ("False", "{True}")
    assert int(done) >= 1
    assert len((tmp_path / "begun").read_text()) <= 3 * concurrency, "nothing was begun after it"


# -- the store is away -----------------------------------------------------------------------------------------


def test_a_database_that_is_locked_costs_neither_time_nor_results(keeper: Any) -> None:
    tk.evaluate(ITEMS[:1], double, name="before")
    tk.flush(timeout=20)
    holder = sqlite3.connect(keeper.directory / "tracekeeper.db", isolation_level=None)
    locked = threading.Event()

    def task(n: int) -> int:
        if n == 5:
            holder.execute("BEGIN IMMEDIATE")
            locked.set()
        elif n > 5:
            locked.wait(20)
        return n * 2

    holder.close()
    holder = sqlite3.connect(keeper.directory / "tracekeeper.db", isolation_level=None, check_same_thread=False)
    started = time.monotonic()
    experiment = tk.evaluate(ITEMS, task, metrics=[exact], name="locked", concurrency=1)
    assert time.monotonic() - started < 1 * SLACK
    assert locked.is_set()
    assert [item.output for item in experiment] == [n * 2 for n in range(20)]
    assert counts(experiment, "exact") == {"scored": 20}
    holder.execute("ROLLBACK")
    holder.close()
    read = tk.Experiment.load("locked")
    assert read.complete
    assert counts(read, "exact") == {"scored": 20}


def test_without_a_database_the_results_are_there_and_kept_for_later(tmp_path: Path) -> None:
    done = programs.run(
        """
        import tracekeeper as tk
        import os
        os.mkdir("taken")
        tk.configure(store="sqlite:///" + os.path.abspath("taken"))  # a folder is no database
        metric = tk.metric(lambda n: 1.0, name="m")
        experiment = tk.evaluate([{"n": n} for n in range(20)], lambda n: n, metrics=[metric])
        print(len(experiment), experiment.complete, experiment.summary().metrics["m"].counts)
        """,
        tmp_path,
    )
    assert done.code == 0, done.err
    assert done.out.strip() == "20 True {'scored': 20}", done.err
    assert done.seconds < 5 * SLACK
    assert "only in the journal" in done.err


# -- the other engines -----------------------------------------------------------------------------------------


def test_ten_tasks_that_raise_and_a_metric_that_raises_on_ten_others_leave_no_blank_and_no_invented_mean(
    keeper: object,
) -> None:
    calls = Counter[int]()
    lock = threading.Lock()

    def task(n: int) -> int:
        with lock:
            calls[n] += 1
        if n < 10:
            raise ValueError("no answer")
        return n * 2 + (n >= 90)

    def half_broken(output: int, n: int) -> float:
        if 10 <= n < 20:
            raise ZeroDivisionError("no judgement")
        return 1.0

    items = [{"id": f"i{n:03d}", "n": n, "expected": n * 2} for n in range(100)]
    experiment = tk.evaluate(items, task, metrics=[exact, half_broken], name="hundred")
    assert set(calls.values()) == {1}, "the first item is not run a second time to see whether it works"
    for one in (experiment, tk.Experiment.load("hundred")):
        found = one.summary()
        assert found.statuses == {"ok": 90, "error": 10}
        right, broken = found.metrics["exact"], found.metrics["half_broken"]
        assert right.counts == {"scored": 90, "skipped": 10}
        assert right.mean == pytest.approx(80 / 90)
        assert broken.counts == {"scored": 80, "failed": 10, "skipped": 10}
        assert broken.mean == 1.0
        assert right.n == broken.n == 100
        assert len(one.failures) == 20
        rows = one.to_pandas()
        assert len(rows) == 100
        assert not rows["exact.status"].isna().any()
        assert rows["exact"].isna().sum() == 10
        assert rows["half_broken.status"].value_counts().to_dict() == broken.counts
        assert not any(isinstance(value, float) and math.isnan(value) for value in rows["half_broken"].tolist())


def test_sync_tasks_are_not_silently_fewer_at_a_time_than_asked_for(keeper: object) -> None:
    meet = threading.Barrier(64)

    def task(n: int) -> int:
        meet.wait(20)
        return n * 2

    items = [{"id": str(n), "n": n} for n in range(64)]
    assert len([item for item in tk.evaluate(items, task, concurrency=64) if item.ok]) == 64


def test_what_is_interrupted_by_kill_9_is_found_by_its_name_and_only_the_rest_is_run(tmp_path: Path) -> None:
    code = """
    import sys, time, tracekeeper as tk
    def task(n):
        print("run", n, flush=True)
        if n == 11 and len(sys.argv) == 1:
            time.sleep(60)
        return n
    ITEMS = [{"id": str(n), "n": n, "expected": n} for n in range(12)]
    """
    process = programs.start(
        code + 'tk.evaluate(ITEMS, task, metrics=["exact_match"], name="run", concurrency=1)', tmp_path
    )
    while programs.ready(process) != "run 11":
        pass
    programs.kill(process)
    resumed = programs.run(
        code
        + """
    sys.argv.append("again")
    experiment = tk.resume("run", task=task, metrics=["exact_match"], data=ITEMS)
    print(experiment.complete, experiment.summary().metrics["exact_match"].counts)
    """,
        tmp_path,
    )
    assert resumed.out.strip().split("\n") == ["run 11", "True {'scored': 12}"], resumed.err


# -- DSPy's Evaluate -------------------------------------------------------------------------------------------


def test_a_program_error_is_no_score_of_0(keeper: object) -> None:
    def program(n: int) -> int:
        if n % 2:
            raise ConnectionError("no model")
        return n * 2 + (n == 0)

    experiment = tk.evaluate(ITEMS, program, metrics=[exact])
    found = experiment.summary().metrics["exact"]
    assert found.counts == {"scored": 10, "skipped": 10}
    assert found.mean == pytest.approx(0.9), "over what was judged: the wrong answer counts, the errors do not"
    for item in experiment:
        if item.fields["n"] % 2:
            assert (item.error, item.output) == ("ConnectionError: no model", None)
            assert (item.scores["exact"].status, item.scores["exact"].value) == ("skipped", None)
    assert (experiment.items[0].scores["exact"].status, experiment.items[0].scores["exact"].value) == ("scored", False)


def test_an_async_metric_is_awaited(keeper: object) -> None:
    async def aexact(output: int, expected: int) -> bool:
        await asyncio.sleep(0)
        return output == expected

    assert values(tk.evaluate(ITEMS, double, metrics=[aexact]), "aexact") == [True] * 20


def test_a_program_that_is_only_async_is_run(keeper: object) -> None:
    class Program:
        async def __call__(self, n: int) -> int:
            await asyncio.sleep(0)
            return n * 2

        async def aforward(self, n: int) -> int:
            return await self(n)

    for program in (Program(), Program().aforward):
        assert [item.output for item in tk.evaluate(ITEMS, program)] == [n * 2 for n in range(20)]


def test_a_hundred_calls_of_which_many_fail_keep_the_others_and_their_causes(keeper: object) -> None:
    def program(n: int) -> int:
        if n % 7 == 0:
            raise ValueError(f"call {n}")
        return n

    items = [{"id": str(n), "n": n} for n in range(100)]
    experiment = tk.evaluate(items, program)
    assert experiment.summary().statuses == {"ok": 85, "error": 15}
    assert [item.error for item in experiment.failures] == [f"ValueError: call {n}" for n in range(0, 100, 7)]


def test_usage_of_calls_on_many_threads_is_counted_by_item(keeper: object) -> None:
    lm = tk.LM(lambda prompt: tk.Answer(text="a", usage=tk.Usage(input_tokens=3, output_tokens=2, cost=0.01)))
    items = [{"id": str(n), "question": f"q{n}"} for n in range(100)]
    experiment = tk.evaluate(items, lambda question: lm(question).text, concurrency=16)
    found = experiment.summary()
    assert (found.input_tokens, found.output_tokens, found.cost_calls) == (300, 200, 100)
    assert found.cost == pytest.approx(1.0)


def test_what_is_slow_runs_once(keeper: object) -> None:
    calls = Counter[int]()

    def slow(n: int) -> int:
        calls[n] += 1
        time.sleep(0.4 if n == 19 else 0)
        return n * 2

    experiment = tk.evaluate(ITEMS, slow, metrics=[exact], timeout=10)
    assert counts(experiment, "exact") == {"scored": 20}
    assert set(calls.values()) == {1}


def test_an_evaluation_in_a_thread_stops_when_ctrl_c_ends_the_main_thread(tmp_path: Path) -> None:
    process = programs.start(
        """
        import sys, threading, time, tracekeeper as tk
        def task(n):
            sys.stdout.write("begun\\n")
            time.sleep(0.2)
            return n
        ITEMS = [{"n": n} for n in range(400)]
        thread = threading.Thread(target=lambda: tk.evaluate(ITEMS, task, concurrency=4, name="t"))
        thread.start()
        while thread.is_alive():
            thread.join(0.2)  # CPython overlooks a signal that comes as a wait begins, until it ends
        """,
        tmp_path,
    )
    for _ in range(5):
        programs.ready(process)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - sent < 3 * SLACK
    assert out.count("begun") < 40
