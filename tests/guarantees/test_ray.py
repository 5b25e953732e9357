"""``executor="ray"`` with a real Ray of two workers: what a run promises holds wherever its calls are made."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs
from tests.support.elsewhere import (
    WITH_RAY,
    assert_ended_at_its_deadline,
    assert_lost_calls_were_made_again,
    assert_refused,
    assert_spans_of_a_local_run,
    items,
    right,
    seen,
)

import tracekeeper as tk

ray = pytest.importorskip("ray")
pytestmark = WITH_RAY

# Tasks are made inside of functions: Ray's workers cannot import this module, so they are sent by value.


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def made(kind: str) -> Any:
    def work(n: int) -> str:
        with tk.span(f"inside {n}", kind="tool") as span:
            span.set(output=n)
        if n == 3:
            raise ValueError("no three")
        return str(n)

    def sync(n: int) -> str:
        if n == 4:
            threading.Event().wait(60)
        return work(n)

    async def asynchronous(n: int) -> str:
        if n == 4:
            await asyncio.sleep(60)
        return work(n)

    return {"sync": sync, "async": asynchronous}[kind]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_outcomes_and_spans_are_those_of_a_local_run(kind: str, cluster: str, keeper: Any) -> None:
    options: dict[str, Any] = {"metrics": [right], "concurrency": 3, "timeout": 0.8}
    local = tk.evaluate(items(6), made(kind), name="local", **options)
    told: list[str] = []
    options.update(name="ray", executor="ray", on_result=lambda one: told.append(one.item_id))
    if kind == "sync":
        there = tk.evaluate(items(6), made(kind), **options)
    else:
        there = asyncio.run(beside_a_beating_loop(tk.aevaluate(items(6), made(kind), **options)))
    assert seen(there) == seen(local)
    assert Counter(one.status for one in there) == {"ok": 4, "error": 1, "timed_out": 1}
    assert sorted(told) == [f"i{n}" for n in range(6)]
    assert seen(tk.Experiment.load("ray")) == seen(there), "what is stored is what was returned"
    assert_spans_of_a_local_run(keeper, there, local)


async def beside_a_beating_loop(run: Any) -> tk.Experiment:
    longest, last = 0.0, time.monotonic()

    async def beat() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    beating = asyncio.create_task(beat())
    experiment: tk.Experiment = await run
    beating.cancel()
    assert longest < 1.0, "the loop goes on meanwhile"
    return experiment


def test_what_is_said_on_a_worker_is_said_of_the_items_record(cluster: str, keeper: Any) -> None:
    @tk.trace(kind="retriever")
    def retrieve(question: str) -> list[str]:
        return [f"about {question}"]

    def judge_length(output: str) -> bool:
        return len(output) > 3

    lm = tk.LM(lambda prompt: tk.Answer(text="Mild.", usage=tk.Usage(input_tokens=7, output_tokens=2, cost=0.5)))

    @tk.app(name="nested", metrics=[judge_length])
    def nested(text: str) -> str:
        return text

    def task(question: str) -> str:
        retrieve(question)
        tk.current_span().set(metadata={"place": "there"}, tags=["far"])
        nested("some text")
        return lm(question).text + f" for {tk.settings().user_id}"

    def documents(context: list[str]) -> str:
        return context[0]

    def spans_below(trace: Any) -> int:
        return len(trace)

    with tk.context(user_id="u-1"):
        [one] = tk.evaluate([{"question": "rain"}], task, metrics=[documents, spans_below], executor="ray", name="said")
    assert one.output == "Mild. for u-1"
    assert one.scores["documents"].value == "about rain"
    assert (one.cost, one.input_tokens, one.output_tokens) == (0.5, 7, 2)
    assert one.scores["spans_below"].value >= 3, "retriever, nested app, model, at least"
    [record] = tk.records('tag = "far"', limit=5)
    assert record.metadata["place"] == "there"
    [inner] = tk.records('app = "nested"', limit=5)
    assert inner.trace_id == one.trace_id
    assert inner.scores["judge_length"].value is True


def test_calls_of_killed_workers_are_made_again_and_each_item_is_there_once(
    cluster: str, keeper: Any, tmp_path: Path
) -> None:
    def task(n: int) -> str:
        with tk.span("inside"):
            if n == 2 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if n == 5:
                os._exit(3)  # each time: what ends all of its workers must cost its neighbours little
        return str(n)

    experiment = tk.evaluate(items(12), task, metrics=[right], executor="ray", concurrency=4, name="lost")
    assert_lost_calls_were_made_again(keeper, experiment)


def test_code_that_holds_the_interpreter_is_ended_at_its_deadline(cluster: str, keeper: Any) -> None:
    def task(n: int) -> str:
        if n == 3:
            re.match(r"(a+)+$", "a" * 40 + "b")  # for years, in C, without letting go of the lock
        return str(n)

    began = time.monotonic()
    experiment = tk.evaluate(items(4), task, executor="ray", concurrency=4, timeout=1, name="held")
    assert_ended_at_its_deadline(experiment)
    assert time.monotonic() - began < 25


def test_a_task_that_cannot_be_sent_is_said_before_anything_is_written(cluster: str, keeper: Any) -> None:
    lock = threading.Lock()

    def task(n: int) -> str:
        with lock:
            return str(n)

    said = "cannot be sent to Ray workers (TypeError: cannot pickle '_thread.lock' object)"
    assert_refused(said, "unsent", task=task, executor="ray")


RUN = """
import os, time
import tracekeeper as tk
from tracekeeper.evaluation.executors.on_ray import ray_executor

