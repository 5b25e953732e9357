"""Results as JUnit XML, which every CI server shows: a test for each call, and in a suite of their own for each gate.

Format: the elements that Jenkins' JUnit plugin documents (https://github.com/jenkinsci/junit-plugin) and GitLab and
GitHub tools read: ``testsuites``, ``testsuite``, ``properties``, ``testcase`` with ``failure``, ``error`` or
``skipped``, ``system-out``.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tracekeeper.evaluation.accounts import score_of, why
from tracekeeper.evaluation.failing import call_name
from tracekeeper.evaluation.reports.terminal import headline
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.tables import inputs_of, mean_text
from tracekeeper.reading.columns import text_of
from tracekeeper.reading.receipts import counts_text
from tracekeeper.types import ItemStatus

if TYPE_CHECKING:
    from tracekeeper.evaluation.facts import MetricFacts
    from tracekeeper.evaluation.gates import Decision
    from tracekeeper.evaluation.results import Results

OUTPUT = 10_000
"""Characters of input and output that a test shows."""

# What XML 1.0 cannot hold, escaped or not (section 2.2, production 2).
_forbidden = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}
"""What may become of a test, and the attribute of a suite that counts it."""


def xml(results: Results, thresholds: Mapping[str, float], decision: Decision | None = None) -> str:
    """The file's text; see ``Results.to_junit``."""
    names = results.metric_names
    for name in thresholds:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(names) or 'none'}"
            raise ValueError(f"no metric {name!r}{hint}")
    facts, found = results.facts, results.summary()
    suite = ElementTree.Element("testsuite", name=_clean(facts.title))
    properties = ElementTree.SubElement(suite, "properties")
    said = {"run": headline(facts, found), "id": facts.id}
    said |= {name: f"{mean_text(metric)} ({counts_text(metric.counts)})" for name, metric in found.metrics.items()}
    for name, value in said.items():
        if value:
            ElementTree.SubElement(properties, "property", name=_clean(name), value=_clean(value))
    suite.extend(_case(result, facts.title, names, results.metrics, thresholds) for result in results.items)
    seconds = sum(result.seconds or 0.0 for result in results.items)
    suite.attrib.update(_counts([suite]), time=f"{seconds:.3f}")
    if facts.started is not None:
        suite.set("timestamp", datetime.fromtimestamp(facts.started, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    suites = [suite] if decision is None else [suite, _gates(decision, facts.title)]
    root = ElementTree.Element("testsuites", {**suite.attrib, **_counts(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _gates(decision: Decision, title: str) -> ElementTree.Element:
    """Whether the build may pass: a test for each gate, with its sentence."""
    name = _clean(f"{title}: gates")
    suite = ElementTree.Element("testsuite", name=name)
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="exit_code", value=str(decision.exit_code))
    for check in decision.checks:
        called = _clean(f"{check.metric}: {check.kind}" if check.metric else check.kind)
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=called, time="0.000")
        if not check.passed:
            failure = ElementTree.SubElement(case, "failure", message=_clean(check.text), type=check.kind)
            failure.text = _clean(check.text)
        ElementTree.SubElement(case, "system-out").text = _clean(check.text)
    suite.attrib.update(_counts([suite]), time="0.000")
    return suite


def _counts(suites: Sequence[ElementTree.Element]) -> dict[str, str]:
    """Of the tests of some suites: each once, by what became of it."""
    cases = [case for suite in suites for case in suite.iter("testcase")]
    found = Counter(next((child.tag for child in case if child.tag in COUNTED), "") for case in cases)
    return {"tests": str(len(cases)), **{name: str(found[tag]) for tag, name in COUNTED.items()}}


def _case(
    result: ItemResult, suite: str, names: list[str], facts: Mapping[str, MetricFacts], thresholds: Mapping[str, float]
) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=_clean(suite), name=_clean(call_name(result)), time=f"{result.seconds or 0.0:.3f}"
    )
    wrong = why(result)
    short = [
        said for name, least in thresholds.items() if (said := _below(result, name, least, facts.get(name))) is not None
    ]
    if result.status in (ItemStatus.PENDING, ItemStatus.RUNNING, ItemStatus.SKIPPED):
        ElementTree.SubElement(case, "skipped", message=_clean(result.reason or str(result.status)))
    elif wrong:
        error = ElementTree.SubElement(case, "error", message=_clean(wrong[0]), type=str(result.status))
        traces = [score.traceback for score in result.scores.values() if score.traceback]
        error.text = _clean("\n\n".join(["\n".join(wrong), *traces]))
    elif short:
        failure = ElementTree.SubElement(case, "failure", message=_clean("; ".join(short)), type="threshold")
        failure.text = _clean("\n".join(short))
    shown = [f"input: {text_of(inputs_of(result))}"[:OUTPUT], f"output: {text_of(result.output)}"[:OUTPUT]]
    for name in names:
        score = score_of(result, name)
        value = str(score.status) if score.value is None else text_of(score.value)
        shown.append(f"{name}: {value}" + (f" ({score.error or score.reason})" if score.error or score.reason else ""))
    ElementTree.SubElement(case, "system-out").text = _clean("\n".join(shown))
    return case


def _below(result: ItemResult, name: str, least: float, facts: MetricFacts | None) -> str | None:
    """What is wrong with the value of a metric, or ``None``. Where there is no value it passes."""
    value = score_of(result, name).value
    if value is None or isinstance(value, str):
        return None
    if facts is not None and facts.lower_is_better:
        return f"{name} is {text_of(value)}, above {text_of(least)}" if value > least else None
    return f"{name} is {text_of(value)}, below {text_of(least)}" if value < least else None


def _clean(text: str) -> str:
    return _forbidden.sub("\N{REPLACEMENT CHARACTER}", text)
