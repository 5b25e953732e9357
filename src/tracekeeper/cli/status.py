"""What was journaled and stored, what is pending, running or dropped and why, and where the data is."""

from __future__ import annotations

import argparse
from typing import Any

from tracekeeper.cli.output import add_json, require_data
from tracekeeper.reading import status
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.fresh import dropped_line
from tracekeeper.reading.receipts import counts_text
from tracekeeper.render import format_duration, format_time, render_key_values, render_table

EXAMPLES = """\
tracekeeper status
tracekeeper status --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print it. 1 when the store cannot be read or something is not stored."""
    require_data()
    found = status()
    print(json_text(found, indent=2) if parsed.json else as_text(found))
    return 1 if found["store_error"] or found["note"] else 0


def as_text(found: dict[str, Any]) -> str:
    """The account for people."""
    parts = [render_key_values(_overview(found), width=WHOLE)]
    if found["journals"]:
        parts.append("journals on disk\n" + _journals(found["journals"]))
    if found.get("open"):
        parts.append(f"open scores, the oldest {len(found['open'])}\n" + _open(found["open"]))
    return "\n\n".join(parts)


WHOLE = 10_000
"""Columns of the overview: an error that is cut has lost its end, which says what to do. The terminal wraps it."""


def _overview(found: dict[str, Any]) -> dict[str, Any]:
    pairs: dict[str, Any] = {"directory": found["directory"], "store": found["store"], "project": found["project"]}
    if found["store_error"]:
        pairs["store error"] = found["store_error"]
    stored = found.get("stored")
    if stored is not None:
        pairs["records"] = stored["records"]
        pairs["spans"] = f"{stored['spans']:,} stored, {stored['running']:,} of them running"
        pairs["scores"] = counts_text(stored["scores"])
        if stored["oldest_open"] is not None:
            pairs["oldest open score"] = f"born {format_time(stored['oldest_open'] / 1e9)}"
        earlier = found.get("earlier_journals", {})
        pairs["earlier journals"] = ", ".join(f"{n:,} {state}" for state, n in sorted(earlier.items())) or "none"
        pairs["damaged frames"] = stored["damaged"]
        pairs["refused scores"] = stored["refused"]
    drops = {**(stored or {}).get("dropped", {}), **found["dropped"]}
    pairs["dropped"] = (dropped_line(drops) or ["dropped: none"])[0].removeprefix("dropped: ")
    if found["set_aside"]:
        pairs["set aside (damaged)"] = found["set_aside"]
    if found["note"]:
        pairs["not stored yet"] = found["note"]
    if found["shipping"]["trouble"]:
        pairs["shipping"] = found["shipping"]["trouble"]
    return pairs


def _journals(journals: list[dict[str, Any]]) -> str:
    columns = ("pid", "host", "state", "began", "stored", "pending", "cursor", "size", "remark")
    rows = [
        (
            str(journal.get("pid", "unknown")),
            journal.get("host"),
            journal["state"],
            format_time(journal["started"] / 1e9) if "started" in journal else "unknown",
            journal.get("spans_stored", "unknown"),
            "unknown" if journal.get("pending") is None else journal["pending"],
            f"batch {journal.get('cursor_version', 0)}",
            f"{journal.get('bytes', 0) / 1e6:.1f} MB",
            _remark(journal),
        )
        for journal in journals
    ]
    return render_table(columns, rows)


def _remark(journal: dict[str, Any]) -> str:
    reason = [journal["reason"]] if journal.get("reason") else []
    return "; ".join([*reason, *dropped_line(journal.get("dropped") or {})]) or "none"


def _open(scores: list[dict[str, Any]]) -> str:
    columns = ("score", "status", "born", "running for", "process", "record")
    rows = [
        (
            score["name"],
            score["status"],
            f"{format_duration(score['age'])} ago",
            format_duration(score["running_for"]),
            f"{score['pid']} on {score['host']}" if score["pid"] else "unknown",
            f"{score['trace_id']}:{score['span_id']}" if score["trace_id"] else "session",
        )
        for score in scores
    ]
    return render_table(columns, rows)
