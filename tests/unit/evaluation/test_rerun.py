"""``tk.rerun_failures``: exactly what went wrong is called again, and nothing of what was is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.evaluation.results import Results

ITEMS = [{"id": f"i{n}", "number": n, "expected": str(n)} for n in range(6)]


class Task:
    """Odd numbers raise, until it is ``fixed``; 4 takes too long. It counts its calls."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.fixed = False
        self.held = threading.Event()

    def __call__(self, number: int) -> str:
        self.calls[number] += 1
        if not self.fixed and number % 2:
            raise ValueError(f"odd: {number}")
        if not self.fixed and number == 4:
            self.held.wait(10)
        return str(number)

    def taken(self) -> dict[int, int]:
        """The calls since it was asked last."""
        taken = dict(self.calls)
        self.calls.clear()
        return taken


@pytest.fixture
def task() -> Any:
    made = Task()
    yield made
    made.held.set()


def right(output: str, expected: str) -> bool:
    return output == expected


def states(experiment: Results) -> dict[str, tuple[str, Any]]:
    return {one.item_id: (str(one.status), one.output) for one in experiment}


ALL_OK = {f"i{n}": ("ok", str(n)) for n in range(6)}


def test_exactly_what_failed_is_called_again_and_what_was_is_kept(task: Task, keeper: object) -> None:
    first = tk.evaluate(ITEMS, task, metrics=[right], name="first", timeout=0.3)
    assert Counter(one.status for one in first) == {"ok": 2, "error": 3, "timed_out": 1}
    before = {one.item_id: one for one in first}
    task.taken()
    task.fixed = True
    again = tk.rerun_failures("first", task=task, metrics=[right], data=ITEMS)
    assert task.taken() == {1: 1, 3: 1, 4: 1, 5: 1}
    for experiment in (again, tk.Experiment.load(first.id)):
        assert experiment.id == first.id
        assert states(experiment) == ALL_OK
        assert [one.item_id for one in experiment] == [f"i{n}" for n in range(6)]
        assert {one.scores["right"].value for one in experiment} == {True}
        for one in experiment:
            old = before[one.item_id]
            if old.ok:
                assert (one.earlier, one.span_id) == ((), old.span_id), "it is the same call"
                continue
            [call] = one.earlier
            assert (call.status, call.error, call.span_id) == (old.status, old.error, old.span_id)
            assert one.span_id != old.span_id
            [record] = tk.records(f"trace = {call.trace_id}")
            assert record.span_id == call.span_id, "the old record is still there"


def test_once_it_is_over_another_call_calls_what_failed_again(task: Task, keeper: object) -> None:
    first = tk.evaluate(ITEMS, task, name="first", timeout=0.3)
    task.taken()
    again = tk.rerun_failures(first, task=task, data=ITEMS, outcomes="error")
    assert task.taken() == {1: 1, 3: 1, 5: 1}
    assert states(again) == states(first)
    tk.rerun_failures(first, task=task, data=ITEMS, outcomes=["error"])
    assert task.taken() == {1: 1, 3: 1, 5: 1}
    task.fixed = True
    last = tk.rerun_failures(first, task=task, data=ITEMS)
    assert states(last) == ALL_OK
    assert [len(one.earlier) for one in last] == [0, 3, 0, 3, 1, 3]
    tk.rerun_failures(first, task=task, data=ITEMS)
    assert task.taken() == {1: 1, 3: 1, 4: 1, 5: 1}, "nothing failed any more"


