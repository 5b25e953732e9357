"""A process that computes what waits in the store: ``tracekeeper worker`` as an object."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.worker.abilities import WorkerAbilities
from tracekeeper.scoring.worker.claimer import WORKER, Claimer
from tracekeeper.store.errors import StoreLocked
from tracekeeper.types import ScoreStatus, StoreError, faults

if TYPE_CHECKING:
    from tracekeeper.scoring.worker.beat import Beat
    from tracekeeper.scoring.worker.claimed import OnScore
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

SHIP_WITHIN = 3.0
"""Seconds for storing, at the start, what dead processes left."""
LOOK_WITHIN = 0.2
"""Seconds between two looks of ``settle_all`` at whether it was interrupted."""


class Worker:
    """Claims and computes scores until it is stopped. It uses the process's keeper and its engine.

    Parameters
    ----------
    keeper:
        Whose store has the scores; its directory holds this process's journal.
    modules:
        Modules, imported already, whose metrics may be run, those below them included.
    have:
        What else is here of that which metrics require, beyond installed packages.
    on_score:
        Called with the source (what was judged) and each final score, from threads of the engine.
    on_cannot:
        Called once for each metric that waits and cannot be computed here: score name, version, reason.
    """

    def __init__(
        self,
        keeper: Keeper,
        modules: Sequence[str] = (),
        *,
        have: Collection[str] = (),
        on_score: OnScore | None = None,
        on_cannot: Callable[[str, str, str], object] | None = None,
    ) -> None:
        self.keeper = keeper
        self.abilities = WorkerAbilities(modules, have)
        self.engine = engine_for(keeper)
        self.claimer = Claimer(self.engine, WORKER, self.abilities, on_score=on_score)
        self.claimer.chores.on_cannot = on_cannot
        self.abilities.changed = self._changed

    def start(self) -> None:
        """Begin to claim.

        Raises
        ------
        StoreError
            The store or the journal cannot be used. (A store that is locked at present is waited for.)
        """
        try:
            self.keeper.store()
        except StoreLocked as error:
            log.warning("tracekeeper: the store is locked at present, the worker waits for it (%s)", error)
        if self.keeper.begin() is None:
            raise StoreError(f"no journal can be opened in {self.keeper.directory}, which is needed to claim scores")
        # Also starts the shipper, which goes on to adopt what processes leave that die later.
        self.keeper.ship(SHIP_WITHIN)
        self.engine.claimer.stop(time.monotonic() + SHIP_WITHIN)
        self.engine.claimer = self.claimer
        self.claimer.ensure()

    def settle_all(self) -> None:
        """Wait until nothing is left that can be claimed and computed here, online rules applied.

        What a lost owner held waits for a while before it can be claimed again; that is waited for. What other
        processes are about to compute is not.
        """
        claimer = self.claimer
        while True:
            for beat in (claimer.chores.beat, claimer.beats[0]):
                _a_turn_of(beat)
            loading = self.abilities.loading  # before the look, which asks what can be computed
            more = self._more_to_come()
            # After that look: what is not free any more because a turn under way claimed it is held when this one ends.
            _a_turn_of(claimer.beats[0])
            busy = loading or self.abilities.loading or claimer.leases.held or claimer.chores.more
            if claimer.idle_rounds and not busy and not more:
                _a_turn_of(claimer.chores.beat)  # says what it cannot compute
                return
            self.engine.wait(LOOK_WITHIN)

    def _changed(self) -> None:
        self.claimer.wake()
        if not self.abilities.loading:
            self.claimer.chores.say_again()

    def _more_to_come(self) -> bool:
        """Whether scores that could be computed here can only be claimed later."""
        try:
            faults.point("worker.look")
            rows = self.keeper.store().waiting()
            faults.point("worker.looked")
        except StoreError:  # asked again in a moment
            return True
        free = [row for row in rows if row.count > row.held]
        return any((row.name, row.metric_version) in self.abilities.can for row in free)

    def counts(self) -> dict[str, int]:
        """Scores: claimed, by final status, released and lost."""
        counts: Counter[str] = self.claimer.leases.counts.copy()
        settled = {str(status): self.engine.settled[status] for status in ScoreStatus if self.engine.settled[status]}
        return {"claimed": counts["claimed"], **settled, "released": counts["released"], "lost": counts["lost"]}

    def status(self) -> dict[str, Any]:
        """What the engine is doing."""
        return self.engine.status()


def _a_turn_of(beat: Beat) -> None:
    """Wait for a turn that begins now. In short waits: one without end would keep a signal's handler from running."""
    asked = beat.ask()
    while not asked.wait(LOOK_WITHIN):
        pass
