"""Tables: a sequence of objects, plain data for programs, and never a blank cell for people."""

from __future__ import annotations

import builtins
import csv
import io
import json
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from tracekeeper.reading.columns import Column, ColumnType, score_text
from tracekeeper.reading.tables import Section, Table, fitting
from tracekeeper.types import MissingExtraError, Score, ScoreStatus

MOMENT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"app": "rag", "n": 3, "value": 0.5, "good": True, "at": MOMENT, "tags": ["a"], "mixed": "label"},
    {"app": None, "n": None, "value": None, "good": None, "at": None, "tags": [], "mixed": None},
    {"app": "<b>", "n": 1, "value": 1.0, "good": False, "at": MOMENT, "tags": ["b"], "mixed": 0.5},
]
TYPES: dict[str, ColumnType] = {
    "app": "text",
    "n": "integer",
    "value": "number",
    "good": "boolean",
    "at": "time",
    "tags": "any",
    "mixed": "any",
}


def table(rows: list[dict[str, Any]] = ROWS, **options: Any) -> Table[dict[str, Any]]:
    return Table(rows, [Column(name, itemgetter(name), type) for name, type in TYPES.items()], **options)


def test_it_is_a_sequence_of_the_objects() -> None:
    made = table(note="x")
    assert len(made) == 3
    assert list(made) == ROWS
    assert made[-1] is ROWS[-1]
    assert made[:2].note == "x"
    assert [row["n"] for row in made[1:]] == [None, 1]
    assert ROWS[0] in made


def test_programs_get_plain_values() -> None:
    made = table()
    assert made.columns == list(TYPES)
    assert made.rows[1] == (None, None, None, None, None, [], None)
    assert made.to_dicts()[0] == ROWS[0]
    assert json.loads(made.to_json())[0]["at"] == "2026-11-20T12:30:00Z"
    assert json.loads(made.to_json(indent=2)) == json.loads(made.to_json())


def test_csv_can_be_read_back(tmp_path: Path) -> None:
    text = table().to_csv()
    assert text is not None
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (rows[0]["app"], rows[0]["tags"], rows[1]["value"]) == ("rag", '["a"]', "")
    assert table().to_csv(tmp_path / "x.csv") is None
    assert (tmp_path / "x.csv").read_bytes().decode() == text


def test_pandas_gets_nullable_types_and_never_a_nan() -> None:
    pandas = pytest.importorskip("pandas")
    frame = table().to_pandas()
    assert [str(frame[name].dtype) for name in ("app", "n", "value", "good")] == [
        "string",
        "Int64",
        "Float64",
        "boolean",
    ]
    assert str(frame["at"].dtype).startswith("datetime64")
    for name in ("app", "n", "value", "good", "mixed"):
        assert frame[name].iloc[1] is pandas.NA, name
    assert frame["mixed"].iloc[0] == "label"
    assert table([]).to_pandas().columns.tolist() == list(TYPES)


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'tracekeeper\[pandas\]'"):
        table().to_pandas()


def test_no_printed_cell_is_blank() -> None:
    lines = table().text(width=120).splitlines()
    assert lines[3].split() == ["none"] * 5 + ["[]", "none"]
    assert "rag" in lines[2]


def test_print_ends_with_the_account_and_the_note(capsys: pytest.CaptureFixture[str]) -> None:
    table(note="stale", footer=lambda shown: [f"n = {len(shown)}"]).print()
    assert capsys.readouterr().out.endswith("\n\nn = 3\nnote: stale\n")


def test_an_empty_table_says_so() -> None:
    made = table([], noun="record", note="the journal is behind")
    assert made.text() == "no records\n\nnote: the journal is behind"
    assert repr(table([])) == "no rows"
    assert "no rows" in table([])._repr_html_()


def test_repr_is_short_and_print_is_whole() -> None:
    made = table([ROWS[0]] * 30)
    assert repr(made).endswith("… and 10 rows more")
    assert str(made).count("rag") == 30


def test_html_is_escaped() -> None:
    shown = table(note="<script>")._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "<script>" not in shown


def test_a_narrow_terminal_leaves_out_columns_by_rank_and_says_so() -> None:
    columns = [
        Column[dict[str, str]]("keep", lambda row: "k" * 30),
        Column[dict[str, str]]("second", lambda row: "s" * 30, rank=1),
        Column[dict[str, str]]("first", lambda row: "f" * 30, rank=2),
    ]
    shown = Table([{}], columns).text(width=30)
    assert shown.splitlines()[-1] == "left out for width: first"
    assert "sss…" in shown
    assert max(map(len, shown.splitlines())) <= 30


def test_titles_are_never_cut() -> None:
    section = Section("", ["overlap_context_relevance", "overlap_answer_relevance"], [["scored 0.5", "x" * 80]])
    assert fitting(section, 80) == {0: 25, 1: 53}
    assert fitting(section, 40) == {}, "too narrow for both: a list for each row"
    shown = Table([1, 2], [Column(name, lambda row: "v") for name in (*section.columns, "short")]).text(width=54)
    assert shown.splitlines()[:4] == [
        "overlap_context_relevance  v",
        "overlap_answer_relevance   v",
        f"short{' ' * 22}v",
        "",
    ]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (None, "unmeasured"),
        (Score(0.123), "scored 0.12"),
        (Score(True), "scored true"),
        (Score("polite"), "scored polite"),
        (Score(status=ScoreStatus.PENDING), "pending"),
        (Score(status=ScoreStatus.SKIPPED, reason="not\nsampled"), "skipped: not sampled"),
        (Score(status=ScoreStatus.FAILED, error="ValueError: x"), "failed: ValueError: x"),
    ],
)
def test_a_score_is_its_status_in_words(score: Score | None, text: str) -> None:
    assert score_text(score) == text
