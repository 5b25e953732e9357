"""A deferred metric whose module no worker imports: its scores must stay pending, and be named with what they need."""

from __future__ import annotations

from chaos_metrics import judge


def elsewhere(question: str, output: str) -> float:
    return judge("elsewhere", question, output)
