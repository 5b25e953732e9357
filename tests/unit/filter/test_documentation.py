"""The documentation of filters describes the language there is, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from tracekeeper.store import tables
from tracekeeper.store.filter import ITEMS, fields, parse
from tracekeeper.store.filter.compile import compile_filter
from tracekeeper.store.filter.fields import Field
from tracekeeper.store.filter.grammar import MAX_COMPARISONS, MAX_DEPTH
from tracekeeper.store.filter.lexer import MAX_LENGTH
from tracekeeper.store.search import create_search
from tracekeeper.store.search.indexing import INDEXED_CHARACTERS
from tracekeeper.types import FilterError

PAGE = (Path(__file__).parents[3] / "docs" / "filters.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): cells
    for line in PAGE.partition("## Fields")[2].partition("###")[0].splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = [line for language, block in FENCES if not language for line in block.strip().splitlines()]
# In prose: what has a field, an operator and a value.
PROSE = [
    code
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    if re.match(
        r"(not )?[a-z][\w.\[\]\"]* (=|!=|<|>|~|in last|>=) ?[^…\s]|\S+ (not )?in \([^…]|.* is (present|missing)", code
    )
    and "NAME" not in code
    and code != "is present"
    and not code.startswith("is ")
]


@pytest.mark.parametrize("example", sorted({*BLOCKS, *PROSE, *(row[3].strip("`") for row in ROWS.values())}))
def test_an_example_of_the_page_runs(example: str) -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        create_search(connection)
        for table in (tables.record, tables.span):
            condition = compile_filter(example, target=table.name)  # type: ignore[arg-type]
            assert condition is not None
            assert connection.execute(select(table.c.id).where(condition)).all() == []
    engine.dispose()


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) >= 6
    assert len(PROSE) >= 10


def test_every_field_is_in_the_table() -> None:
    def row(field: Field) -> str:
        if field.name.startswith("score"):
            return f"score.NAME{field.name[5:]}"
        return f'{field.name}["KEY"]' if field.keys else field.name

    assert list(ROWS) == [row(field) for field in fields()]
    for field in fields():
        kind = ROWS[row(field)][1]
        named = {"word": "one of", "json": "captured value"}.get(field.type, field.type)
        assert kind.startswith(named)
        assert tuple(re.findall("`([a-z_]+)`", kind)) == field.words


def test_every_field_of_an_item_is_in_the_table_of_the_page_of_datasets() -> None:
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    page = page.partition("| field | type | what | example |")[2]
    for name, field in ITEMS.by_name.items():
        kind = {"json": "captured value"}.get(field.type, field.type)
        [row] = re.findall(rf"^\| `{name}` \| (.*) \|$", page, re.MULTILINE)
        assert row.startswith(kind)
        assert row.endswith(f"`{field.example}`")
        assert str(parse(field.example, ITEMS)).startswith(name)


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.name)
def test_the_example_of_a_field_is_a_filter_on_it(field: Field) -> None:
    assert str(parse(field.example)).startswith(field.name.split(".")[0])


def test_the_table_of_operators_is_right() -> None:
    for field in fields():
        name = f"score.x{field.name[5:]}" if field.name.startswith("score") else field.name
        name += '["x"]' if name in ("attr", "metadata") else ""
        for operator in ("=", "<", "~", "in"):
            filter = f"{name} in (zzz)" if operator == "in" else f"{name} {operator} zzz"
            assert _is_refused(filter) == (operator not in field.operators)


def _is_refused(filter: str) -> bool:
    """Whether the operator is refused (rather than the value, or nothing)."""
    try:
        parse(filter)
    except FilterError as error:
        return "cannot be compared with" in str(error)
    return False


def test_the_limits_are_right() -> None:
    limits = PAGE.partition("## Limits")[2]
    for limit in (MAX_LENGTH, MAX_COMPARISONS, MAX_DEPTH):
        assert f"{limit:,} " in limits
    assert f"{INDEXED_CHARACTERS:,} characters" in PAGE


def test_the_error_on_the_page_is_the_real_one() -> None:
    with pytest.raises(FilterError) as caught:
        parse("sttus = error")
    assert str(caught.value) in PAGE
