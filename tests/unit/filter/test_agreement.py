"""Generated filters: they print and parse back, and the database finds what plain Python finds with the same tree."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from tracekeeper.store import tables
from tracekeeper.store.filter import fields, parse, scores
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.filter.grammar import field_of
from tracekeeper.store.filter.nodes import (
    Ago,
    And,
    Boolean,
    Compare,
    Duration,
    Moment,
    Node,
    Not,
    Number,
    OneOf,
    Or,
    Presence,
    Reference,
    Text,
    Value,
)
from tracekeeper.store.filter.times import LARGEST
from tracekeeper.store.search import create_search, index_pending
from tracekeeper.store.search.indexing import indexed_text
from tracekeeper.types import FilterError
from tracekeeper.types.text import query_terms, terms

NOW = 1_700_000_000 * 10**9
SECOND = 10**9

# What is in the rows, and therefore asked for.
TEXTS = [
    "rag",
    "RAG",
    "1.2",
    "ask",
    "jane@example.org",
    "b_c",
    "100%",
    'say "hi"',
    "it's \\ ok",
    "é",
    "É",
    "东京 rain",
    "x\ny",
]
LOOKED_FOR = ["a", "nul", "R", "%", "_", "é", '"', "\\", "rain", "东", "refund", "re", "x\ny"]
NUMBERS: list[int | float] = [0, 1, -1, 5, 0.5, 0.1, 1e-7, 2**53]
KEYS = ["k", "user.tier", 'q"uote', "é", "o", "b", "absent", "question"]
CAPTURED: list[Any] = [
    "refund please", {"question": "Refund, please"}, {"question": None}, {"k": "gold", "o": {"k": "v", "b": True}},
    {"user.tier": "gold", 'q"uote': 5, "é": 0.5}, {"k": False, "b": None, "o": ["a", {"k": 1}]},
    5, 0.5, True, [], ["x"],
    "东京 rain", {"o": {"o": {"k": "RAG"}}, "k": 5}, 'say "hi"', {}, {"question": 5}, None,
]  # fmt: skip
SCORES = ["groundedness", "my metric", "rag.tone", "a.status"]


# ---- generated trees

texts = st.sampled_from(TEXTS)


def _reference(name: str) -> st.SearchStrategy[Reference]:
    if name.startswith("score"):
        return st.builds(Reference, st.just("score"), st.tuples(st.sampled_from(SCORES)), st.just(name[6:]))
    entry = next(field for field in fields() if field.name == name)
    if entry.keys is False:
        return st.just(Reference(name))
    keys = st.lists(st.sampled_from(KEYS), min_size=1 if entry.keys else 0, max_size=3)
    return st.builds(Reference, st.just(name), keys.map(tuple))


def _values(reference: Reference) -> st.SearchStrategy[Value]:
    field = field_of(reference)
    match field.type:
        case "text":
            return texts.map(Text)
        case "word":
            return st.sampled_from(field.words).map(Text)
        case "id":
            return st.sampled_from(["a1", "b2", "c3", "00"]).map(Text)
        case "number":
            return st.sampled_from(NUMBERS).map(Number)
        case "duration":
            return st.integers(0, 5 * SECOND).map(Duration) | st.integers(0, 5).map(lambda n: Duration(n * SECOND))
        case "time":
            near = st.integers(-10, 10).map(lambda n: Moment(NOW + n * SECOND))
            return (
                near | st.integers(-LARGEST, LARGEST).map(Moment) | st.integers(-10, 10).map(lambda n: Ago(n * SECOND))
            )
        case _:
            return st.sampled_from(NUMBERS).map(Number) | texts.map(Text) | st.booleans().map(Boolean)


@st.composite
def leaves(draw: st.DrawFn, names: tuple[str, ...] = tuple(field.name for field in fields())) -> Node:
    reference = draw(_reference(draw(st.sampled_from(names))))
    operators = field_of(reference).operators
    operator = draw(st.sampled_from([*operators, "is"]))
    if operator == "is":
        return Presence(reference, draw(st.booleans()))
    if operator == "in":
        values = draw(st.lists(_values(reference), min_size=1, max_size=3))
        return OneOf(reference, tuple(values), draw(st.booleans()))
    value: Value
    if operator in ("~", "!~"):
        wanted = st.sampled_from(["a", "b2", "0"]) if field_of(reference).type == "id" else st.sampled_from(LOOKED_FOR)
        if reference.name in ("input", "output") and not reference.keys:
            wanted = wanted.filter(lambda text: bool(query_terms(text)))
        value = Text(draw(wanted))
    elif operator in ("<", "<=", ">", ">=") and field_of(reference).type in ("json", "score"):
        value = Number(draw(st.sampled_from(NUMBERS)))
    else:
        value = draw(_values(reference))
    return Compare(reference, operator, value)


def _some(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    return several.map(And) | several.map(Or) | nodes.map(Not)


nodes: st.SearchStrategy[Node] = st.recursive(leaves(), _some, max_leaves=6)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(nodes)
def test_a_printed_filter_parses_to_the_same_tree(node: Node) -> None:
    assert parse(str(node)) == node


words = [
    *(field.name for field in fields()),
    "and",
    "or",
    "not",
    "in",
    "is",
    "last",
    "present",
    "(",
    ")",
    "[",
    "]",
    ",",
    "=",
    "!=",
]
words += [
    "<",
    "~",
    "!~",
    "==",
    '"',
    "'",
    "\\",
    '"x"',
    "'y'",
    "0.5",
    "2s",
    "-2h",
    "true",
    "ok",
    "2026-11-01",
    ".",
    "\ud800",
    "\0",
    "1e999",
    "9" * 30,
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(words) | st.text(max_size=4)).map(" ".join)
    | st.text()
    | st.lists(st.sampled_from(words)).map("".join)
)
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        node = parse(text)
    except FilterError as error:
        position = error.position
    else:
        position = 0
        assert parse(str(node)) == node
        str(compile_node(node))
    assert 0 <= position <= len(text)


# ---- the rows


def _rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Records as plain dictionaries; each with its spans, the first being its own."""
    pick = random.Random(seed)

    def maybe(values: list[Any]) -> Any:
        return pick.choice([None, *values])

    def payload() -> dict[str, Any]:
        return {
            **{name: pick.choice([..., *CAPTURED]) for name in ("input", "output", "expected")},
            "metadata": pick.choice([..., *(value for value in CAPTURED if isinstance(value, dict))]),
            "attr": pick.choice([..., *(value for value in CAPTURED if isinstance(value, dict)), "damaged"]),
            "error": maybe(TEXTS),
        }

    records = []
    for number in range(count):
        trace = pick.choice(["a1", "b2"]) + f"{number:030x}"
        spans = [
            {
                "trace": trace,
                "span": pick.choice(["a1", "c3"]) + f"{number:010x}{index:04x}",
                "name": pick.choice(TEXTS),
                "status": pick.choice(["ok", "error", "running", "interrupted"]),
                "kind": pick.choice(["llm", "task", "tool"]),
                "latency": maybe([0, SECOND, 2 * SECOND, 3 * SECOND + 1]),
                "started": NOW + pick.randint(-10, 10) * SECOND,
                "error.type": maybe(TEXTS),
                "model": maybe(TEXTS),
                "provider": maybe(TEXTS),
                "tokens.input": maybe([0, 1, 5]),
                "tokens.output": maybe([0, 1, 5]),
                "cost": maybe([0.5, 0.1, 1.0]),
                "payload": payload(),
                "scores": [_score(pick) for _ in range(pick.randint(0, 2))],
            }
            for index in range(pick.randint(1, 3))
        ]
        records.append(
            {
                **spans[0],
                "app": maybe(["rag", "RAG", "b_c"]),
                "app.version": pick.choice(["1.2", "100%"]),
                "project": pick.choice(TEXTS),
                "session": maybe(TEXTS),
                "user": maybe(TEXTS),
                "environment": maybe(TEXTS),
                "release": maybe(TEXTS),
                "tag": pick.sample(TEXTS, pick.randint(0, 2)),
                "scores": [_score(pick) for _ in range(pick.randint(0, 3))],
                "spans": spans,
            }
        )
    return records


