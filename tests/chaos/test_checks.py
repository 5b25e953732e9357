"""The checker can fail: what is damaged by hand in the store of a good run is reported, with the record's history."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.chaos import truth
from tests.chaos.checks import Check, Violation
from tests.chaos.report import Result, chaos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control here"),
]

Examine = Callable[..., list[Violation]]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """A calm run: one app, one worker, nobody harmed."""
    result = chaos(1, 3.0, settle=60, calm=True, folder=tmp_path_factory.mktemp("calm"))
    assert not result.violations, result.text()
    assert result.check.counts["scores as they must be"] > 50
    yield result
    result.forget()


@pytest.fixture
def examine(good: Result, tmp_path: Path) -> Examine:
    """Do something to a copy of the good run, and check it."""

    def after(*statements: str, with_file: str | None = None) -> list[Violation]:
        copy = tmp_path / "data"
        shutil.copytree(good.conductor.kept, copy)
        with closing(sqlite3.connect(copy / "tracekeeper.db")) as database, database:
            for statement in statements:
                assert database.execute(statement).rowcount != 0, f"nothing was damaged by {statement}"
        if with_file is not None:
            (copy / with_file).parent.mkdir(exist_ok=True)
            (copy / with_file).write_bytes(b"left")
        check = Check(copy, good.check.logs, good.check.fates.values(), None if statements else good.check.status)
        found = check.run()
        for violation in found:
            if violation.key is not None:
                assert violation.key[0] in check.history(violation.key)
        return found

    return after


SOME = "(SELECT min(id) FROM score WHERE status = 'scored' AND name = 'later')"
LATER = "(SELECT max(id) FROM score WHERE status = 'scored' AND name = 'later')"


def checks(found: list[Violation]) -> set[str]:
    return {violation.check for violation in found}


def test_an_untouched_run_has_no_violation(examine: Examine) -> None:
    assert examine() == []


def test_a_score_that_is_missing_is_reported(examine: Examine) -> None:
    [violation] = examine(f"DELETE FROM score WHERE id = {SOME}")
    assert violation.check == "every_record_has_every_score_once"
    assert violation.text == "0 scores 'later'"


def test_a_score_that_is_there_twice_is_reported(examine: Examine) -> None:
    found = examine(
        "DROP INDEX score_key",
        "CREATE TEMP TABLE again AS SELECT * FROM score WHERE id = " + SOME,
        "UPDATE again SET id = (SELECT max(id) + 1 FROM score)",
        "INSERT INTO score SELECT * FROM again",
    )
    assert [violation.text for violation in found] == ["2 scores 'later'"]


def test_a_value_that_is_wrong_is_reported(examine: Examine) -> None:
    [violation] = examine(f"UPDATE score SET value = value + 0.001 WHERE id = {SOME}")
    assert violation.check == "every_score_says_what_it_must"


def test_two_values_that_are_swapped_are_reported(examine: Examine) -> None:
    found = examine(
        f"CREATE TEMP TABLE ends AS SELECT {SOME} AS one, {LATER} AS other",
        "CREATE TEMP TABLE held AS SELECT score.id, value FROM score, ends WHERE score.id IN (one, other)",
        "UPDATE score SET value = (SELECT value FROM held WHERE held.id <> score.id) WHERE id IN (SELECT id FROM held)",
    )
    assert [violation.check for violation in found] == ["every_score_says_what_it_must"] * 2


def test_a_score_that_stays_open_is_reported(examine: Examine) -> None:
    found = examine(f"UPDATE score SET status = 'running', value = NULL, settled_at = NULL WHERE id = {SOME}")
    assert [violation.text for violation in found] == ["later is running for ever"]


def test_a_score_that_is_still_claimed_is_reported(examine: Examine) -> None:
    [violation] = examine(f"UPDATE score SET owner = 'somebody' WHERE id = {SOME}")
    assert violation.text == "later is scored and still claimed by somebody"


def test_an_invented_score_is_reported(examine: Examine) -> None:
    [violation] = examine(f"UPDATE score SET name = 'invented', metric_version = '' WHERE id = {SOME}")[1:]
    assert (violation.check, violation.text) == (
        "nothing_is_invented",
        "a score 'invented' that nothing asked for",
    )


def test_a_record_of_a_call_that_nobody_made_is_reported(examine: Examine) -> None:
    found = examine("UPDATE record SET span_id = 'f00f00f00f00f00f' WHERE id = (SELECT max(id) FROM record)")
    assert "nothing_is_invented" in checks(found)
    assert "every_call_that_returned_is_stored" in checks(found)


def test_a_journal_that_was_lost_is_reported(examine: Examine) -> None:
    of_an_app = "(SELECT min(journal_id) FROM span WHERE kind = 'retriever')"
    found = examine(
        f"DELETE FROM score WHERE record_id IN (SELECT id FROM span WHERE journal_id = {of_an_app})",
        f"DELETE FROM record WHERE id IN (SELECT id FROM span WHERE journal_id = {of_an_app})",
        f"DELETE FROM span WHERE journal_id = {of_an_app}",
    )
    assert {"every_call_that_returned_is_stored", "the_books_add_up"} <= checks(found)


def test_a_loss_is_no_violation_where_it_is_counted_as_dropped(examine: Examine) -> None:
    last = "(SELECT max(record.id) FROM record JOIN app ON app.id = app_id WHERE app.name = 'steady')"
    found = examine(
        """UPDATE journal SET dropped = '{"the disk is full": 1}' WHERE spans_stored > 0""",
        f"UPDATE record SET status = 'interrupted' WHERE id = {last}",
        "DELETE FROM score WHERE record_id IN (SELECT id FROM record WHERE status = 'interrupted')",
    )
    assert found == []


def test_an_attempt_with_two_outcomes_is_reported(examine: Examine) -> None:
    [violation] = examine(
        "INSERT INTO score_attempt (score_id, attempt, status, value) "
        f"SELECT id, attempt, 'scored', 1 FROM score WHERE id = {SOME}"
    )
    assert violation.check == "attempts_are_consistent"


def test_a_journal_that_is_left_is_reported(examine: Examine) -> None:
    [violation] = examine(with_file="journal/1-2-3.journal")
    assert violation == Violation("nothing_is_left_behind", "journal/1-2-3.journal is left")


def test_a_wait_beyond_its_deadline_is_reported(good: Result) -> None:
    logs = [log._replace(waits=[{"of": "flush", "allowed": 1.0, "begun": 0.0, "took": 9.0}]) for log in good.check.logs]
    found = Check(good.conductor.kept, logs, good.check.fates.values()).run()
    assert "nobody_waited_too_long" in checks(found)


def test_a_wait_of_a_process_that_stood_still_meanwhile_is_not(good: Result) -> None:
    logs = [log._replace(waits=[{"of": "flush", "allowed": 1.0, "begun": 0.0, "took": 9.0}]) for log in good.check.logs]
    fates = [fate._replace(stops=((0.5, 8.5),)) for fate in good.check.fates.values()]
    assert Check(good.conductor.kept, logs, fates).run() == []


def test_an_app_that_dies_of_itself_is_reported(good: Result) -> None:
    fates = [fate._replace(code=70, told="ended by itself with 70") for fate in good.check.fates.values()]
    assert "nobody_died_of_itself" in checks(Check(good.conductor.kept, good.check.logs, fates).run())


def test_a_metric_that_ran_past_its_deadline_is_reported(examine: Examine) -> None:
    [violation] = examine(
        "UPDATE score SET settled_at = started_at + 30 * 1000000000 WHERE id = "
        "(SELECT min(id) FROM score WHERE status = 'scored' AND name = 'later_hanging')"
    )
    assert violation.check == "no_metric_ran_past_its_deadline"
    assert violation.text.startswith("later_hanging took 30.0 s of 2.0 s in worker")


def test_a_span_that_is_missing_below_a_record_is_reported(examine: Examine) -> None:
    found = examine("DELETE FROM span WHERE id = (SELECT max(id) FROM span WHERE kind = 'retriever')")
    assert "every_call_that_returned_is_stored" in checks(found)


def test_a_status_that_says_something_else_is_reported(good: Result) -> None:
    assert good.check.status is not None
    wrong = {**good.check.status, "stored": {**good.check.status["stored"], "records": 1}}
    found = Check(good.conductor.kept, good.check.logs, good.check.fates.values(), wrong).run()
    assert [violation.text.partition(":")[0] for violation in found] == ["status says records"]


def test_what_a_metric_must_say_is_a_function_of_its_question() -> None:
    call = truth.Call("app0", "steady", "app0.thread0/steady/1", ("", ""), True)
    assert truth.expected(call, "fine") == truth.expected(call, "fine")
    other = call._replace(question="app0.thread0/steady/2")
    assert truth.expected(call, "fine").value != truth.expected(other, "fine").value
