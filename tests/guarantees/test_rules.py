"""Online rules: each decision is made once and no budget is exceeded, whoever applies them, dies, or sets the clock."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FULL
from tests.support import programs
from tests.support.rows import SECOND, Writer, record

import tracekeeper as tk
from tracekeeper.scoring.rules.application import apply_rules
from tracekeeper.testing import temporary_keeper

ROUNDS = 10 if FULL else 2
POINTS = ("rules.looked", "rules.begun", "rules.asked", "rules.commit", "rules.committed")
DAY = 86_400 * SECOND
MIDNIGHT = 20_000 * DAY
OPTIONS = ("--input", "user_query", "--output", "chatgpt_response")
HALUEVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "halueval" / "general_data.json"

APPLIES = """
import random, sys, time
import tracekeeper as tk
from tracekeeper.scoring.rules import application as rule_application
from tracekeeper.tracing import runtime
from tracekeeper.types import StoreError, faults

rule_application.AT_ONCE = {at_once}
keeper, clock = runtime.keeper(), random.Random({seed})
store = keeper.store()
point = {point!r}
if point:
    faults.arm(point, faults.killing(after={after}))
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + 50
while time.monotonic() < until:
    now = {now}
    try:
        rule_application.apply_rules(keeper, seconds=0.0, now_ns=now)
        due = store.rules.due(now or time.time_ns())
    except StoreError as error:  # somebody else has the write lock: the next turn
        print(error, file=sys.stderr)
        continue
    if not any(each.new or each.idle or each.waiting for each in due):
        break
else:
    sys.exit("there is still something to decide")
