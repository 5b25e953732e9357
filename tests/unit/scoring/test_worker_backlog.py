"""The order in which waiting jobs get a place: by priority, in turn between apps, past metrics at their limit."""

from __future__ import annotations

from typing import Any

import pytest

from tracekeeper.judging import metric
from tracekeeper.scoring.backlog import Backlog
from tracekeeper.scoring.jobs import Job, Source


def job(app: str = "a", **options: Any) -> Job:
    def judge(output: str) -> int:
        return 1

    source = Source(None, bytes(16), bytes(8), app=app)  # type: ignore[arg-type]
    return Job(source, metric(judge, version="1", **options), None)


def taken(backlog: Backlog, count: int = 100) -> list[Job]:
    found = []
    while len(found) < count and (one := backlog.take()) is not None:
        found.append(one)
    return found


def test_jobs_of_one_app_are_begun_in_the_order_they_came() -> None:
    backlog, jobs = Backlog(), [job() for _ in range(5)]
    backlog.extend(jobs)
    assert len(backlog) == 5
    assert taken(backlog) == jobs
    assert len(backlog) == 0


def test_a_smaller_priority_goes_first_whenever_it_came() -> None:
    backlog = Backlog()
    later, first, middle = job(priority=5), job(priority=-5), job()
    backlog.extend([later, middle, first])
    assert taken(backlog) == [first, middle, later]


def test_apps_take_turns() -> None:
    backlog = Backlog()
    many, few = [job("many") for _ in range(1_000)], [job("few") for _ in range(3)]
    backlog.extend(many)
    backlog.extend(few)
    assert [one.source.app for one in taken(backlog, 6)].count("few") == 3


def test_a_metric_at_its_limit_holds_back_nobody_else() -> None:
    backlog = Backlog()
    limited, free = [job(name="limited", concurrency=2) for _ in range(10)], job(name="free")
    backlog.extend([*limited, free])
    got = taken(backlog)
    assert [one.metric.name for one in got].count("limited") == 2
    assert free in got
    assert backlog.take() is None
    assert len(backlog) == 8
    backlog.returned(limited[0])
    assert taken(backlog) == [limited[2]]


def test_a_limit_is_shared_out_between_apps_as_well() -> None:
    backlog = Backlog()
    backlog.extend(job("many", name="limited", concurrency=1) for _ in range(100))
    backlog.extend([job("few", name="limited", concurrency=1)])
    order = []
    for _ in range(3):
        [one] = taken(backlog)
        order.append(one.source.app)
        backlog.returned(one)
    assert "few" in order


def test_a_job_that_is_tried_again_goes_before_those_of_its_app() -> None:
    backlog, jobs = Backlog(), [job() for _ in range(3)]
    backlog.extend(jobs)
    [first] = taken(backlog, 1)
    backlog.put_first(first)
    assert taken(backlog) == jobs


def test_what_waited_too_long_is_taken_out_and_the_rest_stays() -> None:
    backlog, jobs = Backlog(), [job("a"), job("b"), job("b")]
    for number, one in enumerate(jobs):
        one.submitted = float(number)
    backlog.extend(jobs)
    assert backlog.overdue(1.5) == jobs[:2]
    assert taken(backlog) == jobs[2:]


def test_a_limit_holds_in_the_engine_whatever_else_there_is_to_run(bench: Any) -> None:
    import threading

    running, most, gate = 0, 0, threading.Lock()

    def narrow(output: str) -> int:
        nonlocal running, most
        with gate:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with gate:
            running -= 1
        return 1

    def wide(output: str) -> int:
        return 1

    limited = metric(narrow, concurrency=2, retries=1)
    told = [bench.judge(limited, metric(wide)) for _ in range(30)]
    for one in told:
        assert {score.status for score in one.final(2).values()} == {"scored"}
    assert most == 2
    assert bench.engine.wait(10)
    assert len(bench.engine.backlog) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 2_000}, "priority=2000: expected a whole number, -1000 (first) to 1000 (last)"),
        ({"priority": True}, "expected a whole number"),
        ({"concurrency": 0}, "concurrency=0: expected a whole number of at least 1, or None"),
        ({"concurrency": 1.5}, "expected a whole number of at least 1"),
    ],
)
def test_a_priority_or_limit_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match="judge") as refused:
        job(**options)
    assert message in str(refused.value)
