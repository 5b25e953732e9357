"""The sections of ``tracekeeper status`` as text: each takes the whole account and gives what it has to say, if any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracekeeper.reading.fresh import dropped_line
from tracekeeper.reading.receipts import copies_text, counts_text
from tracekeeper.render import format_cost, format_duration, format_time, plural, render_table, show
from tracekeeper.scoring.alerts.checks import amount
from tracekeeper.types import Copies

Found = dict[str, Any]

SILENT = 5.0
"""Seconds after which a process with something open, which should say so every second, is remarked on."""


def overview(found: Found) -> dict[str, Any]:
    """Where the data is, how much, and what is in the way."""
    pairs: dict[str, Any] = {"directory": found["directory"], "store": found["store"], "project": found["project"]}
    if found["store_error"]:
        pairs["store error"] = f"the store cannot be read now: {found['store_error']}"
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
    if "leases" in found:
        held, lapsed = (sum(each[name] for each in found["leases"].values()) for name in ("held", "lapsed"))
        pairs["leases"] = f"{held:,} held, {lapsed:,} of them lapsed"
    drops = {**(stored or {}).get("dropped", {}), **found["dropped"]}
    pairs["dropped"] = (dropped_line(drops) or ["dropped: none"])[0].removeprefix("dropped: ")
    if found.get("copies"):
        pairs["copies"] = [copies_text(Copies(**each)) for each in found["copies"]]
    if found["set_aside"]:
        pairs["set aside (damaged)"] = found["set_aside"]
    if found["note"]:
        pairs["not stored yet"] = found["note"]
    if found["shipping"]["trouble"]:
        pairs["shipping"] = found["shipping"]["trouble"]
    return pairs


def processes(found: Found) -> str:
    """Who is at work, and how much each has before it."""
    columns = ("kind", "pid", "host", "since", "waiting", "oldest", "running", "held up", "late", "errors", "claims")
    rows, remarks = [], []
    for each in found.get("processes") or ():
        says = each.get("says")
        figures: tuple[Any, ...] = ("none", "none", "none", "none", "none", "none")
        if says is not None:
            figures = (
                says["waiting"],
                format_duration(says["oldest_waiting"]),
                says["running_count"],
                _held_up(says),
                says["late_results"],
                says["errors"],
            )
        held = each["leases"].get("held") or (says or {}).get("claims", {}).get("held", 0)
        since = format_time(each["started"])
        rows.append((each["kind"], str(each["pid"]), each["host"], since, *figures, held))
        remark = _remark_on(each)
        if remark:  # below the table, where nothing of it is cut
            remarks.append(f"{each['kind']} {each['pid']}: {remark}")
    return "\n".join([render_table(columns, rows), *remarks]) if rows else ""


def _held_up(says: Found) -> str:
    parts = [
        plural(says[name], noun, nouns)
        for name, noun, nouns in (
            ("abandoned_threads", "thread", "threads"),
            ("abandoned_loops", "loop", "loops"),
            ("ignoring_cancellation", "coroutine", "coroutines"),
        )
        if says[name]
    ]
    return ", ".join(parts) or "0"


def _remark_on(process: Found) -> str:
    """What a person should know of a process."""
    says, remarks = process.get("says"), []
    if says is None:
        # A process without an engine, or on another machine: its worker's row says what there is to say.
        worker = process.get("worker") or {}
        if "seen" in process:
            remarks.append(f"seen {format_duration(process['seen'])} ago")
        if worker.get("trouble"):
            remarks.append(worker["trouble"])
        return "; ".join(remarks)
    if says["silent"] > SILENT and (says["running_count"] or says["waiting"]):
        remarks.append(f"silent for {format_duration(says['silent'])}: stopped, or a call holds the interpreter")
    callbacks = says.get("callbacks") or {}
    for name, said in (("failed", "failed"), ("timed_out", "timed out"), ("dropped", "dropped")):
        if callbacks.get(name):
            remarks.append(f"{plural(callbacks[name], 'callback')} {said}")
    trouble = (says.get("claims") or {}).get("trouble")
    if trouble:
        remarks.append(f"cannot claim: {trouble}")
    remarks += dropped_line(says["dropped"])
    return "; ".join(remarks)


def running(found: Found) -> str:
    """What runs: since when, and where it is."""
    columns = ("metric", "for", "of", "attempt", "process", "where", "on")
    rows = [
        (
            call["metric"],
            format_duration(call["age"] + says["silent"]),
            "no deadline" if call["timeout"] is None else format_duration(call["timeout"]),
            call["attempt"],
            str(says["pid"]),
            _where(call),
            _target(call),
        )
        for says, call in _calls(found, "running")
    ]
    hidden = sum(says["running_count"] - len(says["running"]) for says in _says(found))
    more = [f"… and {plural(hidden, 'call')} more"] if hidden else []
    return "\n".join([*([render_table(columns, rows)] if rows else []), *more])


def _where(call: Found) -> str:
    if call["where"]:
        return str(call["where"])
    return "in a process of its own" if call.get("isolated") else "just begun"


def _target(call: Found) -> str:
    if call["target"] == "session":
        return f"session {call['session_id']}"
    return f"{call['trace_id']}:{call['span_id']}"


def held_up(found: Found) -> str:
    """Calls whose score was settled (they timed out) and which hold their thread or loop all the same."""
    rows = [
        (
            call["name"],
            format_duration(call["age"] + says["silent"]),
            call["where"],
            str(says["pid"]),
            call["telling"] or "unknown",
        )
        for says, call in _calls(found, "held_up")
    ]
    return render_table(("call", "for", "holds a", "process", "where"), rows) if rows else ""


def stacks(found: Found) -> str:
    """Every call that runs or is held up, with its whole stack."""
    blocks = []
    for kind in ("running", "held_up"):
        for says, call in _calls(found, kind):
            if call["stack"]:
                head = f"{call.get('metric') or call['name']}, process {says['pid']}, {format_duration(call['age'])}"
                blocks.append("\n".join([head, *(f"  {line}" for line in call["stack"])]))
    return "\n".join(blocks)


def _says(found: Found) -> Iterator[Found]:
    for process in found.get("processes") or ():
        if process.get("says") is not None:
            yield process["says"]


def _calls(found: Found, kind: str) -> list[tuple[Found, Found]]:
    calls = [(says, call) for says in _says(found) for call in says[kind]]
    return sorted(calls, key=lambda each: -each[1]["age"])


def waiting(found: Found) -> str:
    """Pending scores that are in the store, by metric, and who can compute them."""
    rows, needs = [], []
    for each in found.get("waiting") or ():
        rows.append(
            (each["name"], each["version"] or "none", each["count"], format_duration(each["oldest"]), _by(each))
        )
        if each["count"] > each["held"] and not each["by"]:  # below the table, where nothing of it is cut
            needs.append(f"{each['name']}: {_needs(each)}")
    columns = ("score", "version", "pending", "oldest", "computed by")
    return "\n".join([render_table(columns, rows), *needs]) if rows else ""


def _by(each: Found) -> str:
    parts = []
    if each["held"]:
        parts.append(f"{each['held']:,} by whoever holds them")
    if each["count"] > each["held"]:
        parts.append(", ".join(each["by"]) or "nobody alive")
    return "; ".join(parts) or "nobody yet"


def _needs(each: Found) -> str:
    """What it takes to compute it."""
    path = each["import_path"]
    if each["why_not"]:
        return "; ".join(each["why_not"])
    if not path:
        return "it needs the process that made it"
    needs = f", which needs {', '.join(each['requires'])}" if each["requires"] else ""
    module = str(path).partition(":")[0]
    return f"it needs {path}{needs}; start `tracekeeper worker --import {module}`"


def rules(found: Found) -> str:
    """The online rules and what is left of their budgets today."""
    rows = [
        (
            each["name"],
            each["target"],
            "on" if each["enabled"] else "paused",
            each["matched"],
            each["judged"],
            each["not_sampled"],
            each["over_budget"],
            _of(each["evaluations_today"], each["daily_evaluations"], show),
            _of(each["cost_today"], each["daily_cost"], format_cost),
            each["error"] or "none",
        )
        for each in found.get("rules") or ()
    ]
    counts = ("matched", "judged", "not sampled", "over budget")
    columns = ("rule", "target", "state", *counts, "today", "cost today", "remark")
    return render_table(columns, rows) if rows else ""


def _of(spent: Any, budget: Any, text: Any) -> str:
    return text(spent) if budget is None else f"{text(spent)} of {text(budget)}"


def alerts(found: Found) -> str:
    """The alerts, those that fire first."""
    order = {"firing": 0, "unknown": 1, "ok": 2}
    every = sorted(found.get("alerts") or (), key=lambda each: (order.get(each["state"], 3), each["name"]))
    rows = [
        (
            each["name"],
            each["state"] if each["enabled"] else f"paused ({each['state']})",
            "none" if each["value"] is None else amount(each["measure"], each["value"]),
            each["n"],
            format_time(each["since"]),
            each["threshold"],
        )
        for each in every
    ]
    remarks = [
        f"{each['name']}: {remark}"
        for each in every
        for remark in (each["error"], each["delivery"])
        if remark not in (None, "no webhook")
    ]
    columns = ("alert", "state", "value", "n", "since", "threshold")
    return "\n".join([render_table(columns, rows), *remarks]) if rows else ""


def journals(found: Found) -> str:
    """The journals on disk, and what of each is not stored."""
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
        for journal in found["journals"]
    ]
    return render_table(columns, rows) if rows else ""


def _remark(journal: Found) -> str:
    reason = [journal["reason"]] if journal.get("reason") else []
    return "; ".join([*reason, *dropped_line(journal.get("dropped") or {})]) or "none"


def open_scores(found: Found) -> str:
    """The oldest scores that are pending or running."""
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
        for score in found.get("open") or ()
    ]
    return render_table(columns, rows) if rows else ""
