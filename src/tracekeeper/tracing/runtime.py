"""The current keeper, the spans that are open, and what survives a fork.

Everything of this process that belongs to no single span lives here. Other rooms register: ``at_exit`` callbacks run in
order when the program ends, ``after_fork_in_child`` callbacks when it is forked.

Invariants
----------
- ``keeper()`` costs a few dozen nanoseconds: one comparison of the base settings' identity.
- A keeper stays for the life of the process: after ``configure(store=…)`` the old one goes on shipping what it has.
- In a forked child the same keeper objects are as new: no journal, no thread, no connection; the parent's files stay
  the parent's.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tracekeeper.configuration import environment
from tracekeeper.configuration.settings import Settings, base_settings, resets
from tracekeeper.tracing import exit as leaving
from tracekeeper.tracing.exit import at_exit
from tracekeeper.tracing.keeper import Halt, Keeper
from tracekeeper.types import Receipt, SpanStatus

__all__ = [
    "Keeper",
    "OpenSpan",
    "after_fork_in_child",
    "at_exit",
    "keeper",
    "keepers",
    "open_spans",
    "shutdown",
    "use",
]

log = logging.getLogger("tracekeeper")

FORK_PATIENCE = 2.0
"""Seconds for which a fork waits until the shipper has let go of the database."""


NO_HALT = Halt(paused=False, barred=False, quiet=False)


class OpenSpan(Protocol):
    """A span that has begun and not ended."""

    def sweep(self, status: str) -> None:
        """End it now, because the program ends; keeps what is there so far. Must not block."""


open_spans: dict[bytes, OpenSpan] = {}
"""Every span of this process that is open, by span id; strong, so that exit finds what nothing else holds any more.
Who ends a span takes it out with ``pop`` (of several that try, one gets it)."""

_keepers: dict[tuple[Path, str, str], Keeper] = {}
_current: tuple[Settings | None, Keeper | None] = (None, None)
_found: tuple[int, Path] | None = None
_generation = resets()
_in_child: list[Callable[[], None]] = []
_halts: dict[int, list[tuple[Keeper, Halt]]] = {}
_receipts: dict[Keeper, Receipt] = {}


def keeper() -> Keeper:
    """The keeper of the base settings. Creates no file: its journal is opened by the first write."""
    current = _current
    if current[0] is base_settings():
        return current[1]  # type: ignore[return-value]
    return _switch()


def keepers() -> list[Keeper]:
    """All keepers of this process: one for each destination that was ever configured and used."""
    return list(_keepers.values())


def use(chosen: Keeper) -> None:
    """Have this keeper where settings lead to its directory, store and project (see ``elsewhere``)."""
    global _current
    _keepers[chosen.directory, chosen.store_url, chosen.project] = chosen
    _current = (None, None)


def discard(unwanted: Keeper, *, timeout: float) -> None:
    """Close a keeper and forget it, with its connections. For tests: a program keeps what it has used."""
    global _current
    unwanted.close(timeout)
    for key, each in list(_keepers.items()):
        if each is unwanted:
            del _keepers[key]
    if _current[1] is unwanted:
        _current = (None, None)


def after_fork_in_child(callback: Callable[[], None]) -> None:
    """Have ``callback()`` called in every forked child, before it runs anything else; it must not block."""
    _in_child.append(callback)


def _switch() -> Keeper:
    global _current, _generation
    base = base_settings()
    if _generation != resets():
        # A new beginning (in tests): what earlier settings led to is forgotten, unless it still has something to store.
        _generation = resets()
        for key, each in list(_keepers.items()):
            if each.journal is None:
                _keepers.pop(key, None)
    made = Keeper(base, base.directory or _directory())
    # setdefault is atomic: of two threads here at once both get the same one.
    found = _keepers.setdefault((made.directory, made.store_url, made.project), made)
    found.limit, found.sync, found.enabled, found.otlp = made.limit, made.sync, made.enabled, made.otlp
    _current = (base, found)
    if base.sigterm:
        leaving.handle_sigterm(_leave, _ship_quickly)
    return found


def _directory() -> Path:
    """The data directory that nobody named: found once, so that a later ``chdir`` does not scatter the data."""
    global _found
    if _found is None or _found[0] != resets():
        _found = (resets(), environment.find_directory())
    return _found[1]


def _before_fork() -> None:
    deadline = time.monotonic() + FORK_PATIENCE
    halts: list[tuple[Keeper, Halt]] = []
    _halts[_thread.get_ident()] = halts
    for each in keepers():
        try:
            halts.append((each, each.before_fork(max(0.0, deadline - time.monotonic()))))
        except Exception:  # the fork happens whatever fails here
            log.exception("the database could not be let go of before a fork")


def _after_in_parent() -> None:
    for each, halt in _halts.pop(_thread.get_ident(), ()):
        each.after_fork_in_parent(halt)


def _after_in_child() -> None:
    halts = dict(_halts.pop(_thread.get_ident(), ()))
    _halts.clear()  # other threads' forks do not concern this process
    open_spans.clear()  # the parent's, which ends them
    for each in keepers():
        each.after_fork_in_child(halts.get(each, NO_HALT))
    for callback in _in_child:
        try:
            callback()
        except Exception:  # one room's failure must not keep the others from starting anew
            log.exception("a callback after a fork failed")


def shutdown(timeout: float | None = None) -> Receipt:
    """Let scores finish, end what is open, store everything and remove the journals; tracing may begin anew after it.

    Parameters
    ----------
    timeout:
        Seconds for the scores; ``None``: the setting ``exit_timeout``. Storing gets at most two more.

    Returns
    -------
    Receipt
        Of all keepers of this process together.
    """
    began = time.monotonic()
    _receipts.clear()
    leaving.leave(base_settings().exit_timeout if timeout is None else timeout)
    return _sum(list(_receipts.values()), time.monotonic() - began)


def _sweep(deadline: float) -> None:
    """End every open span (a generator nobody closed, a call in a daemon thread) with what it has so far."""
    for span_id in list(open_spans):
        span = open_spans.get(span_id)
        if span is None:
            continue
        try:
            span.sweep(SpanStatus.INTERRUPTED)
        except Exception:  # the other spans must be ended too
            log.exception("an open span could not be ended")


def _ship(deadline: float) -> None:
    for each in keepers():
        if each.used:
            _receipts[each] = each.receipt(max(0.0, deadline - time.monotonic()))


def _close(deadline: float) -> None:
    for each in keepers():
        receipt = _receipts.get(each)
        if receipt is None or receipt.complete:
            each.close(max(0.0, deadline - time.monotonic()))


def _sum(receipts: list[Receipt], seconds: float) -> Receipt:
    dropped: dict[str, int] = {}
    scores: dict[str, int] = {}
    for receipt in receipts:
        for total, part in ((dropped, receipt.dropped), (scores, receipt.scores)):
            for key, count in part.items():
                total[key] = total.get(key, 0) + count
    return Receipt(
        journaled=sum(each.journaled for each in receipts),
        stored=sum(each.stored for each in receipts),
        pending=sum(each.pending for each in receipts),
        dropped=dropped,
        scores=scores,
        complete=all(each.complete for each in receipts),
        copies=next((each.copies for each in receipts if each.copies is not None), None),
        error=next((each.error for each in receipts if each.error), None),
        seconds=seconds,
    )


def _leave() -> None:
    """What ``atexit`` runs: ``shutdown``, and one line if something is left."""
    if not any(each.used for each in keepers()):
        return
    receipt = shutdown()
    if receipt.complete:
        return
    places = ", ".join(str(each.directory) for each, account in _receipts.items() if not account.complete)
    reason = receipt.error or "not stored in time"
    if receipt.pending:
        spans = "1 span is" if receipt.pending == 1 else f"{receipt.pending:,} spans are"
        line = f"{spans} still only in the journal in {places} ({reason}); the next program that uses it stores them"
        line += ", or `tracekeeper status` does"
    elif not receipt.dropped:  # only its last account is missing; what is left lies in the journal
        line = f"it is not known whether everything was stored in {places} ({reason}); what was not is in the journal, "
        line += "and the next program that uses it stores that"
    else:
        line = f"{sum(receipt.dropped.values()):,} frames could not be kept in {places} ({reason})"
    with contextlib.suppress(Exception):  # stderr may be closed, gone by now, or an object of the program's own
        sys.stderr.write(f"tracekeeper: {line}\n")


def _ship_quickly() -> None:
    deadline = time.monotonic() + leaving.GRACE
    for each in keepers():
        if each.used:
            each.ship(max(0.0, deadline - time.monotonic()))


at_exit(_sweep, order=leaving.SWEEP)
at_exit(_ship, order=leaving.SHIP)
at_exit(_close, order=leaving.CLOSE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
atexit.register(_leave)
