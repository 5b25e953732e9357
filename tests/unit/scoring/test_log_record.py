"""`tk.log_record`: a call made elsewhere is a record like any other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.types import ConfigurationError, MetricError

pytestmark = pytest.mark.usefixtures("keeper")
MOMENT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def test_everything_that_is_given_is_read_back() -> None:
    with tk.context(tags=["outer"], user_id="u", metadata={"a": 1}):
        made = tk.log_record(
            input={"question": "capital?"},
            output={"answer": "Paris"},
            context=["Paris is the capital.", {"content": "of France", "id": 3}],
            expected="Paris",
            app="quiz",
            version="2",
            started=MOMENT,
            duration=1.5,
            session_id="s",
            tags=["a"],
            metadata={"b": 2},
            usage={"input_tokens": 7, "output_tokens": 3},
            model="m-1",
        )
    [found] = tk.records()
    for record in (made, found):
        assert (record.input, record.output, record.expected) == (
            {"question": "capital?"},
            {"answer": "Paris"},
            "Paris",
        )
        assert record.context == ["Paris is the capital.", {"content": "of France", "id": 3}]
        assert (record.app, record.version, record.name, record.status) == ("quiz", "2", "quiz", "ok")
        assert (record.started, record.latency) == (MOMENT, 1.5)
        assert (record.session_id, record.user_id, record.tags) == ("s", "u", ("outer", "a"))
        assert record.metadata == {"a": 1, "b": 2}
    assert tk.leaderboard()[0].input_tokens == 7


def test_it_is_on_disk_when_it_returns(keeper: Keeper) -> None:
    tk.log_record(input="q", output="a")
    assert keeper.journal is not None
    assert keeper.journal.frames_written() >= 2


def test_metrics_judge_it() -> None:
    def right(output: str, expected: str) -> bool:
        return output == expected

    record = tk.log_record(input="q", output="a", expected="a", app="quiz", metrics=[right])
    scores = record.wait_for_scores(timeout=20)
    assert scores is not None
    assert scores["right"].value is True


def test_the_metrics_of_an_app_judge_it_inline_ones_before_it_returns() -> None:
    @tk.app(name="quiz", version="3", metrics=[tk.metric(lambda output: 1.0, name="now", mode="inline")])
    def ask(question: str) -> str:
        return "never called here"

    for app in (ask, ask.app):
        record = tk.log_record(input={"question": "q"}, output="a", app=app)
        assert (record.app, record.version) == ("quiz", "3")
        assert record.scores["now"].value == 1.0


def test_one_app_serves_all_records_of_the_same_name(keeper: Keeper) -> None:
    for _ in range(3):
        tk.log_record(input="q", output="a", app="quiz", version="1")
    assert [(row.app, row.version, row.records) for row in tk.leaderboard()] == [("quiz", "1", 3)]


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("broken"), "ValueError: broken"), ("it broke", "Error: it broke")]
)
def test_an_error_is_kept(error: Any, said: str) -> None:
    tk.log_record(input="q", error=error)
    assert [(record.status, record.error) for record in tk.records()] == [("error", said)]


def test_a_recording_sees_it() -> None:
    with tk.recording() as recording:
        made = tk.log_record(input="q", output="a")
    assert recording.get() is made


def test_secrets_are_masked() -> None:
    assert tk.log_record(input={"api_key": "sk-1"}, output="a").input == {"api_key": "***"}


def test_switched_off_it_is_a_record_of_nothing(keeper: Keeper) -> None:
    tk.configure(enabled=False)
    assert tk.log_record(input="q", output="a").trace_id == ""
    assert keeper.journal is None


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"duration": -1}, ConfigurationError, "duration=-1"),
        ({"duration": float("nan")}, ConfigurationError, "duration=nan"),
        ({"started": datetime(2026, 1, 1)}, ConfigurationError, "expected a time with a zone"),
        ({"started": "yesterday"}, ConfigurationError, "expected a datetime"),
        ({"app": 7}, ConfigurationError, "expected an app or its name"),
        ({"metrics": [7]}, MetricError, "not callable"),
    ],
)
def test_what_cannot_be_is_an_error_and_nothing_is_kept(
    options: dict[str, Any], error: type[Exception], said: str, keeper: Keeper
) -> None:
    with pytest.raises(error, match=said):
        tk.log_record(input="q", output="a", **options)
    assert keeper.journal is None


def test_an_app_keeps_its_own_version_and_metrics() -> None:
    app = tk.App(lambda q: q, name="quiz", version="3")
    with pytest.raises(ConfigurationError, match="has its own version and metrics"):
        tk.log_record(input="q", output="a", app=app, version="4")