def _score(pick: random.Random) -> dict[str, Any]:
    status = pick.choice(["scored", "scored", "failed", "pending", "timed_out"])
    value = pick.choice([0, 1, 5, 0.5, 0.1, True, False, "RAG", "é"]) if status == "scored" else None
    return {
        "name": pick.choice(SCORES),
        "status": status,
        "value": value,
        "reason": pick.choice([None, *TEXTS]),
        "source": pick.choice(["code", "llm", "human"]),
    }


def _text(value: Any) -> str | None:
    if value is ...:
        return None
    return '{"k": dama' if value == "damaged" else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _store(connection: Connection, records: list[dict[str, Any]]) -> None:
    apps: dict[tuple[str, str], int] = {}
    identity = 0
    for record in records:
        for span in record["spans"]:
            identity += 1
            span["id"] = identity
            common = {
                "id": identity, "trace_id": span["trace"], "span_id": span["span"], "name": span["name"],
                "status": span["status"], "started_at": span["started"], "duration": span["latency"],
                "error_type": span["error.type"], "input_tokens": span["tokens.input"],
                "output_tokens": span["tokens.output"], "cost": span["cost"],
            }  # fmt: skip
            more = {"kind": span["kind"], "model": span["model"], "provider": span["provider"]}
            connection.execute(tables.span.insert().values(record_span_id=record["span"], **common, **more))
            data = span["payload"]
            columns = {name: _text(data[name]) for name in ("input", "output", "expected", "metadata")}
            values = {"attributes": _text(data["attr"]), "error_message": data["error"], **columns}
            connection.execute(tables.payload.insert().values(id=identity, **values))
            for score in span["scores"]:
                _store_score(connection, span, score, "span", None)
            if span is not record["spans"][0]:
                continue
            record["id"] = identity
            app = None
            if record["app"] is not None:
                key = (record["app"], record["app.version"])
                if key not in apps:
                    apps[key] = len(apps) + 1
                    connection.execute(
                        tables.app.insert().values(id=apps[key], name=key[0], version=key[1], first_seen=1)
                    )
                app = apps[key]
            connection.execute(
                tables.record.insert().values(
                    app_id=app, project=record["project"], session_id=record["session"], user_id=record["user"],
                    environment=record["environment"], release=record["release"], **common,
                )
            )  # fmt: skip
            for tag in record["tag"]:
                connection.execute(tables.tag.insert().values(tag=tag, record_id=identity))
            for score in record["scores"]:
                _store_score(connection, record, score, "record", identity)


