"""Judge stored records by metrics. A record that a metric has judged already is left alone, unless --again.

A metric is one that comes with Tracekeeper, by its name, or one of your own as module:name (looked for in the working
directory too). Running this command imports and runs that module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from tracekeeper.cli.metrics_given import find_metrics
from tracekeeper.cli.output import add_json, count, require_data, require_tracing, seconds
from tracekeeper.configuration import configure
from tracekeeper.reading import flush
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.fresh import checked, fresh
from tracekeeper.reading.progress import Progress
from tracekeeper.reading.receipts import counts_text, receipt_text
from tracekeeper.reading.rescoring import rescore
from tracekeeper.types import ScoreStatus

EXAMPLES = """\
tracekeeper score --metric OverlapGroundedness --filter 'app = "rag"'
tracekeeper score --metric my_app.metrics:cites_source --metric Length --param Length.unit=words
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--metric", metavar="NAME", action="append", required=True, help="a built-in metric or module:name (repeatable)"
    )
    parser.add_argument("--filter", metavar="FILTER", help="which records (default: all)")
    parser.add_argument(
        "--param",
        metavar="K=V",
        action="append",
        default=[],
        help="a parameter; METRIC.K=V for one of several; V is JSON or text (repeatable)",
    )
    parser.add_argument("--concurrency", metavar="N", type=count, help="metrics that run at the same time")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="of one attempt (default: the metric's)")
    parser.add_argument("--again", action="store_true", help="also records that these metrics have judged before")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Judge. 1 when a score failed, timed out or was cancelled."""
    metrics = find_metrics(parsed.metric, parsed.param, parsed.timeout)
    checked(parsed.filter)
    require_data()
    require_tracing()
    if parsed.concurrency is not None:
        configure(scoring_concurrency=parsed.concurrency)
    now = fresh()
    records = sum(row.records for row in now.store.leaderboard(parsed.filter))
    total = records * sum(len(metric.names) for metric in metrics)
    with Progress("scores", total=total) as progress:

        def on_progress(done: int, counts: Mapping[str, int]) -> None:
            progress.update(done, note=_summary(counts))

        result = rescore(parsed.filter, metrics, again=parsed.again, on_progress=on_progress)
    receipt = flush(timeout=30)
    counts, before, elsewhere = result.scores, result.before, result.elsewhere
    if parsed.json:
        found = {"records": result.records, "scores": counts, "judged_before": before, "judged_elsewhere": elsewhere}
        print(json_text({**found, "receipt": receipt}))
    else:
        print(
            f"scores: {counts_text(counts)}"
            + (f"; {before:,} {'was' if before == 1 else 'were'} judged before (--again judges anew)" if before else "")
            + (f"; computed by other processes meanwhile: {counts_text(elsewhere)}" if elsewhere else "")
        )
        print(receipt_text(receipt))
        if now.note:
            print(f"note: {now.note}", file=sys.stderr)
    bad = sum(counts.get(status, 0) for status in (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED))
    return 1 if bad or not receipt.complete else 0


def _summary(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()) if status != ScoreStatus.SCORED)
