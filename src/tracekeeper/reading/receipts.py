"""``tk.flush`` and ``tk.shutdown``: a receipt of what was written, and what became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from tracekeeper.reading.fresh import dropped_line, seconds
from tracekeeper.tracing import runtime
from tracekeeper.types import Copies, Receipt, ScoreStatus


def flush(timeout: float = 5.0) -> Receipt:
    """Store everything that this process journaled before the call, and say what became of it.

    Never raises for what the store does: where it is locked or gone the receipt says so, and what is pending stays in
    the journal, on disk.

    Parameters
    ----------
    timeout:
        Seconds it may take at most.

    Raises
    ------
    ConfigurationError
        A timeout that is no number of seconds.

    Example
    -------
    >>> import tracekeeper as tk
    >>> _ = tk.trace(len)("abc")
    >>> receipt = tk.flush()
    >>> receipt.journaled == receipt.stored + receipt.pending, receipt.complete
    (True, True)
    """
    deadline = time.monotonic() + seconds(timeout)
    keepers = runtime.keepers() or [runtime.keeper()]
    return merged([keeper.receipt(max(0.0, deadline - time.monotonic())) for keeper in keepers])


def shutdown(timeout: float | None = None) -> Receipt:
    """Do now what a normal exit does: give scores their time, store everything, close the journals.

    A process that traces afterwards simply begins a new journal.

    Parameters
    ----------
    timeout:
        Seconds it may take at most; default: ``exit_timeout``.
    """
    return runtime.shutdown(None if timeout is None else seconds(timeout))


def merged(receipts: Iterable[Receipt]) -> Receipt:
    """Several destinations' receipts as one.

    >>> both = merged([Receipt(journaled=2, stored=2), Receipt(journaled=1, pending=1, complete=False, error="locked")])
    >>> both.journaled, both.stored, both.pending, both.complete, both.error
    (3, 2, 1, False, 'locked')
    """
    receipts = list(receipts)
    if len(receipts) == 1:
        return receipts[0]
    errors = dict.fromkeys(one.error for one in receipts if one.error)
    return Receipt(
        journaled=sum(one.journaled for one in receipts),
        stored=sum(one.stored for one in receipts),
        pending=sum(one.pending for one in receipts),
        dropped=_summed(one.dropped for one in receipts),
        scores=_summed(one.scores for one in receipts),
        complete=all(one.complete for one in receipts),
        copies=next((one.copies for one in receipts if one.copies is not None), None),
        error="; ".join(errors) or None,
        seconds=sum(one.seconds for one in receipts),
    )


def receipt_text(receipt: Receipt) -> str:
    """A receipt for people.

    >>> print(receipt_text(Receipt(journaled=3, stored=3, scores={"scored": 2, "failed": 1})))
    spans: 3 journaled = 3 stored + 0 pending
    scores: 3 = 2 scored + 1 failed
    dropped: none
    """
    lines = [
        f"spans: {receipt.journaled:,} journaled = {receipt.stored:,} stored + {receipt.pending:,} pending",
        f"scores: {counts_text(receipt.scores)}",
        *(dropped_line(receipt.dropped) or ["dropped: none"]),
    ]
    if receipt.copies is not None:
        lines.append(f"copies: {copies_text(receipt.copies)}")
    if receipt.error:
        lines.append(f"not complete: {receipt.error}; what is pending is in the journal on disk")
    return "\n".join(lines)


def copies_text(copies: Copies) -> str:
    """What became of copies, in a line.

    >>> print(copies_text(Copies(endpoint="http://c:4318/v1/traces", copied=3, pending=1, dropped={"too late": 2})))
    to http://c:4318/v1/traces: 3 copied, 1 pending, 2 dropped (2: too late)
    """
    line = f"to {copies.endpoint}: {copies.copied:,} copied, {copies.pending:,} pending"
    if copies.dropped:
        reasons = "; ".join(f"{count:,}: {reason}" for reason, count in copies.dropped.items())
        line += f", {sum(copies.dropped.values()):,} dropped ({reasons})"
    return line if copies.error is None else f"{line}; it takes nothing at present: {copies.error}"


def counts_text(counts: dict[str, int]) -> str:
    """How many scores there are, by status, in the order in which a score goes through them at its end.

    >>> counts_text({"failed": 1, "scored": 4}), counts_text({})
    ('5 = 4 scored + 1 failed', 'none')
    """
    total = sum(counts.values())
    known = [str(status) for status in ACCOUNT_ORDER]
    order = [*known, *sorted(set(counts) - set(known))]
    parts = " + ".join(f"{counts[status]:,} {status}" for status in order if counts.get(status))
    return f"{total:,} = {parts}" if total else "none"


ACCOUNT_ORDER = (
    ScoreStatus.SCORED,
    ScoreStatus.FAILED,
    ScoreStatus.TIMED_OUT,
    ScoreStatus.CANCELLED,
    ScoreStatus.SKIPPED,
    ScoreStatus.PENDING,
    ScoreStatus.RUNNING,
)
"""n = scored + failed + timed_out + cancelled + skipped + pending + running: every account is given in this order."""


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
