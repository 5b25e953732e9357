"""Online rules: metrics that judge records as they arrive in the store, whichever process traced them.

Rules are applied by workers and by the engines of apps; their scores are computed by `tracekeeper worker`. Actions:
`list` (the default), `add` (or change), `show`, `pause`, `resume`, `remove`, and `test`, which says how many of the
stored records a rule matches and would judge.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import Any

from tracekeeper.cli.metrics_given import find_metrics
from tracekeeper.cli.output import add_json, print_table, require_data, require_tracing
from tracekeeper.judging import restore
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.fresh import fresh
from tracekeeper.reading.rule_list import budget_of, rules, state_of
from tracekeeper.render import format_duration, format_time, plural, render_key_values
from tracekeeper.scoring.rules.rule import Rule, gone, rule
from tracekeeper.types import ConfigurationError, MetricError

EXAMPLES = """\
tracekeeper rules
tracekeeper rules add grounded --filter 'app = "rag"' --metric my_app.metrics:grounded --sample 0.1 --daily-cost 5
tracekeeper rules add finding --filter 'app = "rag"' --target span --span-kind retriever --metric my_app.metrics:found
tracekeeper rules add polite --filter 'app = "chat"' --target session --idle-after 600 --metric my_app.metrics:polite
tracekeeper rules test grounded
tracekeeper rules pause grounded
"""

ACTIONS = ("list", "add", "show", "pause", "resume", "remove", "test")
WHOLE = 10_000
"""Columns of what is shown of one rule: an error that is cut has lost its end. The terminal wraps it."""
_OF_ADD = (
    *("filter", "metric", "param", "target", "span_kind", "span_name", "sample", "daily_evaluations", "daily_cost"),
    *("idle_after", "since", "paused"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", metavar="ACTION", nargs="?", choices=ACTIONS, default="list", help=", ".join(ACTIONS))
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the rule; for every action but list")
    adding = parser.add_argument_group("add")
    adding.add_argument("--filter", metavar="FILTER", help='which records; "*" for all')
    adding.add_argument(
        "--metric", metavar="NAME", action="append", help="a built-in metric or module:name (repeatable)"
    )
    adding.add_argument(
        "--param", metavar="K=V", action="append", help="a parameter; METRIC.K=V for one of several (repeatable)"
    )
    adding.add_argument("--target", metavar="TARGET", help="record (default), span or session")
    adding.add_argument("--span-kind", metavar="KIND", help="of the spans to judge, e.g. retriever")
    adding.add_argument("--span-name", metavar="NAME", help="of the spans to judge")
    adding.add_argument("--sample", metavar="SHARE", type=float, help="of what matches: above 0, at most 1 (default)")
    adding.add_argument("--daily-evaluations", metavar="N", type=int, help="at most so many a day (UTC)")
    adding.add_argument("--daily-cost", metavar="USD", type=float, help="at most so many US dollars a day (UTC)")
    adding.add_argument("--idle-after", metavar="SECONDS", type=float, help="when a session is judged (default: 600)")
    adding.add_argument("--since", metavar="WHEN", help="of a new rule: now (default), or beginning")
    adding.add_argument("--paused", action="store_true", default=None, help="store it, but apply it only after resume")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Do it."""
    _check_words(parsed)
    if parsed.action == "add":
        return _add(parsed)
    require_data()
    now = fresh()
    if parsed.action == "list":
        print_table(rules(), as_json=parsed.json)
        return 0
    found = _find(rules(), parsed.name)
    match parsed.action:
        case "pause":
            found.pause()
            _say(parsed, found, f"paused {found.name!r}; what it has asked for already is still computed")
        case "resume":
            found.resume()
            _say(parsed, found, f"resumed {found.name!r}; it goes on where it was paused")
        case "remove":
            found.remove()
            _say(parsed, found, f"removed {found.name!r}; its scores stay, what nobody has begun of them is cancelled")
        case "test":
            _test(parsed, found)
        case _:
            print(json_text(as_plain(found), indent=2) if parsed.json else as_text(found))
    if now.note and not parsed.json:
        print(f"note: {now.note}")
    return 0


