"""Text for terminals: it fits, it lines up, it has no blank cell, and what was captured cannot drive the terminal."""

from __future__ import annotations

import io
import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.render import (
    Column,
    aggregate_cell,
    clean,
    display_width,
    format_cost,
    format_duration,
    format_number,
    format_time,
    plural,
    render_key_values,
    render_table,
    score_cell,
    should_color,
    truncate,
)
from tracekeeper.types import ScoreStatus, SpanStatus

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
anything = (
    st.text(max_size=30)
    | st.none()
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.lists(st.text(max_size=5), max_size=3)
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_lines_up_whatever_the_width_of_characters() -> None:
    table = render_table(["name", "value"], [["東京", 1], ["naïve", 0.5], ["👍 ok", "pending"]], width=60)
    assert table.split("\n") == [
        "name     value",
        "─────  ───────",
        "東京         1",
        "naïve     0.50",
        "👍 ok  pending",
    ]


def test_the_widest_columns_give_way_first() -> None:
    rows = [["7", "x" * 100, "y" * 30]]
    lines = render_table(["n", "input", "output"], rows, width=40).split("\n")
    assert lines[2] == f"7  {'x' * 17}…  {'y' * 16}…"
    assert all(display_width(line) <= 40 for line in lines)


def test_a_hopeless_width_makes_lists() -> None:
    text = render_table(["first column", "second column", "third"], [["a", "b", "c"], ["d" * 20, "e", "f"]], width=16)
    assert text.split("\n") == [
        "first…  a",
        "secon…  b",
        "third   c",
        "",
        "first…  ddddddd…",
        "secon…  e",
        "third   f",
    ]


@given(st.lists(st.lists(anything, min_size=3, max_size=3), max_size=4), st.integers(1, 60), st.booleans())
def test_every_line_fits_and_no_cell_is_blank(rows: list[list[object]], width: int, color: bool) -> None:
    text = ESCAPE.sub("", render_table(["a", "title", "c"], rows, width=width, color=color))
    for line in text.split("\n"):
        assert display_width(line) <= max(width, 4)
        assert "\x1b" not in line
    if width >= 30:  # not stacked
        starts = [len(part) for part in text.split("\n")[1].split("  ")]
        for line in text.split("\n")[2:]:
            cells = _cut(line, starts)
            assert all(cell.strip() for cell in cells), line


def _cut(line: str, widths: list[int]) -> list[str]:
    """The cells of a line by display width."""
    cells, characters = [], list(line)
    for width in widths:
        cell = ""
        while characters and display_width(cell + characters[0]) <= width:
            cell += characters.pop(0)
        cells.append(cell)
        del characters[:2]
    return cells


def test_captured_text_cannot_drive_the_terminal() -> None:
    table = render_table(["input"], [["\x1b[2J\x07 bell\r\nnext\u202eline\ud800"]], width=60, color=False)
    assert table.split("\n")[2] == "�[2J� bell nextline�"
    assert clean("a\u2028b\tc\x85d") == "a b c d"


def test_colours_only_where_somebody_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert should_color(Terminal())
    assert not should_color(io.StringIO())
    closed = Terminal()
    closed.isatty = lambda: (_ for _ in ()).throw(ValueError("closed"))  # type: ignore[method-assign]
    assert not should_color(closed)
    monkeypatch.setenv("NO_COLOR", "")
    assert should_color(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not should_color(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not should_color(Terminal())


def test_statuses_are_coloured_and_nothing_else() -> None:
    rows = [["ok", "failed: ValueError: x"], ["error", "okay then"], ["timed out", "failed (n=2)"]]
    table = render_table(["status", "text"], rows, width=60, color=True)
    assert re.findall("\x1b\\[3.m(.*?)\x1b", table) == ["ok", "failed", "error", "timed out", "failed"]
    assert ESCAPE.sub("", table) == render_table(["status", "text"], rows, width=60, color=False)


def test_every_status_has_a_colour() -> None:
    for status in itertools.chain(ScoreStatus, SpanStatus):
        assert render_key_values({"s": status.value}, color=True).count("\x1b") == 4, status


def test_missing_values_are_said() -> None:
    assert render_table([Column("user", missing="nobody"), "x", "y"], [[None, "", []]], width=60).endswith(
        "nobody  empty  none"
    )
    assert render_table(["a"], [], width=20) == "a\n─"
    assert render_table([], [], width=20) == ""
    assert render_key_values([], width=20) == ""


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 cells for 2 columns"):
        render_table(["a", "b"], [[1, 2], [1]])


def test_alignment_can_be_said_or_follows_the_values() -> None:
    rows = [[1, "2.1s", "x"], [None, "340ms", "10"]]
    assert render_table(["n", "t", Column("z", "right")], rows, width=40).split("\n")[2:] == [
        "   1   2.1s   x",
        "none  340ms  10",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (1.0, "1.00"),
        (-0.5, "-0.50"),
        (1234.567, "1,234.57"),
        (-12345, "-12,345"),
        (0.0099, "0.0099"),
        (1e-9, "1e-09"),
        (1e20, "1.00e+20"),
        (True, "true"),
        (math.nan, "not a number"),
        (-math.inf, "-infinity"),
    ],
)
def test_numbers(value: float | None, expected: str) -> None:
    assert format_number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "none"),
        (0, "0s"),
        (1e-9, "<1us"),
        (0.0000124, "12us"),
        (0.00124, "1.2ms"),
        (0.0099999, "10ms"),
        (0.99949, "999ms"),
        (0.9996, "1.0s"),
        (59.94, "59.9s"),
        (59.97, "1m"),
        (3599.7, "1h"),
        (86_399.9, "1d"),
        (-2.5, "-2.5s"),
        (math.inf, "infinity"),
    ],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_durations_are_durations_of_the_filter_language() -> None:
    from tracekeeper.store.filter import parse

    for seconds in (0, 0.0004, 0.34, 2.1, 65, 7380, 187_200):
        parse(f"latency > {format_duration(seconds)}")


def test_times() -> None:
    assert format_time(None) == "none"
    assert [format_time(0, now=now) for now in (0, 59, 3599, 3600, 86_400 * 29)] == [
        "just now",
        "59s ago",
        "59m ago",
        "1h ago",
        "29d ago",
    ]
    assert format_time(7200, now=0) == "in 2h"
    assert format_time(1e300, now=0).endswith("seconds after 1970")
    assert format_time(0) == "1970-01-01"


def test_money_and_counts() -> None:
    assert format_cost(-3) == "-$3.00"
    assert plural(2, "query", "queries") == "2 queries"


def test_scores_and_aggregates_always_say_their_status() -> None:
    assert score_cell("scored", True) == "true"
    assert score_cell("scored", "angry") == "angry"
    assert score_cell("pending") == "pending"
    assert score_cell("skipped", None, "no context\n") == "skipped: no context"
    assert aggregate_cell({}) == "no scores"
    assert aggregate_cell({"scored": 1, "timed_out": 2, "pending": 3}, 1.0) == (
        "scored 1.00 (n=6, 3 pending, 2 timed out)"
    )
    assert aggregate_cell({"scored": 2}) == "scored (n=2)"
    assert aggregate_cell({"failed": 1, "scored": 0}) == "failed (n=1)"


@given(st.text(max_size=20), st.integers(0, 20))
def test_cutting_never_exceeds_the_width(text: str, width: int) -> None:
    assert display_width(truncate(text, width)) <= width