def task(n):
    file = os.open("account", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{n}\\n".encode())
    os.close(file)
    if n >= 10 and not os.path.exists("go"):
        time.sleep(60)
    return str(n)

def right(output, expected):
    return output == expected

place = os.getcwd()
def there(n):
    os.chdir(place)
    return task(n)

ITEMS = [{"id": f"i{n}", "n": n, "expected": str(n)} for n in range(16)]
print("ready", flush=True)
executor = ray_executor(concurrency=4, timeout=60, retries=0, workers=1)
experiment = tk.evaluate(ITEMS, there, metrics=[right], name="run", executor=executor)
print(experiment.complete, experiment.missing, experiment.notes, flush=True)
"""


def account(place: Path) -> Counter[str]:
    return Counter((place / "account").read_text().split()) if (place / "account").exists() else Counter()


def test_what_stopped_programs_left_is_resumed(cluster: str, tmp_path: Path) -> None:
    places = {how: tmp_path / how for how in ("SIGKILL", "SIGINT")}
    runs = {how: programs.start(RUN, place, RAY_ADDRESS=cluster) for how, place in places.items()}
    for how, run in runs.items():
        programs.ready(run)
        until = time.monotonic() + 60
        while len(account(places[how])) < 14:  # ten that end and four that do not
            assert time.monotonic() < until, account(places[how])
            time.sleep(0.01)
        stopped = time.monotonic()
        run.send_signal(signal.Signals[how])
        out, err = run.communicate(timeout=30)
        if how == "SIGINT":
            assert run.returncode == 0, err
            assert out.strip() == "False 6 ['it was interrupted by Ctrl-C']", err
            assert time.monotonic() - stopped < 10
        (places[how] / "go").touch()
        resumed(places[how], "ray" if how == "SIGKILL" else "local")


def resumed(place: Path, executor: Any) -> None:
    tk.configure(directory=place / ".tracekeeper")
    before = tk.Experiment.load("run")
    kept = {one.item_id for one in before if one.status == "ok"}
    assert len(kept) == 10
    path = str(place / "account")

    def task(n: int) -> str:
        with open(path, "a") as file:
            file.write(f"{n}\n")
        return str(n)

    whole = tk.resume("run", task=task, metrics=[right], data=items(16), executor=executor)
    assert [(one.item_id, one.output) for one in whole] == [(f"i{n}", str(n)) for n in range(16)]
    assert all(one.scores["right"].value for one in whole)
    counted = account(place)
    assert {f"i{n}" for n in counted if counted[n] > 1}.isdisjoint(kept), "what had ended is not run again"
