"""Results in files: complete, without NaN, and harmless whatever an output holds."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.support.calls import call, run

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.reports.markdown import inline
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemsFailedError, ItemStatus, Score, ScoreStatus

EVIL = "</script><img src=x onerror=alert(1)><!-- ]]> | `x` *y* @team https://example.org \x00\x1b[31m\ud800\u2028"


def evil() -> Results:
    """Whatever can be hostile holds the same hostile text."""
    hostile = call(
        EVIL,
        output=EVIL,
        fields={"question": EVIL, EVIL: [EVIL, float("nan")]},
        expected={EVIL: EVIL},
        tags=(EVIL,),
        split=EVIL,
        scores={EVIL: Score(EVIL, reason=EVIL), "x": Score(status=ScoreStatus.FAILED, error=EVIL)},
    )
    broken = call("b", ItemStatus.ERROR, error=EVIL, reason=EVIL)
    facts = RunFacts(id=EVIL, name=EVIL, dataset=EVIL, task=EVIL, note=EVIL)
    return Results([hostile, broken], facts, metrics={EVIL: MetricFacts(name=EVIL)})


def mixed() -> Results:
    return Results(
        [
            call("a", output="fine", seconds=0.5, scores={"exact": True, "depth": 3}),
            call(
                "b", output={"answer": ["x"]}, tags=("hard",), scores={"exact": False, "depth": ScoreStatus.TIMED_OUT}
            ),
            call("c", ItemStatus.ERROR, error="ValueError: no such page", seconds=0.1),
            call("d", ItemStatus.PENDING),
        ],
        RunFacts(id="0192", name="capitals", dataset="cities", started=0.0, seconds=2.0, missing=1),
        metrics={"exact": MetricFacts(name="exact"), "depth": MetricFacts(name="depth", direction="minimize")},
    )


def test_json_holds_everything_and_no_nan() -> None:
    document = json.loads(mixed().to_json() or "", parse_constant=pytest.fail)
    assert document["format"] == "tracekeeper.results/1"
    assert (document["experiment"]["missing"], document["experiment"]["complete"]) == (1, False)
    assert document["summary"]["metrics"]["depth"]["counts"] == {
        "scored": 1,
        "timed_out": 1,
        "skipped": 1,
        "pending": 1,
    }
    assert document["summary"]["metrics"]["depth"]["n"] == 4
    assert [item["item_id"] for item in document["items"]] == ["a", "b", "c", "d"]
    exact = document["items"][3]["scores"]["exact"]
    assert (exact["value"], exact["status"], exact["reason"]) == (None, "pending", "the call has not begun")
    assert json.loads(mixed().to_json(indent=2) or "") == document


@pytest.mark.parametrize("make", [mixed, evil])
def test_what_was_written_as_json_is_read_back(make: Callable[[], Results], tmp_path: Path) -> None:
    """So a build can compare with the file that an earlier one left."""
    results = make()
    results.to_json(tmp_path / "baseline.json")
    again = Results.from_json(tmp_path / "baseline.json")
    assert json.loads(again.to_json() or "") == json.loads(results.to_json() or "")
    assert again.summary() == results.summary() or make is evil  # whose texts were repaired
    assert len(results.compare(again).items) == len(results) or make is evil
    assert (again.missing, again.complete) == (results.missing, results.complete)


def test_a_baseline_from_a_file_compares_like_the_run_itself(tmp_path: Path) -> None:
    fields = {"pair": (1, 2), "limit": float("nan"), 3: "key"}
    before = Results(call(f"i{n}", fields=fields, output=(n, None), scores={"x": n % 3 == 0}) for n in range(30))
    after = Results(call(f"i{n}", fields=fields, output=(n, None), scores={"x": n % 2 == 0}) for n in range(30))
    before.to_json(tmp_path / "baseline.json")
    found = after.compare(Results.from_json(tmp_path / "baseline.json"))
    assert found.changed_inputs == []
    assert found.metrics == after.compare(before).metrics


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no results that to_json"),
        ("", "no results that to_json"),
        ('{"format": "tracekeeper.results/1", "items": 3}', "no results that to_json"),
        (
            '{"format": "tracekeeper.results/9", "experiment": {}, "metrics": {}, "items": []}',
            "results/9'; this version",
        ),
    ],
)
def test_other_files_are_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        Results.from_json(tmp_path / "other.json")


def test_csv_has_a_row_a_call_with_value_status_and_reason() -> None:
    rows = list(csv.DictReader(io.StringIO(mixed().to_csv() or "", newline="")))
    assert [row["exact"] for row in rows] == ["True", "False", "", ""]
    assert [row["exact.status"] for row in rows] == ["scored", "scored", "skipped", "pending"]
    assert rows[2]["exact.reason"] == "the task failed"
    assert rows[1]["output"] == '{"answer":["x"]}'


def test_no_text_of_a_csv_file_is_a_formula_unless_that_is_asked_for() -> None:
    hostile = ['=HYPERLINK("http://x","y")', "@SUM(1)", "+1+1", "-1+1", "\t=1", "\r=1", "-3", "plain"]
    results = Results([call(f"i{n}", output=text, fields={text: text}) for n, text in enumerate(hostile)])
    for row in csv.reader(io.StringIO(results.to_csv() or "", newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and cell != "-3"]
    rows = [*csv.DictReader(io.StringIO(results.to_csv(formulas=True) or "", newline=""))]
    assert [row["output"] for row in rows] == hostile


def test_pandas_has_nullable_types_and_never_nan() -> None:
    pandas = pytest.importorskip("pandas")
    frame = mixed().to_pandas()
    assert str(frame["exact"].dtype) == "boolean"
    assert str(frame["depth"].dtype) in ("Float64", "Int64")
    assert frame["depth"].isna().tolist() == [False, True, True, True]
    assert frame["depth.status"].tolist() == ["scored", "timed_out", "skipped", "pending"]
    for column in frame:
        assert not any(isinstance(value, float) and value != value for value in frame[column]), column
    assert all(value is pandas.NA for value in frame["depth"][1:])


def test_files_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    results = mixed()
    for name in ("json", "csv", "markdown", "html", "junit"):
        write = getattr(results, f"to_{name}")
        path = tmp_path / f"results.{name}"
        assert write(path) is None
        assert path.read_bytes().decode("utf-8") == write()


def test_junit_tells_errors_from_failures() -> None:
    root = ElementTree.fromstring(mixed().to_junit(thresholds={"exact": 1}) or "")
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "4",
        "0",
        "2",
        "1",
    )
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert [child.tag for child in cases["a"]] == ["system-out"]
    assert cases["b"][0].tag == "error"  # a metric timed out: that comes before its value of another one
    assert cases["c"][0].get("message") == "error: ValueError: no such page"
    assert cases["d"][0].tag == "skipped"
    assert suite.get("timestamp") == "1970-01-01T00:00:00"


@pytest.mark.parametrize(("direction", "failing"), [("maximize", ["i0"]), ("minimize", ["i2"]), (None, ["i0"])])
def test_junit_fails_what_is_on_the_wrong_side_of_its_threshold(direction: str | None, failing: list[str]) -> None:
    results = run({"x": [0.1, 0.5, 0.9]}, metrics={"x": MetricFacts(name="x", direction=direction)})
    root = ElementTree.fromstring(results.to_junit(thresholds={"x": 0.5}) or "")
    assert [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None] == failing


def test_a_threshold_of_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(ValueError, match="no metric 'exakt'; did you mean 'exact'"):
        mixed().to_junit(thresholds={"exakt": 1})


def test_failures_are_raised_with_what_went_wrong() -> None:
    with pytest.raises(ItemsFailedError) as raised:
        mixed().raise_for_failures()
    assert str(raised.value).splitlines() == [
        "capitals: 2 of 4 calls failed, 1 have not ended",
        "  b: depth timed_out: said timed_out",
        "  c: error: ValueError: no such page",
    ]
    assert [failure.item_id for failure in raised.value.failures] == ["b", "c"]
    assert (raised.value.missing, raised.value.experiment_id) == (1, "0192")
    run({"x": [False, ScoreStatus.SKIPPED]}).raise_for_failures()  # a bad value and a declined judgement are none


def test_many_failures_are_counted_and_the_first_are_named() -> None:
    results = Results(call(f"i{n}", ItemStatus.ERROR, error="ValueError: " + "long " * 100) for n in range(30))
    with pytest.raises(ItemsFailedError, match="and 20 more") as raised:
        results.raise_for_failures()
    assert len(str(raised.value)) < 3_000


def test_text_says_what_was_and_what_is_missing() -> None:
    shown = mixed().text(width=160, color=False)
    assert "capitals over cities · 4 items" in shown
    assert "2 ok, 1 error, 1 pending" in shown.replace("1 pending, 2 ok, 1 error", "2 ok, 1 error, 1 pending")
    assert re.search(r"incomplete +1 have not ended", shown)
    assert "4 = 1 scored + 1 timed_out + 1 skipped + 1 pending" in shown
    assert "failures (2):" in shown
    assert "\x1b" not in shown
    assert "failures (2):" in mixed()._repr_html_()


# -- hostile content -----------------------------------------------------------------------------------------------


def test_no_report_breaks_on_hostile_content(tmp_path: Path) -> None:
    results = evil()
    json.loads(results.to_json() or "", parse_constant=pytest.fail)
    list(csv.DictReader(io.StringIO(results.to_csv() or "", newline="")))
    ElementTree.fromstring(results.to_junit() or "")
    for name in ("json", "csv", "markdown", "html", "junit"):
        getattr(results, f"to_{name}")(tmp_path / name)
        (tmp_path / name).read_bytes().decode("utf-8")
    shown = results.text(width=200, color=False)
    assert not {character for character in shown if character < " " and character != "\n"}


def test_hostile_content_is_no_markup_in_the_page() -> None:
    page = evil().to_html(baseline=evil()) or ""
    assert "<img" not in page
    assert page.count("</script>") == 2  # the data block's and the script's own
    assert "<!--" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert not set("<>&\u2028") & set(data[1])
    assert json.loads(data[1])["items"][0]["output"].startswith("</script><img src=x onerror=alert(1)>")


def test_hostile_content_is_no_markup_in_a_notebook() -> None:
    assert "<img" not in evil()._repr_html_()
    assert "<img" not in evil().compare(evil())._repr_html_()


def test_hostile_content_is_no_markup_in_markdown() -> None:
    text = evil().to_markdown() or ""
    assert not re.search(r"(?<!\\)<(?!!-- -->)", text)
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 5), line
    assert inline("@team") == "@<!-- -->team"
    assert inline("a_b*c*") == r"a\_b\*c\*"


def test_the_page_loads_nothing_and_runs_nothing_but_its_own() -> None:
    page = mixed().to_html() or ""
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.search(r"\b(src|href)=|url\(|@import|fetch\(|XMLHttpRequest", page)


def test_results_of_any_type_are_shown() -> None:
    outputs: list[Any] = [None, 1, [1, {"a": None}], {"b": float("inf")}, {1: 2}, "", "x" * 100_000, b"bytes", {3, 4}]
    results = Results(call(f"i{n}", output=output) for n, output in enumerate(outputs))
    for name in ("json", "csv", "markdown", "html", "junit"):
        assert getattr(results, f"to_{name}")()
    assert results.compare(results).to_markdown()
    assert len(results.to_markdown() or "") < 5_000
