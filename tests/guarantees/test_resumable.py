"""G8: an interrupted evaluation keeps every finished item, tells what is missing, and resumes exactly the rest."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import FULL
from tests.support import programs

KILLS = 100 if FULL else 12
ITEMS = 60

TASK = """
import os, sys, threading, time
import tracekeeper as tk

ITEMS = [{"id": f"i{n}", "n": n, "expected": str(n)} for n in range(COUNT)]

def account(line):
    "What was done, on disk before the task returns: one write that the system does not tear."
    file = os.open("account", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (line + "\\n").encode())
    os.close(file)

def task(n):
    account(f"begun {n}")
    time.sleep(0.01)
    account(f"done {n}")
    return str(n)

def right(output, expected):
    return output == expected
""".replace("COUNT", str(ITEMS))

RUN = (
    TASK
    + """
print("ready", flush=True)
tk.evaluate(ITEMS, task, metrics=[right], name="run", concurrency=4)
print("over", flush=True)
"""
)

RESUME = (
    TASK
    + """
before = tk.Experiment.load("run")
ended = {item.item_id for item in before if item.status == "ok"}
missing = before.missing
experiment = tk.resume("run", task=task, metrics=[right], data=ITEMS)
# It is told by the calls that were under way; between two calls there are none.
under_way = any(item.reason == "its process ended while it ran" for item in before)
assert before.interrupted or not under_way
print(sorted(ended), missing, sep="|")
print([(item.item_id, item.output, item.scores["right"].value) for item in experiment])
again = tk.Experiment.load("run")
assert (experiment.interrupted, again.interrupted, again.notes) == (False, False, [])
print(again.complete, len(again), all(item.output == item.expected for item in again))
"""
)


def accounts(place: Path) -> tuple[Counter[str], Counter[str]]:
    lines = (place / "account").read_text().split("\n") if (place / "account").exists() else []
    kinds = Counter[str](), Counter[str]()
    for line in lines:
        if line:
            kind, _, number = line.partition(" ")
            kinds[kind == "done"][number] += 1
    return kinds


def test_after_kill_9_at_any_moment_a_resume_does_exactly_the_rest(tmp_path: Path) -> None:
    chance = random.Random(5)
    interrupted = 0
    for round_ in range(KILLS):
        place = tmp_path / f"{round_}"
        place.mkdir()
        run = programs.start(RUN, place)
        programs.ready(run)
        until = time.monotonic() + 30
        goal = chance.randrange(1, ITEMS)  # before the first call there may be no experiment yet
        while sum(accounts(place)[1].values()) < goal and run.poll() is None:
            assert time.monotonic() < until
            time.sleep(chance.random() * 0.003)
        programs.kill(run)
        _, done = accounts(place)
        finished = programs.run(RESUME, place)
        assert finished.code == 0, finished.err
        ended, results, after = finished.out.strip().split("\n")
        names, _, missing = ended.partition("|")
        kept = {name.strip(" '[]") for name in names.split(",")} - {""}
        assert int(missing) == ITEMS - len(kept)
        wanted = [(f"i{n}", str(n), True) for n in range(ITEMS)]
        assert results == str(wanted), (round_, results)
        assert after == f"True {ITEMS} True"
        # What had ended was not run again; of what had begun, only what was under way (at most 4) could be.
        begun_after, _ = accounts(place)
        again = {number for number in begun_after if begun_after[number] > 1}
        assert not {f"i{number}" for number in again} & kept
        assert len(again) <= 4 + 4, again
        assert set(begun_after) == {str(n) for n in range(ITEMS)}
        # Nothing that was done well before the kill is lost: only the last of each place may not have been written.
        assert len(kept) >= sum(done.values()) - 8
        interrupted += int(missing) > 0
    assert interrupted >= KILLS // 2, "most kills came in the middle"


INTERRUPTED = (
    TASK
    + """
def slow(n):
    account(f"begun {n}")
    time.sleep(0.05 if n < 8 else 60)
    return str(n)

print("ready", flush=True)
try:
    experiment = tk.evaluate(ITEMS, slow, metrics=[right], name="run", concurrency=8)
except KeyboardInterrupt as error:
    read = tk.Experiment.load("run")
    print("aborted", error.experiment_id == read.id and read.interrupted and "KeyboardInterrupt" in read.notes[-1])
else:
    print(experiment.complete, experiment.missing, sum(item.status == "ok" for item in experiment), experiment.notes)
    read = tk.Experiment.load(experiment.id)
    print(experiment.interrupted, read.interrupted, read.notes == experiment.notes, read.facts.note)