def _store_score(
    connection: Connection, of: dict[str, Any], score: dict[str, Any], target: str, record: int | None
) -> None:
    value = score["value"]
    connection.execute(
        tables.score.insert().values(
            target=target, trace_id=of["trace"], span_id=of["span"], name=score["name"], status=score["status"],
            metric_version=str(random.random()), source=score["source"], record_id=record, reason=score["reason"],
            value=None if isinstance(value, str) else value, label=value if isinstance(value, str) else None,
            value_type="bool" if isinstance(value, bool) else "label" if isinstance(value, str) else "number",
            created_at=1,
        )
    )  # fmt: skip


class Database(NamedTuple):
    connection: Connection
    records: list[dict[str, Any]]

    def __repr__(self) -> str:
        return "the database"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("filter") / "store.db"
    engine = create_engine(f"sqlite:///{path}")
    tables.metadata.create_all(engine)
    records = _rows(seed=7, count=80)
    with engine.begin() as connection:
        create_search(connection)
        _store(connection, records)
        # A score of a record that is not stored: its NULL must not make anything unknown.
        lost = {"trace": "ff", "span": "ff"}
        for name in SCORES:
            _store_score(connection, lost, {**_score(random.Random(1)), "name": name}, "record", None)
        index_pending(connection)
        yield Database(connection, records)
    engine.dispose()


# ---- the same question, asked in Python


def _holds(node: Node, row: dict[str, Any], target: str) -> bool:
    match node:
        case And(terms):
            return all(_holds(term, row, target) for term in terms)
        case Or(terms):
            return any(_holds(term, row, target) for term in terms)
        case Not(term):
            return not _holds(term, row, target)
        case Presence(reference, present):
            return bool(_found(reference, row, target)) == present
        case OneOf(reference, wanted, negated):
            have = _found(reference, row, target)
            if negated and field_of(reference).many:
                return not any(_equal(reference, value, one) for value in have for one in wanted)
            return any(any(_equal(reference, value, one) for one in wanted) != negated for value in have)
        case Compare(reference, operator, wanted):
            return _compares(reference, operator, wanted, row, target)


