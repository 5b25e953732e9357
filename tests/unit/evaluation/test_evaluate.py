"""``evaluate``: every kind of task and metric, from everywhere; what comes back and what is kept."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.concurrency import mapping
from tracekeeper.concurrency.mapping import Map
from tracekeeper.concurrency.task import Task
from tracekeeper.evaluation.executors.local import LocalExecutor
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running import run
from tracekeeper.evaluation.running.run import Run
from tracekeeper.evaluation.running.task_app import Attempt, Call, TaskApp
from tracekeeper.scoring.record import Record
from tracekeeper.tracing.state import RecordState

ITEMS = [{"question": f"{n} + 1?", "number": n, "expected": str(n + 1)} for n in range(6)]
WANTED = [str(n + 1) for n in range(6)]


def outputs(experiment: tk.Experiment) -> list[Any]:
    return [item.output for item in experiment]


def sync(number: int) -> str:
    return str(number + 1)


async def asynchronous(number: int) -> str:
    await asyncio.sleep(0)
    return str(number + 1)


class Callable:
    def __call__(self, number: int) -> str:
        return str(number + 1)

    async def method(self, number: int) -> str:
        return str(number + 1)


@functools.wraps(asynchronous)
def wrapper(*args: Any, **kwargs: Any) -> Any:
    return asynchronous(*args, **kwargs)


def bare(*args: Any) -> str:
    (fields,) = args
    assert "expected" not in fields
    return str(fields["number"] + 1)


def whole(row: dict[str, Any]) -> str:
    return str(row["number"] + 1)


def future(number: int) -> Any:
    return asyncio.ensure_future(asynchronous(number))


async def future_of_a_loop(number: int) -> str:
    return str(await future(number))


POOL = ThreadPoolExecutor(1)


def future_of_a_pool(number: int) -> Future[str]:
    return POOL.submit(sync, number)


@tk.trace
def traced(number: int) -> str:
    return str(number + 1)


def words(number: int) -> Iterator[str]:
    yield str(number + 1)


async def awords(number: int) -> AsyncIterator[str]:
    yield str(number + 1)


async def gives_words(number: int) -> Iterator[str]:
    return words(number)


async def gives_awords(number: int) -> AsyncIterator[str]:
    return awords(number)


TASKS = {
    "function": sync,
    "async function": asynchronous,
    "lambda": lambda number: str(number + 1),
    "lambda that returns an awaitable": lambda number: asynchronous(number),
    "object": Callable(),
    "async method": Callable().method,
    "partial": functools.partial(sync),
    "partial of an async function": functools.partial(asynchronous),
    "wrapper of an async function": wrapper,
    "bare arguments": bare,
    "whole input": whole,
    "future": future_of_a_loop,
    "future of a pool": lambda number: future_of_a_pool(number),
    "function that says it returns a future of a pool": future_of_a_pool,
    "traced": traced,
    "generator": words,
    "async generator": awords,
    "async function that gives a generator": gives_words,
    "async function that gives an async generator": gives_awords,
}


def right(output: str, expected: str) -> bool:
    return output == expected


async def aright(output: str, expected: str) -> bool:
    await asyncio.sleep(0)
    return output == expected


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_of_every_kind_is_called_and_judged(task: Any, keeper: object) -> None:
    experiment = tk.evaluate(ITEMS, task, metrics=[right, aright, "exact_match"], name="kinds", timeout=10)
    assert [item.status for item in experiment] == ["ok"] * 6, [item.reason or item.error for item in experiment]
    assert [item.output for item in experiment] == WANTED
    for item in experiment:
        assert {name: score.value for name, score in item.scores.items()} == {
            "right": True,
            "aright": True,
            "exact_match": True,
        }
    tk.flush(timeout=20)
    assert len(tk.records()) == 6, "each call is one record"


def test_what_is_loaded_is_what_came_back(keeper: object) -> None:
    def task(question: str, number: int) -> dict[str, Any]:
        if number == 2:
            raise ValueError("two")
        return {"text": str(number + 1), "length": 1}

    def long(length: int) -> int:
        return length

    made = tk.evaluate(ITEMS, task, metrics=[long, tk.metric(right).on(output=tk.select.output("text"))], name="loaded")
    read = tk.Experiment.load("loaded")
    assert read.id == made.id
    for one, other in zip(made, read, strict=True):
        assert one.item_id == other.item_id
        assert (one.status, one.output, one.error, one.fields) == (
            other.status,
            other.output,
            other.error,
            other.fields,
        )
        assert {name: (score.status, score.value) for name, score in one.scores.items()} == {
            name: (score.status, score.value) for name, score in other.scores.items()
        }
    assert read.summary().metrics["right"].counts == {"scored": 5, "skipped": 1}
    assert made.summary().metrics["long"].mean == read.summary().metrics["long"].mean == 1
    assert [item.error for item in read.failures] == ["ValueError: two"]
    assert len(tk.records(f'tag = "experiment:{made.id}"')) == 6


def test_an_app_is_recorded_once_with_its_own_metrics_and_those_of_the_run(keeper: object) -> None:
    @tk.app(name="adder", version="7", metrics=[right])
    def add(number: int) -> str:
        return str(number + 1)

    experiment = tk.evaluate(ITEMS, add, metrics=[aright])
    assert {frozenset(item.scores) for item in experiment} == {frozenset({"right", "aright"})}
    assert (experiment.facts.task, experiment.facts.task_version) == ("adder", "7")
    tk.flush(timeout=20)
    [standing] = tk.leaderboard()
    assert (standing.app, standing.version, standing.records) == ("adder", "7", 6)


def test_mapping_renames_and_item_fields_reach_metrics(keeper: object) -> None:
    items = [{"q": "a", "gold_answer": "A", "weight": 3}]

    def judged(answer_text: str, reference_text: str, weight: int, item: dict[str, Any]) -> tuple[float, str]:
        assert item["weight"] == weight
        return float(answer_text == reference_text) * weight, "weighed"

    task = lambda q: {"text": q.upper()}  # noqa: E731
    mapping = {"answer_text": "output.text", "reference_text": "gold_answer"}
    experiment = tk.evaluate(items, task, metrics=[judged], mapping=mapping)
    [item] = experiment
    assert (item.scores["judged"].value, item.scores["judged"].reason) == (3, "weighed")


def test_repeats_are_calls_of_their_own(keeper: object) -> None:
    seen = Counter[int]()
    lock = threading.Lock()

    def task(number: int) -> int:
        with lock:
            seen[number] += 1
            return seen[number]

    experiment = tk.evaluate(ITEMS[:2], task, repeats=3, concurrency=1)
    assert [(item.fields["number"], item.repeat, item.output) for item in experiment] == [
        (number, repeat, repeat + 1) for number in range(2) for repeat in range(3)
    ]


def test_retries_try_again_and_the_last_attempt_is_the_record(keeper: object) -> None:
    tries = Counter[int]()

    def task(number: int) -> str:
        tries[number] += 1
        if tries[number] == 1:
            raise ConnectionError("once")
        return str(number + 1)

    experiment = tk.evaluate(ITEMS[:3], task, retries=1, metrics=[right])
    assert [(item.status, item.attempts, item.scores["right"].value) for item in experiment] == [("ok", 2, True)] * 3


def test_enough_failures_or_money_stop_what_has_not_begun(keeper: object) -> None:
    def fails(number: int) -> str:
        raise ValueError(number)

    experiment = tk.evaluate(ITEMS, fails, max_failures=1, concurrency=1)
    assert Counter(item.status for item in experiment)["error"] in (2, 3)  # one may have begun meanwhile
    assert not experiment.complete
    assert experiment.notes == tk.Experiment.load(experiment.id).notes == ["more than 1 calls failed"]
    assert not experiment.interrupted, "it ended as it was told to"

    lm = tk.LM(lambda prompt: tk.Answer(text="a", usage=tk.Usage(input_tokens=1, output_tokens=1, cost=1.0)))
    experiment = tk.evaluate(ITEMS, lambda question: lm(question).text, budget=2.0, concurrency=1)
    done = [item for item in experiment if item.status == "ok"]
    assert len(done) in (2, 3)
    assert {item.cost for item in done} == {1.0}
    assert experiment.missing == 6 - len(done)
    rest = tk.resume(experiment, task=lambda question: "b", data=ITEMS)
    assert outputs(rest) == ["a"] * len(done) + ["b"] * (6 - len(done))


def test_a_filter_and_a_sample_choose(keeper: object) -> None:
    even = tk.evaluate(ITEMS, sync, filter=lambda item: item.fields["number"] % 2 == 0)
    assert outputs(even) == ["1", "3", "5"]
    assert len(tk.evaluate(ITEMS, sync, sample=3, seed=3)) == 3
    assert outputs(tk.evaluate(ITEMS, sync, sample=1.0)) == WANTED
    assert 0 < len(tk.evaluate(ITEMS, sync, sample=0.5, seed=3)) < 6
    with pytest.raises(tk.ConfigurationError, match=r"sample=1e-09 leaves none of 6 items to evaluate"):
        tk.evaluate(ITEMS, sync, sample=1e-9)


def test_metrics_of_the_run_have_a_state_whatever_they_do(keeper: object) -> None:
    def right_share(results: Any) -> float:
        return sum(item.output == item.expected for item in results) / len(results)

    async def explodes(results: Any) -> float:
        raise ZeroDivisionError

    experiment = tk.evaluate(ITEMS, sync, experiment_metrics=[right_share, explodes], name="whole")
    assert experiment.scores["right_share"].value == 1.0
    assert experiment.scores["explodes"].status == "failed"
    assert tk.Experiment.load("whole").scores == experiment.scores


def test_it_runs_inside_a_running_loop_and_beside_it(keeper: object) -> None:
    async def notebook() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        assert outputs(tk.evaluate(ITEMS, asynchronous, metrics=[aright])) == WANTED
        before = ticks

        async def slow(number: int) -> str:
            await asyncio.sleep(0.05)
            return str(number + 1)

        assert outputs(await tk.aevaluate(ITEMS, slow, metrics=[right], concurrency=2)) == WANTED
        assert ticks > before + 10, "the loop went on meanwhile"
        ticking.cancel()

    asyncio.run(notebook())


def test_four_threads_evaluate_at_once(keeper: object) -> None:
    found: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        found[number] = outputs(
            tk.evaluate(ITEMS, sync if number % 2 else asynchronous, metrics=[right], name=f"t{number}")
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(4), WANTED)


@pytest.mark.parametrize("metrics", ["exact_match", right])
def test_rescoring_by_what_is_no_list_says_what_to_write(metrics: Any, keeper: object) -> None:
    experiment = tk.evaluate(ITEMS[:1], sync)
    with pytest.raises(tk.MetricError, match="rescore: expected a list of metrics"):
        experiment.rescore(metrics)


def test_rescoring_runs_no_task(keeper: object) -> None:
    calls = []

    def task(number: int) -> str:
        calls.append(number)
        return str(number + 1)

    experiment = tk.evaluate(ITEMS, task, name="again")
    judged = experiment.rescore([right, "exact_match"])
    assert len(calls) == 6
    assert {name: metric.counts for name, metric in judged.summary().metrics.items()} == {
        "right": {"scored": 6},
        "exact_match": {"scored": 6},
    }


def test_a_record_that_never_ends_does_not_hold_the_run(keeper: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "UNENDED", 0.3)
    original = TaskApp.settled
    monkeypatch.setattr(TaskApp, "settled", lambda app, record: original(app, record) if record.output != "3" else None)
    monkeypatch.setattr(Record, "status", property(lambda record: "running" if record.output == "3" else "ok"))
    known = Record.scores_named
    monkeypatch.setattr(Record, "scores_named", lambda one, *a, **k: {} if one.output == "3" else known(one, *a, **k))
    experiment = tk.evaluate(ITEMS, sync, metrics=[right])
    assert outputs(experiment) == WANTED
    assert [item.scores["right"].status for item in experiment] == [*["scored"] * 2, "pending", *["scored"] * 3]
    assert experiment.items[2].scores["right"].reason == "the task: its record has not ended"


@pytest.mark.parametrize("awaited", [False, True])
def test_calls_do_not_run_far_ahead_of_their_scores(
    keeper: object, monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    monkeypatch.setattr(run, "AHEAD", 8)
    monkeypatch.setattr(mapping, "HELD_FOR", 60.0)  # so it is the scores that let it go on
    begun: list[int] = []
    held: list[int] = []
    gate = threading.Event()
    look_later = mapping.Map._look_later

    def looks_later(self: mapping.Map) -> None:
        held.append(len(begun))
        look_later(self)
        gate.set()

    monkeypatch.setattr(mapping.Map, "_look_later", looks_later)

    def gated(output: str) -> bool:
        return gate.wait(20)

    items = [{"number": number} for number in range(60)]
    how: dict[str, Any] = {"metrics": [gated], "concurrency": 2}
    made = lambda number: begun.append(number) or str(number)  # noqa: E731
    experiment = asyncio.run(tk.aevaluate(items, made, **how)) if awaited else tk.evaluate(items, made, **how)
    assert experiment.summary().metrics["gated"].counts == {"scored": 60}
    assert 8 <= held[0] <= 8 + 2 * 2 + 1, "those that ended, and those that had a place"


def test_scores_that_never_come_hold_no_calls(keeper: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, value in [(run, "AHEAD", 2), (run, "UNENDED", 0.3), (mapping, "HELD_FOR", 0.05)]:
        monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(TaskApp, "settled", lambda app, record: None)
    monkeypatch.setattr(Record, "status", property(lambda record: "running"))
    experiment = tk.evaluate([{"number": number} for number in range(20)], sync, metrics=[right], concurrency=1)
    assert len(outputs(experiment)) == 20


def test_an_outcome_that_the_harness_stumbles_over_costs_that_item_alone(
    keeper: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = run.Run._count

    def stumbles(self: Any, call: Any, status: Any) -> None:
        if call.item.fields["number"] == 3:
            raise ValueError("a mistake of ours")
        original(self, call, status)

    monkeypatch.setattr(run.Run, "_count", stumbles)
    experiment = tk.evaluate(ITEMS, sync, metrics=[right])
    assert [item.output for item in experiment if item.fields["number"] != 3] == ["1", "2", "3", "5", "6"]
    assert experiment.missing == 1
    assert "a mistake of ours" in caplog.text
    monkeypatch.undo()
    assert tk.Experiment.load(experiment.id).complete, "it had ended, and was kept"


def test_a_frame_with_a_column_called_name_is_no_dataset(keeper: object) -> None:
    pandas = pytest.importorskip("pandas")
    experiment = tk.evaluate(pandas.DataFrame({"name": ["a", "b"]}), lambda name: name.upper())
    assert outputs(experiment) == ["A", "B"]
    assert experiment.facts.dataset == ""


def test_a_stored_dataset_is_named_with_its_version_and_a_resume_finds_it(keeper: object) -> None:
    dataset = tk.Dataset("sums").insert(ITEMS[:4])
    first = tk.evaluate(dataset, sync, metrics=[right])
    assert (first.facts.dataset, first.facts.dataset_version) == ("sums", dataset.version)
    dataset.insert(ITEMS)
    grown = tk.resume(first, task=sync, metrics=[right])
    assert outputs(grown) == WANTED
    dataset.delete(next(iter(dataset.ids())))
    assert outputs(tk.resume(first, task=sync, metrics=[right])) == WANTED, (
        "what was deleted is in the version that was run"
    )
    pinned = tk.evaluate(tk.Dataset("sums", version=first.facts.dataset_version), sync)
    assert len(tk.resume(pinned, task=sync)) == 4
    some = tk.evaluate(dataset.select(sample=2, seed=1), sync)
    assert len(tk.resume(some, task=sync)) == 2, "a selection is not the dataset"
    with pytest.raises(tk.ConfigurationError, match="the dataset is empty"):
        tk.evaluate(tk.Dataset("none"), sync)


def test_help_shows_every_option() -> None:
    assert inspect.signature(tk.evaluate).parameters["concurrency"].default == 32
    assert "timeout" in inspect.signature(tk.aevaluate).parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "the dataset is empty"),
        ({"data": [{"id": "a", "q": 1}, {"id": "a", "q": 2}]}, "items 1 and 2 have the same id, 'a'"),
        ({"data": 3}, "int"),
        ({"task": "sync"}, "the task must be callable, not str"),
        (
            {"task": lambda unknown, other: 1},
            "the task's parameter 'unknown' is no field of the item; it has: question",
        ),
        ({"metrics": [lambda nowhere: 1]}, "nowhere"),
        ({"metrics": ["exact_mach"]}, "exact_match"),
        ({"concurrency": 0}, "concurrency=0: expected a whole number, 1 or more"),
        ({"timeout": -1}, "timeout=-1: expected a number greater than 0"),
        ({"retries": -1}, "retries=-1: expected a whole number, 0 or more"),
        ({"repeats": True}, "repeats=True: expected a whole number"),
        ({"budget": float("nan")}, "budget=nan: expected a number greater than 0"),
        ({"concurency": 3}, "evaluate has no option concurency=; did you mean concurrency=?"),
        ({"metrics": "exact_match"}, "expected a list of metrics, got str: write ['exact_match']"),
        ({"metrics": right}, "expected a list of metrics, got function: write [right]"),
        ({"metrics": 3}, "evaluate: metrics: expected a list of metrics, got int"),
        ({"experiment_metrics": len}, "experiment_metrics: expected a list of metrics"),
        ({"executor": object()}, "expected 'local', 'ray' or an object with run, arun and stop"),
        ({"executor": LocalExecutor}, "expected 'local', 'ray' or an object with run, arun and stop"),
        ({"executor": "cluster"}, "executor='cluster': expected 'local', 'ray' or an object"),
        ({"filter": lambda item: False}, "filter= leaves no item to evaluate"),
        ({"sample": 0}, "sample=0: expected a number of items"),
        ({"mapping": {"refrence": "expected"}, "metrics": [lambda reference: 1]}, "did you mean 'reference'?"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:24],
)
def test_what_cannot_work_is_said_before_the_first_call(change: dict[str, Any], message: str, keeper: object) -> None:
    calls = []

    def task(question: str) -> str:
        calls.append(question)
        return question

    options = {"data": ITEMS, "task": task, **change}
    with pytest.raises(tk.TracekeeperError) as caught:
        tk.evaluate(options.pop("data"), options.pop("task"), **options)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert calls == []


@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_no_task(keeper: object) -> None:
    with pytest.raises(tk.ConfigurationError, match="coroutine, the result of a call: give the function itself"):
        tk.evaluate(ITEMS, asynchronous(1))  # type: ignore[arg-type]


def test_with_tracing_off_it_says_what_to_do(keeper: object) -> None:
    with tk.context(enabled=False), pytest.raises(tk.ConfigurationError, match=r"tracing is off.*temporary_keeper"):
        tk.evaluate(ITEMS, sync)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "was run over a list that is not stored: give its items again, as data="),
        ({"data": ITEMS[1:]}, "had 6 items, and 1 of them are not among these"),
        ({"metrics": ["exact_match"]}, "had other metrics: this lacks right and has exact_match besides"),
        ({"experiment": "frist"}, "did you mean 'first'?"),
        ({"experiment": None}, "expected the name or the id of an experiment as text, got None"),
    ],
    ids=["no data", "other data", "other metrics", "no experiment", "no name"],
)
def test_a_resume_that_does_not_fit_is_refused(change: dict[str, Any], message: str, keeper: object) -> None:
    tk.evaluate(ITEMS, sync, metrics=[right], name="first")
    options: dict[str, Any] = {"experiment": "first", "task": sync, "metrics": [right], "data": ITEMS, **change}
    with pytest.raises(tk.ExperimentError) as caught:
        tk.resume(options.pop("experiment"), **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("again", [tk.resume, tk.rerun_failures])
def test_ids_of_another_dataset_do_not_make_its_items_the_same(again: Any, keeper: object) -> None:
    calls: list[int] = []

    def task(number: int) -> str:
        calls.append(number)
        return str(1 / (number - 2))

    items = [{"id": f"i{n}", "number": n, "expected": "1.0", "tags": "old"} for n in range(6)]
    tk.evaluate(items[:3], task, metrics=[right], name="first")
    calls.clear()
    others = [items[0], *({**item, "expected": "7"} for item in items[1:])]
    with pytest.raises(tk.ExperimentError) as caught:
        again("first", task=task, metrics=[right], data=others)
    assert "2 of its 3 items had other fields then (the first is 'i1'): give them as they were" in str(caught.value)
    assert not calls
    grown = [{**item, "tags": "new"} for item in items]
    assert len(again("first", task=task, metrics=[right], data=grown)) == (6 if again is tk.resume else 3)
    assert calls == ([3, 4, 5] if again is tk.resume else [2])


def test_a_resume_runs_what_a_dataset_has_got_since_and_nothing_twice(keeper: object) -> None:
    calls: list[int] = []

    def task(number: int) -> str:
        calls.append(number)
        return str(number + 1)

    first = tk.evaluate(ITEMS[:4], task, metrics=[right])
    grown = tk.resume(first, task=task, metrics=[right], data=ITEMS)
    assert outputs(grown) == WANTED
    assert sorted(calls) == list(range(6))
    again = tk.resume(first.id, task=task, metrics=[right], data=ITEMS)
    assert outputs(again) == WANTED
    assert len(calls) == 6
    assert {item.scores["right"].value for item in again} == {True}
    assert outputs(tk.Experiment.load(first.id)) == WANTED


OF_A_RUN = (Task, Call, Attempt, asyncio.Task, Run, Map, Record, RecordState, Item, ItemResult)


@pytest.mark.parametrize("task", [sync, asynchronous])
def test_what_ran_an_item_is_gone_with_it_and_does_not_wait_for_the_collector(keeper: object, task: Any) -> None:
    def there() -> list[Any]:
        return [each for each in gc.get_objects() if isinstance(each, OF_A_RUN)]

    gc.collect()
    gc.disable()
    try:
        had = there()  # what other tests left hanging
        tk.evaluate(ITEMS * 10, task, metrics=["exact_match"], concurrency=4)
        left = Counter(type(each) for each in there() if not any(each is one for one in had))
    finally:
        gc.enable()
    assert max(left.values(), default=0) <= 20, left  # threads that are idle have their last one


def test_what_a_metric_asks_for_in_vain_is_told_with_each_name_once(keeper: object) -> None:
    def judge(nothing: str) -> bool:
        raise AssertionError(nothing)

    [one] = tk.evaluate(ITEMS[:1], lambda question, number: number, metrics=[judge])
    reason = one.scores["judge"].reason or ""
    assert "it has: question, number, expected, input, output, context" in reason
