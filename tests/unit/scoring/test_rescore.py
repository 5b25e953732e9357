"""``tk.rescore``: stored records are judged by what was thought of later, each score once, and it says what it did."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.scoring.rescoring import score_stored
from tracekeeper.store.claims.claims import Wanted
from tracekeeper.store.rows import Batch
from tracekeeper.tracing import runtime
from tracekeeper.types import ScoreStatus


def length(output: str) -> int:
    return len(output)


def crashes(output: str) -> int:
    raise ValueError("no")


def several(output: str) -> dict[str, int]:
    return {"a": 1, "b": len(output)}


def log(count: int = 1, **fields: Any) -> None:
    for number in range(count):
        tk.log_record(**{"input": f"question {number}", "output": "mild", "app": "imported", "version": "1", **fields})


@pytest.fixture
def release() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def test_a_metric_is_named_by_object_function_name_or_import_path(keeper: Any) -> None:
    log(expected="mild")
    path = f"{__name__}:length"
    done = tk.rescore(metrics=[tk.metric(crashes), several_metric(), "exact_match", path])
    assert done.scores == {"scored": 4, "failed": 1}
    [record] = tk.records()
    assert {name: score.value for name, score in record.scores.items()} == {
        "crashes": None,
        "exact_match": True,
        "length": 4,
        "several.a": 1,
        "several.b": 4,
    }


def several_metric() -> tk.Metric:
    return tk.metric(several, names=["a", "b"])


def test_only_what_lacks_a_result_of_this_version_is_judged_unless_again_is_said(keeper: Any) -> None:
    log(3)
    assert tk.rescore(metrics=[length]).scores == {"scored": 3}
    log(2)
    done = tk.rescore(metrics=[length, crashes])
    assert (done.scores, done.before) == ({"scored": 2, "failed": 5}, 3)
    assert tk.rescore(metrics=[crashes]).before == 5, "a failure is a result too"
    assert tk.rescore(metrics=[tk.metric(length, version="2")]).scores == {"scored": 5}
    done = tk.rescore(metrics=[length], again=True)
    assert (done.scores, done.before) == ({"scored": 5}, 0)


def test_every_attempt_and_version_stays_visible_oldest_first(keeper: Any) -> None:
    log()
    answers = iter(["first", "second", "third"])

    def says(output: str) -> str:
        return next(answers)

    one, two = tk.metric(says, version="1"), tk.metric(says, version="2")
    tk.rescore(metrics=[one])
    tk.rescore(metrics=[two])
    tk.rescore(metrics=[one], again=True)
    [record] = tk.records()
    history = record.history("says")
    assert [(score.value, score.metric_version, score.attempt) for score in history] == [
        ("first", "1", 1),
        ("second", "2", 1),
        ("third", "1", 2),
    ]
    assert record.scores["says"].value == "third"
    with pytest.raises(tk.MetricError, match="did you mean 'says'"):
        record.history("sais")


def test_a_filter_and_a_limit_select_the_newest(keeper: Any) -> None:
    log(4)
    log(3, app="other")
    assert tk.rescore('app = "other"', metrics=[length]).records == 3
    done = tk.rescore(metrics=[length], limit=5)
    assert (done.records, done.scores, done.before) == (5, {"scored": 2}, 3)
    assert tk.rescore(metrics=[length], limit=0).records == 0


def test_it_says_what_it_did_in_one_sentence(keeper: Any) -> None:
    assert str(tk.rescore(metrics=[length])) == "there is no record to judge"
    log(2)
    assert str(tk.rescore('app = "none"', metrics=[length])) == 'no record that has ended matches app = "none"'
    assert str(tk.rescore(metrics=[length])) == "2 records judged: 2 = 2 scored"
    assert str(tk.rescore(metrics=[length])) == (
        "2 records, nothing judged here; 2 were judged before (again=True judges anew)"
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metrics": []}, r"^metrics=\[\]: name at least one metric"),
        ({}, r"^metrics=\[\]: name at least one metric"),
        ({"metrics": "exact_match"}, r"expected a list of metrics; write \['exact_match'\]"),
        ({"metrics": length}, "expected a list of metrics"),
        ({"metrics": ["exact_mtch"]}, "did you mean 'exact_match'"),
        ({"metrics": ["no_such_module:thing"]}, "module 'no_such_module' does not import"),
        ({"metrics": [length, length]}, "two metrics are named 'length'"),
        ({"metrics": [length], "filter": "app = "}, "expected"),
        ({"metrics": [length], "limit": -1}, "limit=-1: expected a whole number"),
        ({"metrics": [length], "concurrency": 0}, "concurrency=0: expected a whole number, 1 or more"),
        ({"metrics": [length], "priority": "high"}, "priority='high': expected a whole number"),
        ({"metrics": [lambda output: 1], "wait": False}, "no other process can compute"),
    ],
)
def test_what_cannot_be_is_said_at_once_in_one_sentence(keeper: Any, asked: Any, said: str) -> None:
    with pytest.raises(tk.TracekeeperError, match=said):
        tk.rescore(**asked)
    assert not keeper.used


def test_nothing_is_judged_in_vain_while_tracing_is_off(keeper: Any) -> None:
    log()
    with (
        tk.context(enabled=False),
        pytest.raises(tk.ConfigurationError, match="tracing is turned off, so no score would be kept"),
    ):
        tk.rescore(metrics=[length])


def test_progress_is_told_after_each_metric(keeper: Any) -> None:
    log(3)
    told: list[tuple[int, dict[str, int]]] = []
    tk.rescore(metrics=[several_metric()], on_progress=lambda done, counts: told.append((done, dict(counts))))
    assert told == [(2, {"scored": 2}), (4, {"scored": 4}), (6, {"scored": 6})]


def test_no_more_are_begun_at_a_time_than_asked_for(keeper: Any) -> None:
    log(20)
    lock, inside, most = threading.Lock(), [0], [0]

    def counted(output: str) -> int:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        with lock:
            inside[0] -= 1
        return 1

    assert tk.rescore(metrics=[counted], concurrency=2).scores == {"scored": 20}
    assert most[0] <= 2


def test_what_was_not_sampled_or_cancelled_came_to_no_result(keeper: Any) -> None:
    metric = tk.metric(length, sample=0)

    @tk.app(name="a", version="1", metrics=[metric])
    def ask(question: str) -> str:
        return "mild"

    ask("why?")
    assert only(tk.records()[0]).reason == "not sampled"
    assert tk.rescore(metrics=[length]).scores == {"scored": 1}
    assert only(tk.records()[0]).value == 4


def only(record: tk.Record) -> tk.Score:
    [score] = record.scores.values()
    return score


def test_a_call_that_has_not_ended_is_left_out_and_said(keeper: Any) -> None:
    with tk.span("open"):
        done = tk.rescore(metrics=[length])
        assert (done.records, done.running) == (0, 1)
        assert "1 record left out that is still running" in str(done)
    assert tk.rescore(metrics=[length]).records == 1


def test_what_this_process_is_computing_already_is_waited_for(keeper: Any, release: threading.Event) -> None:
    runs: list[str] = []
    begun = threading.Event()

    def waits(output: str) -> int:
        runs.append(output)
        begun.set()
        release.wait(20)
        return len(output)

    metric = tk.metric(waits)

    @tk.app(name="a", version="1", metrics=[metric])
    def ask(question: str) -> str:
        return "mild"

    ask("why?")
    assert begun.wait(20)
    assert keeper.ship(30) is None
    threading.Timer(0.3, release.set).start()
    done = tk.rescore(metrics=[metric])
    assert (done.scores, done.elsewhere) == ({}, {"scored": 1})
    assert runs == ["mild"]


def test_two_threads_of_one_process_compute_each_score_once(keeper: Any) -> None:
    log(100)
    runs: Counter[str] = Counter()

    def counted(input: str) -> int:
        runs[input] += 1
        time.sleep(0.001)
        return 1

    metric = tk.metric(counted)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(tk.rescore(metrics=[metric]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(runs.values()) == {1}
    assert len(runs) == 100
    accounts = [sum(done.scores.values()) + sum(done.elsewhere.values()) + done.before for done in results]
    assert accounts == [100, 100]


def test_a_claim_is_renewed_for_as_long_as_its_metric_runs(
    keeper: Any, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    tk.configure(lease=0.3)
    log()
    store = keeper.store()
    renewed = threading.Semaphore(0)
    renew = type(store).renew_claims

    def counts(self: Any, *args: Any, **options: Any) -> Any:
        found = renew(self, *args, **options)
        renewed.release()
        return found

    monkeypatch.setattr(type(store), "renew_claims", counts)

    def takes_long(output: str) -> int:
        for _ in range(4):  # longer than its lease
            assert renewed.acquire(timeout=20)
        return len(output)

    done = tk.rescore(metrics=[takes_long])
    assert done.scores == {"scored": 1}
    [score] = tk.records()[0].history("takes_long")
    assert (score.value, score.attempt) == (4, 1)
    assert keeper.store().counts().refused == 0


@pytest.mark.slow
def test_what_is_claimed_and_has_not_begun_is_renewed_as_well(keeper: Any) -> None:
    tk.configure(lease=0.3)
    log(2)

    def takes_a_while(output: str) -> int:
        time.sleep(0.2)
        return len(output)

    metrics = [tk.metric(takes_a_while, name=name) for name in "abcd"]
    assert tk.rescore(metrics=metrics, concurrency=2).scores == {"scored": 8}
    for record in tk.records():
        for name in "abcd":
            assert [(score.attempt, score.value) for score in record.history(name)] == [(1, 4)]
    assert keeper.store().counts().refused == 0


@pytest.mark.slow
def test_what_another_process_holds_is_taken_over_when_its_lease_lapses(keeper: Any) -> None:
    log()
    assert keeper.ship(30) is None
    metric = tk.metric(length, version="7")
    [row] = keeper.store().records(None)
    wanted = Wanted("record", row.trace_id, row.span_id, "", "length", "7", "code", "background", False)
    assert len(keeper.store().take("somebody-else", [wanted], lease=1.0)) == 1
    begun = time.monotonic()
    done = tk.rescore(metrics=[metric])
    assert 0.5 < time.monotonic() - begun < 30
    assert done.scores == {"scored": 1}
    lost, score = tk.records()[0].history("length")
    assert (lost.status, lost.attempt) == (ScoreStatus.CANCELLED, 1)
    assert (score.status, score.attempt) == (ScoreStatus.SCORED, 2)


def test_what_a_silent_producer_has_begun_is_taken_over_even_if_it_is_local(keeper: Any) -> None:
    log()
    assert keeper.ship(30) is None
    metric = tk.metric(length, version="7")
    [row] = keeper.store().records(None)
    other = keeper.store().register_journal(name="silent", host="here", pid=1, started=1)
    began = ScoreFrame(
        *("record", "length", "running", bytes.fromhex(row.trace_id), bytes.fromhex(row.span_id)),
        metric_version="7",
        attempt=1,
        local=True,
    )
    keeper.store().apply(other.id, Batch(scores=[began], cursor=b"", cursor_version=0))
    with keeper.store().write() as connection:  # as if its process had been stopped an hour ago
        connection.exec_driver_sql("UPDATE journal SET seen_at = seen_at - 3600000000000 WHERE name = 'silent'")
    assert tk.rescore(metrics=[metric]).scores == {"scored": 1}
    lost, score = tk.records()[0].history("length")
    assert (lost.status, lost.attempt, score.value, score.attempt) == (ScoreStatus.CANCELLED, 1, 4, 2)


def test_an_interruption_before_anything_was_handed_over_holds_nothing(
    keeper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(5)
    assert keeper.ship(30) is None

    def interrupts(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("tracekeeper.scoring.stored.from_rows", interrupts)
    with pytest.raises(KeyboardInterrupt):
        score_stored(keeper, keeper.store().records(None), [tk.metric(length)])
    monkeypatch.undo()
    with keeper.store().read() as connection:
        held = connection.exec_driver_sql("SELECT count(*) FROM score WHERE owner <> ''").scalar_one()
    assert held == 0
    assert tk.rescore(metrics=[length]).scores == {"scored": 5}


def test_scores_that_are_left_to_workers_are_pending_and_named(keeper: Any) -> None:
    log(3)
    done = tk.rescore(metrics=[f"{__name__}:length"], wait=False, priority=7)
    assert (done.left, done.scores) == (3, {})
    assert str(done) == "3 records, nothing judged here; 3 were left to workers"
    assert {only(record).status for record in tk.records()} == {ScoreStatus.PENDING}
    with keeper.store().read() as connection:
        rows = connection.exec_driver_sql("SELECT DISTINCT mode, priority, owner, app_id FROM score").fetchall()
    assert rows == [("deferred", 7, "", 1)]
    claims = keeper.store().claim("a-worker", [("length", tk.metric(length).version)], limit=10, lease=30)
    assert len(claims) == 3


@pytest.mark.slow
def test_a_program_that_rescores_ends_at_once(tmp_path: Any) -> None:
    code = """
        import tracekeeper as tk
        tk.log_record(input="why?", output="mild")
        print(tk.rescore(metrics=["length"]))
    """
    done = programs.run(code, tmp_path)
    assert done.code == 0, done
    assert done.out.strip() == "1 record judged: 1 = 1 scored"
    assert done.seconds < 15
    assert runtime.keeper() is not None
