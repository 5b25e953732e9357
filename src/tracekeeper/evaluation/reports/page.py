"""Results as one HTML page that opens from a file: no server, no network, nothing beside it.

What was captured is data in the page and never markup: it stands in a JSON block whose ``<`` are escaped, and the
script writes it as text. A content security policy that names the page's own script and style by their hashes keeps
anything else from running or loading, whatever an output holds. Without a script the summary is there all the same.
"""

from __future__ import annotations

import base64
import hashlib
import html as escaping
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from tracekeeper.evaluation.accounts import score_of, why
from tracekeeper.evaluation.changes import ItemChange, output_text
from tracekeeper.evaluation.reports import difference
from tracekeeper.evaluation.reports.terminal import facts_of, headline
from tracekeeper.evaluation.result import EarlierCall, ItemResult
from tracekeeper.evaluation.summary import Totals
from tracekeeper.evaluation.tables import inputs_of, metrics_table
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.storable import storable
from tracekeeper.reading.tables import Table
from tracekeeper.render import format_duration
from tracekeeper.types import ItemStatus

if TYPE_CHECKING:
    from tracekeeper.evaluation.comparison import Comparison
    from tracekeeper.evaluation.results import Results


def html(results: Results, baseline: Results | None = None) -> str:
    """The page's text; see ``Results.to_html``."""
    found = results.summary()
    compared = None if baseline is None else results.compare(baseline)
    title = headline(results.facts, found)
    script, style = _asset("page.js"), _asset("page.css")
    allowed = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{style}</style></head><body><main>",
        f'<header><h1>{_text(title)}</h1><button id="theme" type="button" hidden>Dark</button></header>',
        _facts(facts_of(results, found, kept=True)),
        *([f'<p class="soft">note: {_text(results.facts.note)}</p>'] if results.facts.note else []),
        *([] if compared is None else _comparison(compared)),
        *(["<h2>Metrics</h2>", _table(metrics_table(found))] if found.metrics else []),
        _tools(compared is not None),
        "<noscript><p>The calls are shown by a script, which this browser does not run.</p></noscript>",
        f'<script type="application/json" id="data">{_data(results, found, compared)}</script>',
        f"<script>{script}</script>",
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _tools(compared: bool) -> str:
    choice = '<select id="verdict" aria-label="change"><option value="">any change</option></select>'
    change = choice if compared else ""
    return f"""<h2>Calls</h2>
<div class="tools" id="tools" hidden>
<input type="search" id="search" placeholder="Search ids, inputs, outputs, reasons" aria-label="search">
<select id="status" aria-label="status"><option value="">any status</option></select>{change}
<select id="metric" aria-label="metric"><option value="">any metric</option></select>
<select id="condition" aria-label="condition"><option value="">any score</option></select>
<input type="number" id="limit" step="any" aria-label="limit" hidden>
<span id="count" class="soft" role="status"></span>
<button type="button" id="back" aria-label="previous page">‹</button>
<button type="button" id="next" aria-label="next page">›</button>
</div>
<div class="scroll"><table id="items"><thead></thead><tbody></tbody></table></div>"""


def _comparison(found: Comparison) -> list[str]:
    closing = [f"<p>{_text(line)}</p>" for line in difference.closing(found) if line]
    return [f"<h2>{_text(difference.headline(found))}</h2>", _table(difference.metrics_table(found)), *closing]


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{shown}</dl>'


def _table(made: Table[Any]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in made.shown)
    rows = ["".join(f"<td>{_text(cell)}</td>".replace(" %", "\u00a0%") for cell in row) for row in made.cells()]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _data(results: Results, found: Totals, compared: Comparison | None) -> str:
    names = results.metric_names
    changes = {} if compared is None else {change.item_id: change for change in compared.items}
    items = list(results.items)
    if compared is not None:  # regressed ones first, as in the comparison; what was not compared comes last
        order = {change.item_id: place for place, change in enumerate(compared.items)}
        items.sort(key=lambda result: order.get(result.item_id, len(order)))
    document = {
        "compared": compared is not None,
        "metrics": [_metric(results, found, name) for name in names],
        "items": [_item(result, names, changes) for result in items],
    }
    text = json_text(storable(document))
    # `<` would let an output end the block (`</script>`) or open a comment in it; the two separators end lines of old
    # parsers.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _metric(results: Results, found: Totals, name: str) -> dict[str, Any]:
    facts, summed = results.metrics.get(name), found.metrics[name]
    known = facts is not None and facts.low is not None and facts.high is not None
    bounds = [facts.low, facts.high] if known and facts is not None else None
    if bounds is None and summed.kind == "number" and (summed.low or 0) >= 0 and (summed.high or 0) <= 1:
        bounds = [0, 1]
    return {
        "name": name,
        "kind": summed.kind,
        "range": bounds,
        "lower": facts is not None and facts.lower_is_better,
    }


def _item(result: ItemResult, names: Sequence[str], changes: Mapping[str, ItemChange]) -> dict[str, Any]:
    change = changes.get(result.item_id)
    scores = [score_of(result, name) for name in names]
    tokens = None
    if result.input_tokens is not None or result.output_tokens is not None:
        tokens = f"{result.input_tokens or 0:,} tokens in, {result.output_tokens or 0:,} out"
    before = None
    if change is not None:  # the same repeat, else the first
        same = [call for call in change.before if call.repeat == result.repeat]
        before = output_text((same or list(change.before))[0])
    return {
        "id": result.item_id,
        "repeat": result.repeat,
        "status": str(result.status),
        "split": result.split,
        "tags": list(result.tags),
        "input": _readable(inputs_of(result)),
        "expected": None if result.expected is None else _readable(result.expected),
        "output": output_text(result) if result.status is not ItemStatus.PENDING else "",
        "error": "\n".join(why(result)) or None,
        "seconds": result.seconds,
        "called": result.called,
        "earlier": [before_text(one) for one in result.earlier],
        "cost": result.cost,
        "tokens": tokens,
        "trace": result.trace_id or None,
        "scores": [
            {"value": one.value, "status": str(one.status), "reason": one.error or one.reason} for one in scores
        ],
        "verdict": None if change is None else change.verdict,
        "before": before,
        "moves": None
        if change is None
        else [
            {"verdict": move.verdict, "before": move.before, "status": str(move.status_before)}
            for move in (change.scores[name] for name in names)
        ],
    }


def before_text(call: EarlierCall) -> str:
    """What became of a call that was made again, in a line.

    >>> before_text(EarlierCall(status=ItemStatus.ERROR, error="ValueError: no", attempts=2, seconds=0.5))
    'error after 2 attempts, 500ms: ValueError: no'
    """
    attempts = f" after {call.attempts:,} attempts" if call.attempts > 1 else ""
    took = "" if call.seconds is None else f", {format_duration(call.seconds)}"
    why = call.error or call.reason
    return f"{str(call.status).replace('_', ' ')}{attempts}{took}" + (f": {why}" if why else "")


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else json_text(storable(value), indent=2)


def _text(value: str) -> str:
    return escaping.escape(str(storable(value)))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
