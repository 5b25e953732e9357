"""How the app in production is judged. Apart from the app, so that a worker needs to import no more than this."""

from __future__ import annotations

import asyncio

from tracekeeper.demo.search import topics


def harmless(question: str) -> bool:
    """Of the guard: decides before the app does anything."""
    return "password" not in question.lower()


async def careful_judge(question: str, output: str) -> float:
    """Thinks for half a second, like a model that judges."""
    await asyncio.sleep(0.5)
    asked = topics(question)
    return len(asked & topics(output)) / max(1, len(asked))


def readable(output: str) -> bool:
    """Of the rule: can the answer be read at a glance?"""
    return len(output) <= 200