print("done", flush=True)
"""


def applying(
    directory: Path, *, point: str = "", after: int = 0, at_once: int = 20, now: str = "None", seed: int = 0
) -> subprocess.Popen[str]:
    code = APPLIES.format(point=point, after=after, at_once=at_once, now=now, seed=seed)
    return programs.start(code, directory)


def together(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Let them go at the same moment; how each of them ended."""
    for process in processes:
        assert programs.ready(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    codes = []
    for process in processes:
        _, said = process.communicate(timeout=100)
        assert process.returncode in (0, -signal.SIGKILL), said
        codes.append(process.returncode)
    return codes


def rows(directory: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(directory / ".tracekeeper" / "tracekeeper.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def filled(directory: Path, records: int, **fields: Any) -> None:
    with temporary_keeper(directory / ".tracekeeper") as keeper:
        journal = Writer(keeper.store())
        for begin in range(0, records, 500):
            journal.apply(*(record(**fields) for _ in range(begin, min(records, begin + 500))))


def ruled(directory: Path, **fields: Any) -> None:
    with temporary_keeper(directory / ".tracekeeper"):
        tk.rule("r", **{"filter": "*", "metrics": ["Length"], "since": "beginning", **fields})


def account(directory: Path) -> dict[str, int]:
    """The rule's counters, and what the scores say, which must be the same."""
    [(matched, judged, not_sampled, over)] = rows(
        directory, "SELECT matched, judged, not_sampled, over_budget FROM rule"
    )
    of_scores = dict(rows(directory, "SELECT coalesce(reason, status), count(*) FROM score GROUP BY 1"))
    spent = sum(n for (n,) in rows(directory, "SELECT evaluations FROM rule_day"))
    assert matched == judged + not_sampled + over == sum(of_scores.values())
    assert judged == of_scores.get("pending", 0) == spent
    assert not_sampled == of_scores.get("not sampled", 0)
    return {"matched": matched, "judged": judged, "not_sampled": not_sampled, "over": over}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_processes_that_die_at_any_point_neither_repeat_nor_lose_a_decision(tmp_path: Path, seed: int) -> None:
    filled(tmp_path, 600)
    ruled(tmp_path, sample=0.5, daily_evaluations=200)
    chance = random.Random(seed)
    doomed = [applying(tmp_path, point=point, after=chance.randrange(4)) for point in POINTS]
    together([*doomed, applying(tmp_path)])
    together([applying(tmp_path), applying(tmp_path)])
    found = account(tmp_path)
    assert found["matched"] == 600
    assert found["judged"] == 200, "sampled are about 300, and the budget allows 200 of them"


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_point_leaves_the_rest_to_the_next(tmp_path: Path, point: str) -> None:
    filled(tmp_path, 60)
    ruled(tmp_path, daily_evaluations=50)
    assert together([applying(tmp_path, point=point, after=1)]) == [-signal.SIGKILL]
    assert together([applying(tmp_path)]) == [0]
    assert account(tmp_path) == {"matched": 60, "judged": 50, "not_sampled": 0, "over": 10}


def test_four_processes_never_exceed_a_budget_of_evaluations(tmp_path: Path) -> None:
    filled(tmp_path, 2_000)
    ruled(tmp_path, daily_evaluations=333)
    assert together([applying(tmp_path) for _ in range(4)]) == [0] * 4
    assert account(tmp_path) == {"matched": 2_000, "judged": 333, "not_sampled": 0, "over": 1_667}


def test_clocks_that_jump_over_midnight_keep_each_day_within_its_budget(tmp_path: Path) -> None:
    """Each look of each process has another idea of the time, within two minutes around midnight."""
    filled(tmp_path, 1_000)
    ruled(tmp_path, daily_evaluations=100)
    jumps = f"{MIDNIGHT} + clock.randrange(-60, 60) * 10**9"
    assert together([applying(tmp_path, now=jumps, seed=seed) for seed in range(3)]) == [0] * 3
    found = account(tmp_path)
    days = dict(rows(tmp_path, "SELECT day, evaluations FROM rule_day"))
    assert days == {"2024-10-03": 100, "2024-10-04": 100}
    by_day = f"SELECT created_at / {DAY}, count(*) FROM score WHERE status = 'pending' GROUP BY 1"
    assert [n for _, n in rows(tmp_path, by_day)] == [100, 100]
    assert found["judged"] == 200
    assert found["over"] == 800


def test_money_is_never_overspent_while_scores_settle(tmp_path: Path) -> None:
    """Four processes apply the rule, and what they ask for settles at two cents each: fifty for a dollar."""
    filled(tmp_path, 400)
    ruled(tmp_path, daily_cost=1.0)
    processes = [applying(tmp_path, at_once=40) for _ in range(4)]
    for process in processes:
        assert programs.ready(process) == "ready"
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        store = keeper.store()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        while any(process.poll() is None for process in processes):
            with store.write() as connection:
                connection.exec_driver_sql(
                    "UPDATE score SET status = 'scored', value = 1, cost = 0.02, settled_at = created_at WHERE id IN "
                    "(SELECT id FROM score WHERE status = 'pending' LIMIT 7)"
                )
    for process in processes:
        assert process.communicate(timeout=100)[1] is not None
        assert process.returncode == 0
    [(asked,)] = rows(tmp_path, "SELECT count(*) FROM score WHERE status <> 'skipped'")
    assert asked == 50, "neither more than a dollar nor less"
    assert rows(tmp_path, "SELECT count(*) FROM score") == [(400,)]


def test_each_idle_session_is_judged_once_whoever_dies(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        journal = Writer(keeper.store())
        for n in range(300):
            journal.apply(record(session_id=f"s{n % 40}", started=MIDNIGHT + n * SECOND))
        tk.rule("r", filter="*", target="session", metrics=["Length"], idle_after=60, since="beginning")
    doomed = [applying(tmp_path, point=point, after=after) for point in POINTS[:4] for after in (0, 2)]
    together(doomed)
    together([applying(tmp_path), applying(tmp_path)])
    assert account(tmp_path) == {"matched": 40, "judged": 40, "not_sampled": 0, "over": 0}
    assert rows(tmp_path, "SELECT count(DISTINCT session_id) FROM score WHERE target = 'session'") == [(40,)]
    assert rows(tmp_path, "SELECT count(*) FROM score_attempt") == [(0,)]


def test_a_worker_applies_rules_and_settles_their_scores(tmp_path: Path) -> None:
    filled(tmp_path, 50, output=b'"an answer"')
    ruled(tmp_path, sample=0.5)
    done = subprocess.run(
        [sys.executable, "-m", "tracekeeper", "worker", "--once"],
        cwd=tmp_path,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses = dict(rows(tmp_path, "SELECT status, count(*) FROM score GROUP BY 1"))
    assert set(statuses) == {"scored", "skipped"}
    assert sum(statuses.values()) == 50


@pytest.mark.skipif(not HALUEVAL.exists(), reason="the HaluEval data is not beside this checkout")
def test_a_tenth_of_real_data_is_the_same_tenth_again(tmp_path: Path) -> None:
    """The same import, judged twice by rules of one name, in two directories: the same ten percent."""
    subprocess.run(
        [sys.executable, "-m", "tracekeeper", "import", str(HALUEVAL), *OPTIONS],
        cwd=tmp_path,
        env=programs.environment(),
        capture_output=True,
        timeout=100,
        check=True,
    )
    shutil.copytree(tmp_path / ".tracekeeper", tmp_path / "again" / ".tracekeeper")
    chosen = []
    for directory in (tmp_path, tmp_path / "again"):
        with temporary_keeper(directory / ".tracekeeper") as keeper:
            tk.rule("tenth", filter="*", metrics=["OverlapAnswerRelevance"], sample=0.1, since="beginning")
            done = apply_rules(keeper, seconds=60)
        assert done.matched == 4507 == done.judged + done.not_sampled
        chosen.append({key for (key,) in rows(directory, "SELECT trace_id FROM score WHERE status = 'pending'")})
    assert chosen[0] == chosen[1]
    assert 350 < len(chosen[0]) < 550