"""
)


def wait_for(place: Path, begun: int) -> None:
    until = time.monotonic() + 30
    while len(accounts(place)[0]) < begun:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_first_ctrl_c_gives_what_is_finished_and_a_resume_does_the_rest(tmp_path: Path) -> None:
    run = programs.start(INTERRUPTED, tmp_path)
    programs.ready(run)
    wait_for(tmp_path, 16)
    sent = time.monotonic()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert time.monotonic() - sent < 15, "60 s calls do not hold it"
    assert run.returncode == 0, err
    said, kept = out.strip().split("\n")
    assert said == f"False {ITEMS - 8} 8 ['it was interrupted by Ctrl-C']", err
    assert kept == "True True True it was interrupted by Ctrl-C"
    finished = programs.run(RESUME, tmp_path)
    assert finished.out.strip().split("\n")[-1] == f"True {ITEMS} True", finished.err


def test_the_second_ctrl_c_aborts_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    run = programs.start(
        INTERRUPTED.replace("time.sleep(0.05 if n < 8 else 60)", "hold(n)").replace(
            'print("ready"', HOLD + '\nprint("ready"', 1
        ),
        tmp_path,
    )
    programs.ready(run)
    wait_for(tmp_path, 16)
    run.send_signal(signal.SIGINT)
    assert run.stdout is not None
    (tmp_path / "first").touch()
    assert run.stdout.readline().strip() == "stopping"
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert out.strip() == "aborted True", (out, err)
    finished = programs.run(RESUME, tmp_path)
    ended, _, after = finished.out.strip().split("\n")
    assert int(ended.partition("|")[2]) == ITEMS - 8
    assert after == f"True {ITEMS} True"


HOLD = """
import logging
class Said(logging.Handler):
    def emit(self, record):
        if "Ctrl-C" in record.getMessage():
            print("stopping", flush=True)
            time.sleep(0.3)
logging.getLogger("tracekeeper").addHandler(Said())

def hold(n):
    time.sleep(0.05 if n < 8 else 60)
"""


@pytest.mark.parametrize("what", ["harness", "exit"])
def test_an_exception_in_the_harness_costs_no_finished_item_and_names_the_experiment(what: str, tmp_path: Path) -> None:
    finished = programs.run(
        TASK
        + """
from tracekeeper.evaluation.running import run as runs
count = 0
original = runs.Run._count
def breaks(self, call, status):
    global count
    count += 1
    original(self, call, status)
    if count == 20:
        raise SystemExit("disk on fire")
runs.Run._count = breaks
try:
    tk.evaluate(ITEMS, task, metrics=[right], name="run", concurrency=4)
except SystemExit as error:
    print(error.experiment_id, error.__notes__)
    read = tk.Experiment.load("run")
    assert (read.interrupted, read.notes) == (True, ["it was ended by SystemExit: disk on fire"])
"""
        + ("raise SystemExit(3)" if what == "exit" else ""),
        tmp_path,
    )
    assert "does the rest" in finished.out, finished
    resumed = programs.run(RESUME, tmp_path)
    ended, _, after = resumed.out.strip().split("\n")
    assert ITEMS - int(ended.partition("|")[2]) >= 19
    assert after == f"True {ITEMS} True"


RERUN_TASK = (
    TASK
    + """
def uneven(n):
    account(f"begun {n}")
    time.sleep(0.005)
    account(f"done {n}")
    if n % 3 == 0 or (n % 3 == 1 and not os.path.exists("fixed")):
        raise ValueError(f"{n} cannot be done")
    return str(n)
"""
)

RERUN = (
    RERUN_TASK
    + """
tk.evaluate(ITEMS, uneven, metrics=[right], name="run", concurrency=4)
open("account", "w").close()
open("fixed", "w").close()
print("ready", flush=True)
tk.rerun_failures("run", task=uneven, metrics=[right], data=ITEMS)
print("over", flush=True)
"""
)

REST = (
    RERUN_TASK
    + """
