"""What filters mean, and what is said about those that mean nothing."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from tracekeeper.store import tables
from tracekeeper.store.filter import parse
from tracekeeper.store.filter.compile import compile_filter
from tracekeeper.store.filter.grammar import MAX_COMPARISONS, MAX_DEPTH
from tracekeeper.store.filter.lexer import MAX_LENGTH
from tracekeeper.store.filter.nodes import UNITS, Ago, Boolean, Compare, Duration, Moment, Number, Reference, Text
from tracekeeper.store.filter.times import parse_time, show_time
from tracekeeper.store.search import create_search
from tracekeeper.types import FilterError

SECOND = UNITS["s"]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("status = error", 'status = "error"'),
        ("STATUS = Error AND User = Bob", 'status = "error" and user = "Bob"'),
        ("app.version=1.2", 'app.version = "1.2"'),
        ("app.version = 1.2.3-rc1", 'app.version = "1.2.3-rc1"'),
        ("name = true", 'name = "true"'),
        ("user = jane+x@example.org", 'user = "jane+x@example.org"'),
        ("user = Jürgen or user = 東京", 'user = "Jürgen" or user = "東京"'),
        ("user = 'it\\'s \\\"'", r'user = "it\'s \""'.replace(r"\'", "'")),
        ("a_b = 1".replace("a_b", "attr.a_b"), 'attr["a_b"] = 1'),
        ("attr.user.tier = gold", 'attr["user.tier"] = "gold"'),
        ('metadata.a["b"] = "5"', 'metadata["a"]["b"] = "5"'),
        ("input.question ~ x", 'input["question"] ~ "x"'),
        ("latency>1.5h", "latency > 90m"),
        ("latency > 1h30m", "latency > 90m"),
        ("latency < 0.1us", "latency < 100ns"),
        ("latency < 5µs", "latency < 5us"),
        ("started in last 2h", "started > -2h"),
        ("started < +1d", "started < +1d"),
        ("started > 2026-11-01T10:00+02:00", 'started > "2026-11-01T08:00:00Z"'),
        ("score.x", None),
        ("score.cites = TRUE", 'score["cites"] = true'),
        ("score.rag.tone = angry", 'score["rag.tone"] = "angry"'),
        ("score.my-metric >= 1e-3", 'score["my-metric"] >= 0.001'),
        ("score.rag.tone.Status = timed_out", 'score["rag.tone"].status = "timed_out"'),
        ('score["a.status"].reason ~ "x"', 'score["a.status"].reason ~ "x"'),
        ('score["a.status"] = 1', 'score["a.status"] = 1'),
        ("score.x not in (1, no, true)", 'score["x"] not in (1, "no", true)'),
        ("not not status = ok", 'not not status = "ok"'),
        ("status = ok and status = ok or status = ok", '(status = "ok" and status = "ok") or status = "ok"'),
        ("status = ok and (status = ok or status = ok)", 'status = "ok" and (status = "ok" or status = "ok")'),
        ("((status = ok))", 'status = "ok"'),
        ("trace = 0AF7651916CD43DD8448EB211C80319C", 'trace = "0af7651916cd43dd8448eb211c80319c"'),
        ("\n status\t=\nok ", 'status = "ok"'),
    ],
)
def test_filters_print_in_their_plain_form(text: str, printed: str | None) -> None:
    if printed is None:
        with pytest.raises(FilterError, match="expected an operator after score"):
            parse(text)
        return
    assert str(parse(text)) == printed
    assert parse(printed) == parse(text)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "empty"),
        ("sttus = ok", 0, "did you mean status?"),
        ("app = x and duration > 2s", 12, "did you mean latency?"),
        ("session_id = x", 0, "did you mean session?"),
        ("groundedness < 0.5", 0, "write score.groundedness"),
        ("%", 0, "unexpected character '%'"),
        ("tag = “x”", 6, "straight quotes"),
        ("status == ok", 7, "did you mean '='?"),
        ("latency =< 2s", 8, "did you mean '<='?"),
        ("latency => 2s", 8, "did you mean '>='?"),
        ("status <> ok", 7, "did you mean '!='?"),
        ("status = ok && user = x", 12, "did you mean 'and'?"),
        ("status = ok || user = x", 12, "did you mean 'or'?"),
        ("! status = ok", 0, "did you mean 'not'?"),
        ("input contains x", 6, "did you mean '~'?"),
        ("status = eror", 9, "did you mean error?"),
        ("status in (ok, eror)", 15, "did you mean error?"),
        ("score.x.status = fail", 17, "did you mean failed?"),
        ('score["x"].stats = 1', 10, "did you mean status?"),
        ("status > ok", 7, "has no order"),
        ("status ~ ok", 7, "is not text"),
        ("latency = 2s", 8, "ask for a range"),
        ("latency in (2s)", 8, "cannot be compared with 'in'"),
        ("latency > 2", 10, "2s or 2ms"),
        ('latency > "2s"', 10, "is not"),
        ("latency > 2parsec", 10, "unknown unit of time 'parsec'"),
        ("latency > 99999999999w", 10, "too long"),
        ("latency > " + "9" * 60 + "s", 10, "too long"),
        ("started > yesterday", 10, "2026-11-01"),
        ("started > 2h", 10, "-2h"),
        ('started > "2026-02-30"', 10, "no such time"),
        ('started > "2026-02-03T10:00+25:00"', 10, "no such time zone"),
        ('started > "9999-01-01"', 10, "2262"),
        ("started in last week", 16, "expected a duration"),
        ("tokens > many", 9, "is a number"),
        ('tokens > "5"', 9, "is a number"),
        ("cost > 1e999", 7, "too large"),
        ('attr["n"] > "5"', 12, "without quotes"),
        ("trace = xyz", 8, "hexadecimal"),
        ('input ~ "?!"', 8, "no word"),
        ('name ~ ""', 7, "empty text"),
        ("attr = x", 0, 'as in attr["k"]'),
        ("attr. = x", 0, "unknown field"),
        ("attr[k] = x", 5, "quoted key"),
        ('attr["k" = x', 9, "closing ]"),
        ('attr["k"].j = x', 9, 'attr["…"]["j"]'),
        ('status["k"] = x', 6, "has no keys"),
        ("score = 1", 0, "one name"),
        ('score["a"]["b"] = 1', 0, "one name"),
        ("user is null", 8, "did you mean 'missing'?"),
        ("user is presnt", 8, "did you mean 'present'?"),
        ("user is not present", 8, "present or missing"),
        ("name = hello world", 13, 'quote a text with spaces: "hello world'),
        ("status = ok nd user = x", 12, "not 'nd'"),
        ("status = and", 9, "quote it"),
        ("status in ok", 10, "expected ("),
        ("status in (ok", 13, "expected , or )"),
        ("status in ()", 11, "expected a value"),
        ("(status = ok", 12, "expected a closing )"),
        ("status = ok)", 11, "closes nothing"),
        ("status = ok ,", 12, "not ','"),
        ("status =", 8, "the filter ends here"),
        ("status = ok and", 15, "expected a field"),
        ("and status = ok", 0, "expected a field"),
        ("name = 'abc", 7, "no closing '"),
        ("name = 'abc\\", 7, "no closing '"),
        (r'name = "a\d"', 9, "unknown escape"),
        ('name = "a\ud800"', 9, "cannot be searched"),
        ('name = "a\0"', 9, "cannot be searched"),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_a_hint(text: str, position: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.position == position
    assert caught.value.text == text


def test_filters_are_bounded() -> None:
    parse("(" * MAX_DEPTH + "status = ok" + ")" * MAX_DEPTH)
    for deep in ("(" * 7000, "not " * 1900, "(" * (MAX_DEPTH + 1) + "status = ok" + ")" * (MAX_DEPTH + 1)):
        with pytest.raises(FilterError, match="nested too deeply"):
            parse(deep)
    with pytest.raises(FilterError, match="too long"):
        parse("x" * (MAX_LENGTH + 1))
    parse(" or ".join(["status = ok"] * MAX_COMPARISONS))
    with pytest.raises(FilterError, match="at most 200 comparisons"):
        parse(" or ".join(["status = ok"] * (MAX_COMPARISONS + 1)))


@pytest.mark.parametrize(
    "text",
    [
        "(" * MAX_DEPTH + "status = ok" + ")" * MAX_DEPTH,
        "not " * MAX_DEPTH + "status = ok",
        " or ".join(f'attr["k{n}"]["k"] != 1' for n in range(MAX_COMPARISONS)),
        " and ".join(["score.x < 1", "tag != a"] * (MAX_COMPARISONS // 2)),
        f"trace in ({','.join(['0af7651916cd43dd8448eb211c80319c'] * 200)})",
        f'expected ~ "{"%" * (MAX_LENGTH - 13)}"',
        f'name ~ "{"東" * (MAX_LENGTH - 9)}"',
        f'input ~ "{"a " * 3900}"',
        "((status = ok) or " * (MAX_DEPTH - 1) + "kind = llm" + ")" * (MAX_DEPTH - 1),
    ],
)
@pytest.mark.parametrize("target", ["record", "span"])
def test_the_largest_filters_run(text: str, target: str) -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        create_search(connection)
        condition = compile_filter(text, target=target)  # type: ignore[arg-type]
        assert condition is not None
        table = tables.record if target == "record" else tables.span
        connection.execute(select(table.c.id).where(condition)).all()
    engine.dispose()


def test_blank_text_filters_nothing() -> None:
    assert compile_filter("") is None
    assert compile_filter(" \n ") is None


def test_values_have_the_type_of_their_field() -> None:
    def value(text: str) -> object:
        node = parse(text)
        assert isinstance(node, Compare)
        return node.value

    assert value("app.version = 1.20") == Text("1.20")
    assert value("cost = 1.20") == Number(1.2)
    assert value("score.x = 1") == Number(1)
    assert value('score.x = "1"') == Text("1")
    assert value('score.x = "true"') == Text("true")
    assert value("score.x = true") == Boolean(True)
    assert value("latency > 2s") == Duration(2 * SECOND)
    assert value("started > -2h") == Ago(7200 * SECOND)
    assert value("started > 1970-01-02") == Moment(86_400 * SECOND)


def test_a_field_knows_where_it_stands() -> None:
    node = parse("  latency > 2s")
    assert isinstance(node, Compare)
    assert node.field.position == 2
    assert node.field == Reference("latency")


@pytest.mark.parametrize("nanoseconds", [0, 1, -1, 10**9, 1_762_000_000_123_456_789, -(10**18)])
def test_times_are_read_as_they_are_shown(nanoseconds: int) -> None:
    assert parse_time(show_time(nanoseconds)) == nanoseconds


def test_times_agree_with_datetime() -> None:
    zone = timezone(timedelta(hours=-3, minutes=-30))
    moment = datetime(2026, 11, 1, 14, 30, 15, 250_000, zone)
    assert parse_time(moment.isoformat()) == round(moment.timestamp() * 1000) * 10**6
    assert parse_time("2026-11-01") == parse_time("2026-11-01 00:00Z") == parse_time("2026-11-01T00:00:00.000+0000")


INJECTIONS = [
    "x' OR 1=1 --",
    'x" OR ""="',
    "'); DROP TABLE record; --",
    "$.k'",
    '") OR 1=1 --',
    "%",
    "\\",
    ":param_1",
    "?",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(
    "template",
    ["app = {}", "tag != {}", "attr[{}] = 1", "input[{}][{}] ~ {}", "score[{}] = {}", "name ~ {}", "expected = {}"],
)
def test_nothing_that_is_typed_becomes_sql(text: str, template: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    harmless = compile_filter(template.replace("{}", '"a"'))
    condition = compile_filter(template.replace("{}", quoted))
    assert harmless is not None
    assert condition is not None
    assert str(condition) == str(harmless)
    bound = [value for value in condition.compile().params.values() if isinstance(value, str)]
    assert any(text in value.replace("/", "") for value in bound)  # with "/" before wildcards


def test_parsing_does_not_import_the_database_layer() -> None:
    code = "from tracekeeper.store.filter import parse; parse('user = x'); import sys; print(*sys.modules)"
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "tracekeeper.store.filter.grammar" in done.stdout
    assert "sqlalchemy" not in done.stdout