@pytest.mark.parametrize(
    "outcomes",
    ["error", ["interrupted"], ["pending"], ("error", "timed_out", "interrupted"), ["pending", "error"]],
    ids=str,
)
def test_which_outcomes_are_called_again_can_be_chosen(
    outcomes: Any, keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekeeper.evaluation.running import run

    asked: list[int] = []

    async def task(number: int) -> str:
        if number == 0:
            raise ValueError("the first")
        raise asyncio.CancelledError  # as a call that Ctrl-C ends

    async def good(number: int) -> str:
        asked.append(number)
        return str(number)

    monkeypatch.setattr(run.Run, "_count", lambda self, call, status: status != "cancelled" or self._stop("enough"))
    first = tk.evaluate(ITEMS, task, name="first", concurrency=1)
    monkeypatch.undo()
    kinds = {"error": "error", "cancelled": "interrupted", "pending": "pending"}
    went = {one.fields["number"]: kinds[str(one.status)] for one in first}
    assert set(went.values()) == {"error", "interrupted", "pending"}
    again = tk.rerun_failures(first, task=good, data=ITEMS, outcomes=outcomes)
    wanted = [outcomes] if isinstance(outcomes, str) else outcomes
    assert sorted(asked) == [number for number, kind in went.items() if kind in wanted]
    assert again.missing == sum(kind != "error" and kind not in wanted for kind in went.values())
    assert states(tk.Experiment.load(first.id)) == states(again)
    assert all(one.earlier == () for one in again if went[one.fields["number"]] == "pending"), "it never began"


def test_repeats_are_called_again_one_by_one(keeper: object) -> None:
    calls: list[int] = []

    def task(number: int) -> int:
        calls.append(number)
        if calls.count(number) == 2:
            raise ValueError("the second of each")
        return len(calls)

    first = tk.evaluate(ITEMS[:2], task, repeats=3, concurrency=1)
    before = states(first)
    calls.clear()
    again = tk.rerun_failures(first, task=task, data=ITEMS[:2])
    assert calls == [0, 1]
    assert [(one.repeat, len(one.earlier)) for one in again] == [(0, 0), (1, 1), (2, 0)] * 2
    assert before.keys() == states(again).keys()
    assert again.complete


def test_it_can_be_awaited_with_an_async_task_and_so_can_a_resume(task: Task, keeper: object) -> None:
    first = tk.evaluate(ITEMS, task, metrics=[right], timeout=0.3)

    async def later(number: int) -> str:
        await asyncio.sleep(0)
        return str(number)

    async def main() -> None:
        again = await tk.arerun_failures(first, task=later, metrics=[right], data=ITEMS)
        assert states(again) == ALL_OK
        grown = [*ITEMS, {"id": "i6", "number": 6, "expected": "6"}]
        rest = await tk.aresume(first, task=later, metrics=[right], data=grown)
        assert states(rest) == {**ALL_OK, "i6": ("ok", "6")}

    asyncio.run(main())


def test_a_stored_dataset_that_has_grown_adds_nothing_to_a_rerun(task: Task, keeper: object) -> None:
    dataset = tk.Dataset("numbers").insert(ITEMS[:2])
    first = tk.evaluate(dataset, task)
    dataset.insert(ITEMS)
    task.fixed = True
    task.taken()
    assert states(tk.rerun_failures(first, task=task)) == {"i0": ("ok", "0"), "i1": ("ok", "1")}
    assert task.taken() == {1: 1}


def test_a_machine_whose_clock_is_behind_says_the_last_word_all_the_same(
    task: Task, keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekeeper.evaluation.running import task_app

    first = tk.evaluate(ITEMS, task, metrics=[right], timeout=0.3)
    task.fixed = True
    earlier = time.time_ns() - 3600 * 10**9

    class Behind:
        @staticmethod
        def time_ns() -> int:
            return earlier

    monkeypatch.setattr(task_app, "time", Behind)
    again = tk.rerun_failures(first, task=task, metrics=[right], data=ITEMS)
    assert states(again) == states(tk.Experiment.load(first.id)) == ALL_OK


def test_scores_of_calls_that_are_kept_are_kept(task: Task, keeper: object) -> None:
    judged: list[str] = []

    def counted(output: str) -> bool:
        judged.append(output)
        return True

    first = tk.evaluate(ITEMS, task, metrics=[counted], timeout=0.3)
    assert sorted(judged) == ["0", "2"]
    judged.clear()
    task.fixed = True
    tk.rerun_failures(first, task=task, metrics=[counted], data=ITEMS)
    assert sorted(judged) == ["1", "3", "4", "5"]


def test_a_report_has_the_earlier_calls_and_reads_them_back(task: Task, keeper: object, tmp_path: Path) -> None:
    first = tk.evaluate(ITEMS, task, timeout=0.3)
    task.fixed = True
    again = tk.rerun_failures(first, task=task, data=ITEMS)
    again.to_json(tmp_path / "r.json")
    read = Results.from_json(tmp_path / "r.json")
    assert [one.earlier for one in read] == [one.earlier for one in again]
    assert [one.earlier[0].error for one in read if one.item_id == "i1"] == ["ValueError: odd: 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": ["failed"]}, "expected some of error, timed_out, interrupted, pending, not 'failed'"),
        ({"outcomes": []}, "expected some of error, timed_out, interrupted, pending, not none"),
        ({"data": None}, "was run over a list that is not stored: give its items again, as data="),
        ({"data": ITEMS[1:]}, "had 6 items, and 1 of them are not among these"),
        ({"metrics": ["exact_match"]}, "had other metrics"),
        ({"experiment": "frist"}, "did you mean 'first'?"),
    ],
    ids=["outcome", "no outcome", "no data", "other data", "other metrics", "no experiment"],
)
def test_what_cannot_work_is_said_before_the_first_call(
    change: dict[str, Any], message: str, task: Task, keeper: object
) -> None:
    first = tk.evaluate(ITEMS, task, metrics=[right], name="first", timeout=0.3)
    task.taken()
    options: dict[str, Any] = {"experiment": "first", "task": task, "metrics": [right], "data": ITEMS, **change}
    with pytest.raises(tk.TracekeeperError) as caught:
        tk.rerun_failures(options.pop("experiment"), **options)
    assert message in str(caught.value)
    assert task.taken() == {}
    assert states(tk.Experiment.load(first.id)) == states(first)


