"""Rows of files: the format is told by content, and a broken line breaks only itself."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracekeeper.reading.files import open_source
from tracekeeper.reading.rows import Broken, Row
from tracekeeper.types import ImportFileError


def read(path: Path, content: str | bytes, **options: Any) -> tuple[str, list[dict[str, Any]], list[Broken]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_source(path, **options)
    rows = list(source.rows())
    return (
        source.format,
        [row.fields for row in rows if isinstance(row, Row)],
        [row for row in rows if isinstance(row, Broken)],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.json"


GOOD = [{"q": "a", "a": "b"}, {"q": "ü", "a": "d"}]


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ('{"q": "a", "a": "b"}\n{"q": "ü", "a": "d"}\n', "JSON Lines"),
        ('\ufeff{"q": "a", "a": "b"}\r\n\r\n{"q": "ü", "a": "d"}', "JSON Lines"),
        (json.dumps(GOOD), "JSON"),
        ("  \n" + json.dumps(GOOD, indent=2, ensure_ascii=False), "JSON"),
        ("\ufeff" + json.dumps(GOOD), "JSON"),
        (json.dumps({"version": "1", "rows": GOOD, "tags": ["x"]}), "JSON"),
        (json.dumps({"tags": [], "rows": GOOD, "meta": {"a": [1]}}, indent=1), "JSON"),
        ("q,a\na,b\nü,d\n", "CSV"),
        ("\ufeffq;a\r\na;b\r\nü;d\r\n", "CSV"),
        ("q\ta\na\tb\nü\td", "CSV"),
        ('"q"|"a"\n"a"|"b"\n\n"ü"|"d"\n', "CSV"),
    ],
)
def test_the_format_is_told_by_content(path: Path, content: str, format: str) -> None:
    assert read(path, content) == (format, GOOD, [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(path: Path, encoding: str) -> None:
    for content in ("q,a\na,b\nü,d\n", json.dumps(GOOD), "\n".join(map(json.dumps, GOOD))):
        assert read(path, content.encode(encoding))[1:] == (GOOD, [])


def test_a_named_encoding_is_used(path: Path) -> None:
    assert read(path, "q,a\nü,d\n".encode("latin-1"), encoding="latin-1")[1] == [{"q": "ü", "a": "d"}]
    with pytest.raises(ImportFileError, match="unknown encoding 'latin-7x'"):
        read(path, "q", encoding="latin-7x")


def test_broken_lines_have_their_numbers_and_the_good_ones_are_kept(path: Path) -> None:
    content = b'{"q": "a", "a": "b"}\n{"q": "a", \n\n[1]\n"x"\n{"q": "\xff"}\n{"q": "\xc3\xbc", "a": "d"}\nnull\n'
    format, good, broken = read(path, content)
    assert (format, good) == ("JSON Lines", GOOD)
    assert [one.line for one in broken] == [2, 4, 5, 6, 8]
    assert "not JSON" in broken[0].why
    assert "a list" in broken[1].why
    assert "utf-8" in broken[3].why


def test_a_broken_first_line_does_not_hide_the_format(path: Path) -> None:
    format, good, broken = read(path, '{"q": \n{"q": 1}\n{"q": 2}\n')
    assert (format, good, [one.line for one in broken]) == ("JSON Lines", [{"q": 1}, {"q": 2}], [1])


def test_nan_and_huge_numbers_in_a_line_are_read(path: Path) -> None:
    _, good, broken = read(path, '{"q": NaN, "n": 123456789012345678901234567890}\n')
    assert broken == []
    assert good[0]["n"] == 123456789012345678901234567890


def test_deep_nesting_breaks_only_its_line(path: Path) -> None:
    _, good, broken = read(path, '{"q": ' + "[" * 200_000 + "]" * 200_000 + '}\n{"q": 1}\n')
    assert good == [{"q": 1}]
    assert [one.line for one in broken] == [1]


def test_elements_of_a_list_that_are_no_objects_are_broken_at_their_line(path: Path) -> None:
    _, good, broken = read(path, '[\n{"q": 1},\n 7,\n{"q":\n 2}, "x"\n]')
    assert good == [{"q": 1}, {"q": 2}]
    assert [one.line for one in broken] == [3, 5]


def test_where_a_document_stops_being_json_the_rows_before_are_kept(path: Path) -> None:
    _, good, broken = read(path, '[{"q": 1},\n{"q": 2},\n{"q" 3}, {"q": 4}]')
    assert good == [{"q": 1}, {"q": 2}]
    assert broken[0].line == 3
    assert "nothing after it" in broken[0].why


@pytest.mark.parametrize("content", ['[{"q": 1}', '[{"q": 1},', '{"rows": [{"q": 1}, {"q": 2', '[{"q": 1}] x'])
def test_a_document_that_was_cut_keeps_what_it_has(path: Path, content: str) -> None:
    _, good, broken = read(path, content)
    assert good == [{"q": 1}]
    assert len(broken) == 1


def test_a_second_list_of_objects_is_named_not_silently_mixed_in(path: Path) -> None:
    _, good, broken = read(path, json.dumps({"train": GOOD, "test": [{"q": 9}]}))
    assert good == GOOD
    assert "'test' was left out" in broken[0].why


def test_an_object_without_rows_says_what_it_holds(path: Path) -> None:
    _, good, broken = read(path, '{\n"a": 1,\n"b": "x"\n}')
    assert good == []
    assert "'a', 'b'" in broken[0].why


def test_a_lone_object_is_a_row(path: Path) -> None:
    assert read(path, '{"q": "a", "docs": [{"t": 1}]}')[1] == [{"q": "a", "docs": [{"t": 1}]}]


def test_csv_rows_with_too_many_or_few_fields_are_broken_at_their_first_line(path: Path) -> None:
    _, good, broken = read(path, 'q,a\n"one\ntwo",x\n1,2,3\nonly\n"a",b\n')
    assert good == [{"q": "one\ntwo", "a": "x"}, {"q": "a", "a": "b"}]
    assert [one.line for one in broken] == [4, 5]


def test_csv_bytes_that_are_no_text_break_only_their_row(path: Path) -> None:
    _, good, broken = read(path, b"q,a\na,b\n\xff,x\n\xc3\xbc,d\n")
    assert good == GOOD
    assert [one.line for one in broken] == [3]


def test_csv_fields_may_be_long(path: Path) -> None:
    assert len(read(path, f"q,a\n{'x' * 300_000},b\n")[1][0]["q"]) == 300_000


def test_csv_with_commas_inside_quotes_of_the_header(path: Path) -> None:
    assert read(path, '"q, the one";"a"\nx;y\n')[1] == [{"q, the one": "x", "a": "y"}]


def test_a_header_with_the_same_name_twice_is_refused(path: Path) -> None:
    with pytest.raises(ImportFileError, match="'q' more than once"):
        read(path, "q,q\n1,2\n")


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b" \n", "empty"), (b"\x00\x01PNG", "not a text file")])
def test_what_is_no_text_is_refused(path: Path, content: bytes, why: str) -> None:
    with pytest.raises(ImportFileError, match=why):
        read(path, content)


def test_a_missing_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"nowhere\.csv: No such file"):
        open_source(tmp_path / "nowhere.csv")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["lines", "list", "csv"])
def test_a_big_file_is_read_a_row_at_a_time(path: Path, form: str) -> None:
    with path.open("w") as file:
        row = {"q": "x" * 200, "a": "y" * 200}
        text = json.dumps(row)
        if form == "csv":
            file.write("q,a\n" + f"{row['q']},{row['a']}\n" * 20_000)
        elif form == "list":
            file.write("[" + ",\n".join([text] * 20_000) + "]")
        else:
            file.write((text + "\n") * 20_000)
    source = open_source(path)
    tracemalloc.start()
    count = sum(isinstance(one, Row) for one in source.rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 6_000_000, "an 8 MB file must not sit in memory"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
tables = st.lists(st.dictionaries(st.text(max_size=6), values, min_size=1, max_size=4), min_size=2, max_size=6)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(rows=tables, indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_any_list_of_objects_survives(path: Path, rows: list[dict[str, Any]], indent: int | None, ascii: bool) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(rows, indent=indent)
    assert read(path, text)[1:] == (rows, [])