def _check_words(parsed: argparse.Namespace) -> None:
    if parsed.action == "list" and parsed.name is not None:
        raise ConfigurationError(f"rules list takes no name; see one with: tracekeeper rules show {parsed.name}")
    if parsed.action != "list" and parsed.name is None:
        raise ConfigurationError(f"rules {parsed.action}: expected the name of a rule")
    if parsed.action != "add":
        given = [option for option in _OF_ADD if getattr(parsed, option) is not None]
        if given:
            raise ConfigurationError(f"--{given[0].replace('_', '-')} is for rules add, not for rules {parsed.action}")


def _add(parsed: argparse.Namespace) -> int:
    for option in ("filter", "metric"):
        if getattr(parsed, option) is None:
            raise ConfigurationError(f"rules add {parsed.name}: --{option} is missing")
    spans = {"kind": parsed.span_kind, "name": parsed.span_name}
    given = {key: value for key, value in spans.items() if value is not None}
    metrics = find_metrics(parsed.metric, parsed.param or [], None)
    require_tracing()
    made = rule(
        parsed.name,
        filter=parsed.filter,
        metrics=metrics,
        target=parsed.target or "record",
        spans=given or None,
        sample=1.0 if parsed.sample is None else parsed.sample,
        daily_evaluations=parsed.daily_evaluations,
        daily_cost=parsed.daily_cost,
        idle_after=parsed.idle_after,
        enabled=not parsed.paused,
        since=parsed.since or "now",
    )
    _say(parsed, made, f"rule {made.name!r} is {'stored, but paused' if not made.enabled else 'active'}")
    return 0


def _test(parsed: argparse.Namespace, found: Rule) -> None:
    preview = found.matching()
    if parsed.json:
        print(json_text({"rule": found.name, "target": found.target, **preview._asdict()}))
        return
    which = f"of {plural(preview.records, 'stored record')}"
    what = "it matches" if found.target == "record" else "its filter selects"
    print(f"{which} {what} {plural(preview.matched, found.target)}; its sample takes {preview.sampled:,} of them")
    print(f"to judge them takes {plural(preview.evaluations, 'evaluation')}; budget today: {budget_of(found)}")


def _find(known: Iterable[Rule], name: str) -> Rule:
    known = list(known)
    for each in known:
        if each.name == name:
            return each
    raise gone(name, [each.name for each in known])


def _say(parsed: argparse.Namespace, found: Rule, text: str) -> None:
    print(json_text(as_plain(found)) if parsed.json else text)


def as_plain(found: Rule) -> dict[str, Any]:
    """A rule for programs."""
    plain = {
        name: getattr(found, name)
        for name in (
            *("name", "enabled", "target", "filter", "spans", "sample", "daily_evaluations", "daily_cost"),
            *("idle_after", "matched", "judged", "not_sampled", "over_budget", "error", "created", "changed"),
        )
    }
    return {**plain, "today": found.today._asdict(), "metrics": found.metrics}


def as_text(found: Rule) -> str:
    """A rule for people."""
    spans = " and ".join(f"{key} {value}" for key, value in found.spans.items())
    pairs: dict[str, Any] = {
        "rule": found.name,
        "state": state_of(found),
        "judges": f"{found.target}s" + (f" of {spans}" if spans else ""),
        "filter": found.filter,
        "sample": found.sample,
    }
    if found.target == "session":
        pairs["idle after"] = format_duration(found.idle_after)
    pairs["today"] = budget_of(found)
    pairs["matched"] = found.matched
    pairs["judged"] = f"{found.judged:,}, {found.not_sampled:,} not sampled, {found.over_budget:,} over budget"
    pairs["open scores"] = f"{found.today.open:,} (computed by: tracekeeper worker)" if found.today.open else 0
    pairs["created"] = format_time(found.created.timestamp())
    pairs["changed"] = format_time(found.changed.timestamp())
    lines = [render_key_values(pairs, width=WHOLE), "", "metrics"]
    for metric in found.metrics:
        made_with = ", ".join(f"{key}={value!r}" for key, value in metric["parameters"].items())
        lines.append(f"  {metric['name']}  {metric['import_path']}({made_with})  version {metric['version']}")
        remark = _remark(metric)
        if remark:
            lines.append(f"    {remark}")
    return "\n".join(lines)


def _remark(metric: dict[str, Any]) -> str | None:
    """What is wrong with a metric, seen from here: it does not import, or its code has changed since."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `rules add` does
    try:
        version = restore(metric).version
    except MetricError as error:
        return f"cannot be made here: {error}"
    if version == metric["version"]:
        return None
    return f"has changed: it is version {version} here; to judge by that, add the rule again"
