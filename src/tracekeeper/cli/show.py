"""Show the records of a trace: what was asked and answered, the spans below, every score with its reason and attempts.

Of the trace of an evaluation (a score names it): what was judged, and each span with its input and output, among them
the judge's prompt and answer.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from tracekeeper.cli.output import add_json, require_data
from tracekeeper.reading import records
from tracekeeper.reading.columns import json_text, text_of
from tracekeeper.reading.fresh import fresh
from tracekeeper.reading.spans import SpanLine, SpanSeen, spans_of, spans_outside
from tracekeeper.render import format_duration
from tracekeeper.scoring.describe import describe_history
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.stored import load_history
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, TracekeeperError

EXAMPLES = """\
tracekeeper show 4bf92f3577b34da6a3ce929d0e0e4736
"""

_ID = re.compile(r"([0-9a-f]{32})(?::([0-9a-f]{16}))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("trace", metavar="TRACE_ID", help="of the trace, or trace_id:span_id of one record")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print them. 1 when there is no such record."""
    asked = _ID.fullmatch(parsed.trace.strip().lower())
    if asked is None:
        raise TracekeeperError(
            f"{parsed.trace!r} is no trace id: expected 32 hexadecimal digits, "
            "as `tracekeeper records --json` shows them"
        )
    require_data()
    found = [r for r in records(f'trace = "{asked[1]}"', limit=None) if asked[2] in (None, r.span_id)]
    now = fresh()
    if not found:
        outside = [] if asked[2] else spans_outside(now, asked[1])
        if not outside:
            raise TracekeeperError(
                f"no record {parsed.trace} in {runtime.keeper().store_url}; `tracekeeper records` lists what is"
            )
        print(json_text([seen.data() for seen in outside], indent=2) if parsed.json else evaluation_text(outside))
        return 0
    shown = [
        (record, spans_of(now, record), load_history(now.keeper, record.trace_id, record.span_id))
        for record in reversed(found)
    ]
    if parsed.json:
        print(json_text([as_data(*each) for each in shown], indent=2))
    else:
        print("\n\n".join(as_text(*each) for each in shown))
    return 0


def as_text(record: Record, spans: list[SpanLine], history: Mapping[str, list[Score]]) -> str:
    """A record for people."""
    lines = [record.describe()]
    attempts = describe_history(history)
    if attempts:
        lines += ["", attempts]
    if len(spans) > 1:
        lines += ["", "spans"]
        lines += [f"{'  ' * line.depth}{_span_text(line.span)}" for line in spans]
    return "\n".join(lines)


def evaluation_text(spans: list[SpanSeen]) -> str:
    """The trace of an evaluation for people: each span with what went in and what came out."""
    return "\n\n".join(
        "\n".join(
            [
                f"{'  ' * seen.depth}{_span_text(seen.span)}",
                *(f"{'  ' * (seen.depth + 1)}{name}: {text_of(value)}" for name, value in seen.said().items()),
            ]
        )
        for seen in spans
    )


def as_data(record: Record, spans: list[SpanLine], history: Mapping[str, list[Score]]) -> dict[str, object]:
    """A record for programs."""
    return {
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "app": record.app,
        "version": record.version,
        "name": record.name,
        "status": record.status,
        "started": record.started,
        "latency": record.latency,
        "input": record.input,
        "output": record.output,
        "context": record.context,
        "expected": record.expected,
        "error": record.error,
        "traceback": record.traceback,
        "session_id": record.session_id,
        "user_id": record.user_id,
        "tags": record.tags,
        "metadata": record.metadata,
        "scores": record.scores,
        "history": history,
        "spans": [
            {
                "span_id": span.span_id,
                "parent_id": span.parent_id,
                "name": span.name,
                "kind": span.kind,
                "status": span.status,
                "latency": None if span.duration is None else span.duration / 1e9,
                "model": span.model,
                "input_tokens": span.input_tokens,
                "output_tokens": span.output_tokens,
                "cost": span.cost,
            }
            for _, span in spans
        ],
    }


def _span_text(span: object) -> str:
    duration, model = getattr(span, "duration", None), getattr(span, "model", None)
    latency = text_of(None) if duration is None else format_duration(duration / 1e9)
    return " ".join(str(part) for part in (span.name, span.kind, span.status, latency, model) if part)  # type: ignore[attr-defined]