def test_a_rerun_that_was_interrupted_is_finished_by_the_next_call_whatever_it_asks_for(
    task: Task, keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekeeper.evaluation.running import run

    first = tk.evaluate(ITEMS, task, name="first", timeout=0.3, concurrency=1)
    task.taken()
    original = run.Run._count

    def breaks(self: Any, call: Any, status: Any) -> None:
        original(self, call, status)
        raise SystemExit("disk on fire")

    monkeypatch.setattr(run.Run, "_count", breaks)
    with pytest.raises(SystemExit) as caught:
        tk.rerun_failures(first, task=task, data=ITEMS, outcomes="error")
    assert caught.value.experiment_id == first.id  # type: ignore[attr-defined]
    monkeypatch.undo()
    called = task.taken()
    assert called[1] == 1
    loaded = tk.Experiment.load("first")
    assert states(loaded)["i1"] == ("error", None), "it failed again, and that is its outcome"
    left = {one.fields["number"] for one in loaded if one.reason == "it is to be called again"}
    assert left == {3, 5} - called.keys()
    assert loaded.missing == len({3, 5})
    assert {one.earlier[0].error for one in loaded if one.fields["number"] in left} <= {
        f"ValueError: odd: {n}" for n in left
    }
    task.fixed = True
    rest = tk.rerun_failures(first, task=task, data=ITEMS)  # would mean 1 and 4 too, were it another re-run
    assert task.taken() == {3: 1, 5: 1}
    assert states(rest) == {**ALL_OK, "i1": ("error", None), "i4": ("timed_out", None)}
    assert states(tk.rerun_failures(first, task=task, data=ITEMS)) == ALL_OK
    assert task.taken() == {1: 1, 4: 1}


def test_a_cancelled_evaluation_is_known_to_be_interrupted_and_a_resume_ends_that(keeper: object) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def forever(number: int) -> str:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.sleep(60)
            return str(number)

        running = asyncio.create_task(tk.aevaluate(ITEMS, forever, name="cancelled", concurrency=2))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        assert caught.value.experiment_id == tk.Experiment.load("cancelled").id  # type: ignore[attr-defined]

    asyncio.run(main())
    read = tk.Experiment.load("cancelled")
    assert (read.interrupted, read.notes, read.complete) == (
        True,
        ["it was ended by asyncio.exceptions.CancelledError"],
        False,
    )
    assert "it was ended by asyncio.exceptions.CancelledError" in read.text()
    rest = tk.resume("cancelled", task=lambda number: str(number), data=ITEMS)
    assert (rest.interrupted, rest.notes, states(rest)) == (False, [], ALL_OK)
    assert not tk.Experiment.load("cancelled").interrupted


# -- metrics of the run as a whole


def share_of_ok(results: Any) -> float:
    assert [one.item_id for one in results] == [f"i{n}" for n in range(len(results))], "in dataset order"
    return sum(one.ok for one in results) / len(results)


def share_of_right(results: Any) -> float:
    right = [one.scores["right"].value for one in results if one.ok]
    return right.count(True) / len(results)


WHOLE: dict[str, Any] = {"experiment_metrics": [share_of_ok, share_of_right], "metrics": [right]}


def values(experiment: tk.Experiment) -> dict[str, Any]:
    return {name: score.value for name, score in experiment.scores.items()}


def test_metrics_of_the_whole_judge_all_results_of_a_resume_and_of_a_rerun(task: Task, keeper: object) -> None:
    first = tk.evaluate(ITEMS[:4], task, name="first", timeout=0.3, **WHOLE)
    assert values(first) == {"share_of_ok": 0.5, "share_of_right": 0.5}
    grown = tk.resume(first, task=task, data=ITEMS[:5], **WHOLE)
    assert values(grown) == values(tk.Experiment.load("first")) == {"share_of_ok": 0.4, "share_of_right": 0.4}
    task.fixed = True
    again = tk.rerun_failures(first, task=task, data=ITEMS, outcomes="error", **WHOLE)
    assert values(again) == values(tk.Experiment.load("first")) == {"share_of_ok": 0.8, "share_of_right": 0.8}
    nothing_to_do = tk.resume(first, task=task, data=ITEMS[:5], **WHOLE)
    assert values(nothing_to_do) == values(again)


def test_until_a_run_is_through_its_scores_as_a_whole_are_pending(
    task: Task, keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracekeeper.evaluation.running import run

    first = tk.evaluate(ITEMS, task, name="first", timeout=0.3, **WHOLE)

    def breaks(self: Any, call: Any, status: Any) -> None:
        raise SystemExit("disk on fire")

    monkeypatch.setattr(run.Run, "_count", breaks)
    with pytest.raises(SystemExit):
        tk.rerun_failures(first, task=task, data=ITEMS, **WHOLE)
    monkeypatch.undo()
    read = tk.Experiment.load("first")
    assert {name: (score.status, score.reason) for name, score in read.scores.items()} == dict.fromkeys(
        ("share_of_ok", "share_of_right"), ("pending", "the run is not through")
    )
    task.fixed = True
    rest = tk.resume(first, task=task, data=ITEMS, **WHOLE)
    assert values(rest) == values(tk.Experiment.load("first"))
    assert values(rest)["share_of_ok"] == sum(one.ok for one in rest) / 6


@pytest.mark.parametrize("door", [tk.resume, tk.rerun_failures])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "was judged as a whole by share_of_ok, not by nothing: give the same, as experiment_metrics="),
        ([share_of_right], "was judged as a whole by share_of_ok, not by share_of_right"),
    ],
    ids=["none", "others"],
)
def test_other_metrics_of_the_whole_are_refused_before_the_first_call(
    door: Any, given: Any, said: str, task: Task, keeper: object
) -> None:
    tk.evaluate(ITEMS[:2], task, name="first", experiment_metrics=[share_of_ok])
    task.taken()
    with pytest.raises(tk.ExperimentError) as caught:
        door("first", task=task, data=ITEMS[:2], experiment_metrics=given)
    assert said in str(caught.value)
    assert task.taken() == {}
