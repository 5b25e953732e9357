"""G5: every cell has a state, every aggregate says what it is made of, and no NaN comes in or out."""

from __future__ import annotations

import math
from typing import Any

import pytest

import tracekeeper as tk

STATUSES = ("scored", "failed", "timed_out", "cancelled", "skipped", "pending", "running")


def sometimes(output: int) -> Any:
    if output % 3 == 0:
        raise ValueError("a third fails")
    return math.nan if output % 3 == 1 else 0.5


@pytest.fixture
def answered(keeper: object) -> Any:
    @tk.app(name="a", version="1", metrics=[sometimes])
    def ask(q: int) -> int:
        return q

    @tk.app(name="b", version="1")
    def other(q: int) -> int:
        return q

    for number in range(9):
        ask(number)
    other(1)
    ask.app.wait_for_scores(timeout=30)
    return ask


def test_a_pandas_frame_holds_na_of_a_nullable_type_beside_a_status(answered: Any) -> None:
    frame = tk.records_and_scores().to_pandas()
    import pandas

    assert str(frame["sometimes"].dtype) == "Float64"
    judged = frame[frame["app"] == "a"]
    assert judged["sometimes"].isna().sum() == 6
    assert judged["sometimes.status"].value_counts().to_dict() == {"failed": 6, "scored": 3}
    for value in frame.to_numpy().ravel():
        assert not (isinstance(value, float) and math.isnan(value)), "a float NaN instead of <NA>"
    assert judged["sometimes.reason"][judged["sometimes"].isna()].notna().all()
    assert isinstance(frame, pandas.DataFrame)


def test_a_leaderboard_says_what_each_mean_is_made_of(answered: Any) -> None:
    rows = {row["app"]: row for row in tk.leaderboard().to_dicts()}
    row = rows["a"]
    counts = {status: row[f"sometimes.{status}"] for status in STATUSES}
    assert (counts["scored"], counts["failed"]) == (3, 6)
    assert row["sometimes.n"] == sum(counts.values()) == 9
    assert row["sometimes.mean"] == 0.5


def test_printed_tables_have_no_blank_cell_and_no_nan(answered: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tk.records_and_scores().print()
    tk.leaderboard().print()
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "nan" not in shown.lower().split()
    header, rule, *rows = shown.splitlines()
    assert "sometimes: n = 9 = 3 scored + 6 failed" in rows
    for row in rows[: rows.index("")]:
        cells = [row[at : at + width].strip() for at, width in _columns(rule)]
        assert all(cells), f"a blank cell: {cells} under {header}"


def _columns(rule: str) -> list[tuple[int, int]]:
    """Where each column of a printed table begins, and how wide it is."""
    found, at = [], 0
    for part in rule.split("  "):
        if part:
            found.append((at, len(part)))
        at += len(part) + 2
    return found


def test_scores_given_by_hand_refuse_nan(answered: Any) -> None:
    record = tk.records(limit=1)[0]
    with pytest.raises(ValueError, match="nan"):
        tk.score(record, "thumbs", math.nan, source="human")
    tk.score(record, "thumbs", 1, source="human", reason="helpful")
    row = tk.records_and_scores(limit=1).to_dicts()[0]
    assert (row["thumbs"], row["thumbs.status"], row["thumbs.reason"]) == (1.0, "scored", "helpful")