def _compares(reference: Reference, operator: str, wanted: Value, row: dict[str, Any], target: str) -> bool:
    have = _found(reference, row, target)
    if operator in ("~", "!~") and reference.name in ("input", "output", "expected") and not reference.keys:
        assert isinstance(wanted, Text)
        return _whole_contains(reference.name, operator, wanted.text, row, target)
    tests: dict[str, Callable[[Any], bool]] = {
        "=": lambda value: _equal(reference, value, wanted),
        "~": lambda value: _contains(value, wanted),
        "<": lambda value: _is_number(value) and value < _plain(wanted),
        "<=": lambda value: _is_number(value) and value <= _plain(wanted),
        ">": lambda value: _is_number(value) and value > _plain(wanted),
        ">=": lambda value: _is_number(value) and value >= _plain(wanted),
    }
    # The values of scores that are bools are numbers for an order, those in JSON are not.
    if reference.name == "score" and operator in ("<", "<=", ">", ">="):
        have = [float(value) if isinstance(value, bool) else value for value in have]
    if operator in ("!=", "!~"):
        test = tests["=" if operator == "!=" else "~"]
        return not any(map(test, have)) if field_of(reference).many else any(not test(value) for value in have)
    return any(map(tests[operator], have))


def _whole_contains(name: str, operator: str, text: str, row: dict[str, Any], target: str) -> bool:
    data = _text(row["payload"][name])
    if data is None or data == "null":
        return False
    if target == "span" or name == "expected":
        found = _lower(json.dumps(text, ensure_ascii=False)[1:-1]) in _lower(data)
    elif row["status"] == "running":
        found = False  # not indexed yet
    else:
        have, want = terms(indexed_text(data)), query_terms(text)
        spots = range(len(have) - len(want) + 1)
        found = any(
            have[i : i + len(want) - 1] == want[:-1] and have[i + len(want) - 1].startswith(want[-1]) for i in spots
        )
    return found == (operator == "~")


def _found(reference: Reference, row: dict[str, Any], target: str) -> list[Any]:
    """The values that a row has of a field."""
    name = reference.name
    record = row["record"] if target == "span" else row
    if name == "score":
        scores = row["scores"]
        if target == "span" and row is not record and row["span"] == record["span"]:
            scores = [*scores, *record["scores"]]
        mine = [score for score in scores if score["name"] == reference.keys[0]]
        return [score[reference.part or "value"] for score in mine if score[reference.part or "value"] is not None]
    if name in ("input", "output", "expected", "metadata", "attr"):
        value = row["payload"][name]
        if value is ... or value == "damaged":
            return []
        if name == "input" and not reference.keys and isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        for key in reference.keys:
            value = value.get(key) if isinstance(value, dict) else None
        return [] if value is None else [value]
    if name == "error":
        values = [row["payload"]["error"]]
    elif name == "tokens":
        parts = [row["tokens.input"], row["tokens.output"]]
        values = [sum(part or 0 for part in parts)] if parts != [None, None] else []
    elif target == "record" and name in ("kind", "model", "provider", "span"):
        values = [span[name] for span in row["spans"]]
    elif name in ("app", "app.version"):
        values = [record[name]] if record["app"] is not None else []
    elif name == "tag":
        values = record["tag"]
    else:
        values = [row[name] if name in row else record[name]]
    return [value for value in values if value is not None]


def _plain(value: Value) -> Any:
    match value:
        case Text(plain) | Number(plain) | Boolean(plain) | Duration(plain) | Moment(plain):
            return plain
        case Ago(nanoseconds):
            return NOW - nanoseconds


def _equal(reference: Reference, value: Any, wanted: Value) -> bool:
    plain = _plain(wanted)
    if reference.name == "score" and isinstance(value, bool) and isinstance(wanted, Number):
        value = int(value)  # a passed check counts as 1
    if _is_number(value) and _is_number(plain):
        return bool(value == plain)
    return type(value) is type(plain) and bool(value == plain)


def _contains(value: Any, wanted: Value) -> bool:
    if isinstance(value, bool | int | float):
        return False
    text = value if isinstance(value, str) else _text(value)
    return _lower(_plain(wanted)) in _lower(text or "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lower(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(node=nodes, look_first=st.booleans())
def test_the_database_finds_the_records_that_python_finds(node: Node, look_first: bool, database: Database) -> None:
    connection, records = database
    with patch.object(scores, "MANY", 5):
        condition = compile_node(node, target="record", now=NOW, connection=connection if look_first else None)
    found = set(connection.scalars(select(tables.record.c.id).where(condition)))
    assert found == {row["id"] for row in records if _holds(node, row, "record")}


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(node=nodes)
def test_the_database_finds_the_spans_that_python_finds(node: Node, database: Database) -> None:
    connection, records = database
    condition = compile_node(node, target="span", now=NOW)
    found = set(connection.scalars(select(tables.span.c.id).where(condition)))
    rows = [{**span, "record": record} for record in records for span in record["spans"]]
    assert found == {row["id"] for row in rows if _holds(node, row, "span")}
