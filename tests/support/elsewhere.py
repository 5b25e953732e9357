"""What tests of calls that are made elsewhere share: items, a metric, and what is to be as in a local run."""

from __future__ import annotations

from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.types import WorkerLostError

WITH_RAY = [
    pytest.mark.slow,
    # Of Ray's own: it leaves files and sockets to the garbage collector, and says what will change in it.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def items(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "n": n, "expected": str(n), **more} for n in range(count)]


def right(output: str, expected: str) -> bool:
    return output == expected


def seen(experiment: tk.Experiment) -> list[Any]:
    """What became of each item, without where and when."""
    return [
        (
            one.item_id,
            one.status,
            one.output,
            one.error,
            (one.reason or "").partition(" in ")[0],
            one.attempts,
            [(name, score.status, score.value) for name, score in one.scores.items()],
        )
        for one in experiment
    ]


def spans(keeper: Any, one: Any) -> list[tuple[str, str, bool]]:
    """Name and status of each span of an item's trace, and whether it is of the item's record."""
    assert keeper.ship() is None
    rows = keeper.store().spans_of(one.trace_id)
    return sorted((row.name, row.status, row.record_span_id == one.span_id) for row in rows)


def assert_spans_of_a_local_run(keeper: Any, there: tk.Experiment, local: tk.Experiment) -> None:
    """Of items of which the fourth raised within one span."""
    for one, other in zip(there, local, strict=True):
        if one.status != "timed_out":  # a thread of this process goes on after its deadline, one there does not
            assert spans(keeper, one) == spans(keeper, other)
    assert len(spans(keeper, there.items[3])) == 2


def assert_lost_calls_were_made_again(keeper: Any, experiment: tk.Experiment) -> None:
    """Of twelve items, the third of which ended its worker once, and the sixth each time."""
    wanted = [(f"i{n}", "ok", str(n)) if n != 5 else ("i5", "error", None) for n in range(12)]
    assert [(one.item_id, one.status, one.output) for one in experiment] == wanted
    assert all(one.scores["right"].value for one in experiment if one.ok)
    assert experiment.complete
    poison = experiment.items[5]
    assert poison.attempts == 3
    assert "3 workers were lost while they made it" in (poison.reason or "")
    assert WorkerLostError.__name__ in (poison.error or "")
    assert experiment.items[2].attempts >= 2
    assert max(one.attempts for one in experiment if one is not poison) <= 3
    assert keeper.ship() is None
    lost = [record for record in tk.records(limit=50) if record.status == "interrupted"]
    assert {record.input["n"] for record in lost} >= {2, 5}
    assert all("was lost" in record.error for record in lost)
    for record in lost:
        below = keeper.store().spans_of(record.trace_id)
        assert {row.status for row in below} <= {"interrupted", "ok"}, "nothing is left running"


def assert_ended_at_its_deadline(experiment: tk.Experiment) -> None:
    """Of four items with a second each, the last of which held the interpreter lock."""
    assert [one.status for one in experiment] == ["ok", "ok", "ok", "timed_out"]
    assert "timed out after 1 s" in (experiment.items[3].reason or "")


def assert_refused(said: str, name: str, **run: Any) -> None:
    """The run is refused in one sentence, and nothing is written of it."""
    with pytest.raises(tk.ConfigurationError) as caught:
        tk.evaluate(items(2), name=name, **run)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(tk.ExperimentError):
        tk.Experiment.load(name)
