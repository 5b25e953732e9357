"""Thresholds on rolling figures (a score's mean, failure rate, latency, cost), told to a webhook.

list shows every alert with its state; add makes one or changes the one of that name; remove, pause and resume do what
they say; test sends a test message to its webhook and says what came back; check looks at all alerts now and waits for
what is being sent (any app or worker that runs does that by itself every few seconds). The secret that signs messages
is taken from an environment variable, so that it is in no list of processes and no shell history.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tracekeeper.cli.arguments import suggestion
from tracekeeper.cli.output import add_json, print_table, require_data, seconds
from tracekeeper.reading.alerts import alerts
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.fresh import fresh
from tracekeeper.scoring.alerts import checks as alert_checks
from tracekeeper.scoring.alerts import deliveries
from tracekeeper.scoring.alerts.alert import MEASURES, Alert, alert, named
from tracekeeper.types import ConfigurationError

EXAMPLES = """\
tracekeeper alerts
tracekeeper alerts add quality --score groundedness --below 0.7 --window 1h --min-count 20
tracekeeper alerts add spend --measure cost --above 50 --window 1d --webhook https://example.com/hook --secret-env HOOK
tracekeeper alerts test spend
"""

ACTIONS = ("list", "add", "remove", "pause", "resume", "test", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", metavar="ACTION", nargs="?", default="list", help=f"{', '.join(ACTIONS)}")
    parser.add_argument("name", metavar="NAME", nargs="?", help="which alert (not for list and check)")
    parser.add_argument("--measure", metavar="MEASURE", help=f"{', '.join(MEASURES)} (default: mean)")
    parser.add_argument("--score", metavar="NAME", help="of which score")
    parser.add_argument("--filter", metavar="FILTER", help="which records count (default: all)")
    parser.add_argument("--above", metavar="NUMBER", type=float, help="fire above it: seconds, dollars, a share of 1")
    parser.add_argument("--below", metavar="NUMBER", type=float, help="fire below it")
    parser.add_argument("--window", metavar="TIME", help="how far back it looks, as 30m, 1h, 7d (default: 1h)")
    parser.add_argument("--min-count", metavar="N", type=int, help="scores or records that there must be (default: 1)")
    parser.add_argument("--webhook", metavar="URL", help="where it is told")
    parser.add_argument("--secret-env", metavar="VARIABLE", help="environment variable with the secret that signs")
    parser.add_argument("--allow-private", action="store_true", help="also send to this machine and private networks")
    parser.add_argument("--cooldown", metavar="TIME", help="does not fire twice within it (default: 10m)")
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, default=30.0, help="check: for what is being sent")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Do it. 1 when a test was not delivered, or a check could not wait for everything."""
    if parsed.action not in ACTIONS:
        raise ConfigurationError(f"unknown action {parsed.action!r}{suggestion(parsed.action, ACTIONS)}")
    if parsed.action != "add":
        require_data()
    if parsed.action in ("list", "check"):
        if parsed.name is not None:
            raise ConfigurationError(f"{parsed.action} takes no name; it is about all alerts")
        return _list(parsed) if parsed.action == "list" else _check(parsed)
    if parsed.name is None:
        raise ConfigurationError(f"{parsed.action} which alert? give its name")
    if parsed.action == "add":
        return _say(_added(parsed), parsed)
    found = named(parsed.name)
    match parsed.action:
        case "remove":
            found.remove()
            print(json_text({"removed": found.name}) if parsed.json else f"removed {found.name}")
            return 0
        case "test":
            return _test(found, parsed)
        case "pause":
            return _say(found.pause(), parsed)
        case _:
            return _say(found.resume(), parsed)


def _list(parsed: argparse.Namespace) -> int:
    print_table(alerts(), as_json=parsed.json)
    return 0


def _added(parsed: argparse.Namespace) -> Alert:
    names = ("measure", "score", "filter", "above", "below", "window", "min_count", "webhook", "cooldown")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(parsed, name)) is not None}
    if parsed.secret_env is not None:
        given["secret"] = os.environ.get(parsed.secret_env)
        if not given["secret"]:
            raise ConfigurationError(f"--secret-env {parsed.secret_env}: there is no such environment variable")
    return alert(parsed.name, allow_private=parsed.allow_private, **given)


def _say(changed: Alert, parsed: argparse.Namespace) -> int:
    if parsed.json:
        print(json_text(changed))
    else:
        told = f", told to {changed.webhook}{'' if changed.signed else ' (unsigned)'}" if changed.webhook else ""
        state = changed.state if changed.enabled else "paused"
        print(f"{changed.name}: {changed.threshold}{told}; {state}")
    return 0


def _test(found: Alert, parsed: argparse.Namespace) -> int:
    said = found.test()
    print(json_text({"alert": found.name, "test": said}) if parsed.json else said)
    return 0 if said.startswith("delivered") else 1


def _check(parsed: argparse.Namespace) -> int:
    now = fresh()
    transitions = alert_checks.check_alerts(now.keeper)
    sent = deliveries.wait(parsed.wait)
    if parsed.json:
        print(json_text({"transitions": transitions, "sent": sent, "alerts": alerts().to_dicts()}))
    else:
        alerts().print()
    if not sent:
        print(f"tracekeeper: sending takes longer than {parsed.wait:g} s; it will be tried again", file=sys.stderr)
    return 0 if sent else 1
