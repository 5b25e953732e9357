"""The app as it would run in production: guarded, judged by a judge that takes its time, in a process that may die.

The demo starts ``serve`` in a process of its own and kills it. Its metrics can be imported by their names, so a worker
computes what it left.
"""

from __future__ import annotations

import sys

import tracekeeper as tk
from tracekeeper.demo.app import best_sentence, retrieve
from tracekeeper.demo.judges import careful_judge, harmless

REFUSED = "I do not talk about passwords."


@tk.guard.input(harmless, on_failure="block", on_block=REFUSED)
@tk.app(name="service", version="1", metrics=[tk.metric(careful_judge, timeout=10)])
def answer(question: str) -> str:
    """Quote the best sentence of three passages."""
    return best_sentence(question, retrieve(question, limit=3))


def serve(*questions: str) -> None:
    """Answer, say so, and wait for whatever comes: the demo kills this process here."""
    for question in questions:
        print(answer(question), flush=True)
    sys.stdin.read()