before = tk.Experiment.load("run")
waiting = sorted(item.fields["n"] for item in before if item.status not in ("ok", "error"))
waiting = waiting if before.missing or any(item.earlier for item in before) else "nothing began"
experiment = getattr(tk, os.environ["DOOR"])("run", task=uneven, metrics=[right], data=ITEMS)
print(waiting)
print([(item.status.value, item.output, [call.error for call in item.earlier if call.error]) for item in experiment])
again = tk.Experiment.load("run")
print(again.complete, [item.status.value for item in again] == [item.status.value for item in experiment])
"""
)


@pytest.mark.slow
def test_after_kill_9_a_second_rerun_does_exactly_the_rest_of_the_first(tmp_path: Path) -> None:
    chance = random.Random(7)
    failing = [n for n in range(ITEMS) if n % 3 != 2]
    caught = 0
    for round_ in range(max(4, KILLS // 4)):
        place = tmp_path / f"{round_}"
        place.mkdir()
        run = programs.start(RERUN, place)
        programs.ready(run)
        until = time.monotonic() + 30
        goal = chance.randrange(1, len(failing))
        while sum(accounts(place)[1].values()) < goal and run.poll() is None:
            assert time.monotonic() < until
            time.sleep(chance.random() * 0.002)
        programs.kill(run)
        begun, _ = accounts(place)
        # A resume knows as well what is to be called again.
        finished = programs.run(REST, place, DOOR="resume" if round_ % 2 else "rerun_failures")
        assert finished.code == 0, finished.err
        waiting, results, after = finished.out.strip().split("\n")
        assert waiting != "nothing began"
        left = [int(n) for n in waiting.strip("[]").split(", ") if n]
        begun_after, _ = accounts(place)
        called = begun_after - begun
        if not left and round_ % 2 == 0:  # all its calls were through when it was killed: this is a rerun of its own
            assert sorted(map(int, called)) == [n for n in failing if n % 3 == 0]
            continue
        assert sorted(map(int, called)) == left, (round_, begun, begun_after)
        assert set(called.values()) <= {1}
        assert set(map(int, begun_after)) == set(failing), "all that had failed, and nothing else"
        for n, (status, output, errors) in enumerate(eval(results)):
            assert (status, output) == (("error", None) if n % 3 == 0 else ("ok", str(n)))
            assert errors == ([] if n % 3 == 2 else [f"ValueError: {n} cannot be done"]), "the old outcome is not lost"
        assert after == "True True"
        caught += bool(left)
    assert caught >= 2, "kills came in the middle"


JUDGED = """
import os, threading
import tracekeeper as tk

ITEMS = [{"id": f"i{n}", "n": n, "expected": str(n)} for n in range(6)]
judged = []

def task(n):
    assert not os.path.exists("died"), "no call is made again"
    return str(n)

def right(output, expected):
    if not os.path.exists("died"):
        judged.append(output)
        if len(judged) == len(ITEMS):
            print("ready", flush=True)
        if int(output) > 2:
            threading.Event().wait(60)
    return output == expected

def share_of_right(results):
    return sum(one.scores["right"].value is True for one in results) / len(results)
"""


def test_scores_that_were_lost_with_a_process_are_there_when_a_resume_judges_the_whole(tmp_path: Path) -> None:
    given = "task, metrics=[right], experiment_metrics=[share_of_right]"
    run = programs.start(JUDGED + f"tk.evaluate(ITEMS, {given}, name='run')", tmp_path)
    programs.ready(run)
    programs.kill(run)
    (tmp_path / "died").touch()
    finished = programs.run(
        JUDGED
        + f"""
before = tk.Experiment.load("run")
print(before.complete, before.scores["share_of_right"].status.value)
experiment = tk.resume("run", task={given}, data=ITEMS)
print(experiment.scores["share_of_right"].value, tk.Experiment.load("run").scores["share_of_right"].value)
print([one.scores["right"].value for one in experiment])
""",
        tmp_path,
    )
    assert finished.out.split("\n")[:3] == ["True pending", "1.0 1.0", str([True] * 6)], finished.err


def test_a_call_that_returned_is_not_made_again_although_its_process_died_before_it_could_say_so(
    tmp_path: Path,
) -> None:
    died = programs.run(
        TASK
        + """
from tracekeeper.types import faults
faults.arm("evaluation.outcome", faults.killing(after=4))
tk.evaluate(ITEMS[:8], task, metrics=[right], name="run", concurrency=1)
""",
        tmp_path,
    )
    assert died.code == -9
    _, done = accounts(tmp_path)
    again = programs.run(
        TASK
        + """
found = {item.item_id: item for item in tk.Experiment.load("run")}
ended = [item.item_id for item in found.values() if item.status == "ok"]
assert all(item.output == item.expected and item.seconds > 0 and item.attempts == 1 for item in map(found.get, ended))
experiment = tk.resume("run", task=task, metrics=[right], data=ITEMS[:8])
print(len(ended), experiment.complete, all(item.scores["right"].value for item in experiment))
""",
        tmp_path,
    )
    assert again.code == 0, again.err
    ended, *rest = again.out.split()
    assert rest == ["True", "True"]
    begun_in_all, _ = accounts(tmp_path)
    assert int(ended) >= 5, "the fifth outcome was never said, and its call had returned"
    twice = {number for number, times in begun_in_all.items() if times > 1}
    assert len(twice) <= 1, "what was under way"
    assert not twice & {number for number in done if int(number) < int(ended)}
