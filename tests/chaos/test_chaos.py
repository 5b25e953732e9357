"""Chaos in its short form: nothing is lost, invented, swapped or left open, whatever is done to the processes."""

from __future__ import annotations

import signal

import pytest
from tests.chaos.report import chaos

SEED = 2026
SECONDS = 12.0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control here")
@pytest.mark.timeout(240)
def test_after_chaos_every_record_has_every_score_once_with_a_state_and_its_own_value() -> None:
    result = chaos(SEED, SECONDS, settle=90)
    assert not result.violations, result.text()
    counts = result.check.counts
    assert counts["calls that returned"] > 30
    assert counts["scores as they must be"] > 100
    assert result.conductor.done.total() >= 5
    result.forget()
