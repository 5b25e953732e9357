"""How far a run is: items that ended, what went wrong, running means, rate, time left."""

from __future__ import annotations

import time

from tracekeeper.concurrency.progress import Progress
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.types import ScoreStatus

SHOWN = 4
"""Metrics whose running mean is shown."""


class RunProgress(Progress):
    """Counts outcomes and results of items, and shows them (see ``Progress``)."""

    def __init__(self, label: str, total: int) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._bad_scores = 0
        super().__init__(label, total)

    def judged(self, result: ItemResult) -> None:
        """All scores of an item are final."""
        for name, score in result.scores.items():
            if score.status in (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT):
                self._bad_scores += 1
            elif score.status is ScoreStatus.SCORED and isinstance(score.value, int | float):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + score.value, count + 1

    def line(self) -> str:
        """``capitals 37/100, 2 timed_out, exact 0.91, 12.3/s, 5 s left``."""
        took = max(1e-9, time.monotonic() - self._begun)
        parts = [f"{self._label} {self._done:,}/{self._total:,}"]
        parts += [f"{count:,} {status}" for status, count in sorted(self._not_ok.items())]
        if self._bad_scores:
            parts.append(f"{self._bad_scores:,} scores failed")
        parts += [f"{name} {total / count:.2f}" for name, (total, count) in [*self._sums.items()][:SHOWN]]
        if self._done:
            parts.append(f"{self._done / took:,.1f}/s")
            left = (self._total or 0) - self._done
            parts.append(f"{left * took / self._done:,.0f} s left" if left > 0 else f"{took:,.1f} s")
        return ", ".join(parts)
