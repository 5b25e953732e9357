"""An app that answers questions about Tracekeeper from its own documentation, in two versions. An example to read.

Both retrieve passages by full-text search and quote a sentence of them; no model and no network is involved. Version 1
quotes the first sentence of the best passage. Version 2 looks at three passages and quotes the sentence that shares
most words with the question. Is that better? Every answer is judged by the same metrics, so the leaderboard tells.
"""

from __future__ import annotations

import asyncio
import functools
import threading

import tracekeeper as tk
from tracekeeper.demo.pages import find_pages
from tracekeeper.demo.passages import passages_of, sentences
from tracekeeper.demo.search import Index, topics

NO_ANSWER = "The documentation does not say."


@functools.cache
def index() -> Index:
    """The search index, made at the first question."""
    return Index(passages_of(find_pages()))


# What the app does. A traced function is a span; a retriever's result is the `context` that metrics see.


@tk.trace(kind="retriever")
def retrieve(question: str, limit: int) -> list[str]:
    """The passages that match the question best."""
    return [passage.text for passage in index().search(question, limit)]


@tk.trace
def best_sentence(question: str, passages: list[str]) -> str:
    """The sentence that shares most words with the question; of equals the one that was found first."""
    asked = topics(question)
    candidates = [sentence for passage in passages for sentence in sentences(passage) if len(sentence) > 25]
    return max(candidates, key=lambda sentence: len(asked & topics(sentence)), default=NO_ANSWER)


# How answers are judged. Three metrics that come with Tracekeeper, one of our own, and three that misbehave: whatever a
# metric does, each of its scores ends with a status and a reason, and no caller waits for it.


def short(output: str) -> tuple[bool, str]:
    """Whether the answer can be read at a glance."""
    return len(output) <= 200, f"{len(output)} characters"


def counts_steps(question: str, output: str) -> float:
    """Raises where it looks for something that the answer does not have."""
    if not question.startswith("How do I"):
        return 0.0
    return float(output.split("steps: ")[1])


def hanging_judge(question: str) -> float:
    """Never returns for a few questions, like a judge whose connection hangs."""
    if question.startswith(("Can", "Does")):
        threading.Event().wait()
    return 1.0


async def slow_judge(question: str, output: str) -> float:
    """Takes its time, like a judge that thinks. Sync or async, metrics run side by side, and no caller waits for
    them."""
    await asyncio.sleep(0.5)
    asked = topics(question)
    return len(asked & topics(output)) / max(1, len(asked))


METRICS = [
    tk.metrics.OverlapGroundedness(),
    tk.metrics.OverlapContextRelevance(),
    tk.metrics.OverlapAnswerRelevance(),
    tk.metric(short),
    tk.metric(counts_steps),
    tk.metric(hanging_judge, timeout=2),
    tk.metric(slow_judge, timeout=10, sample=0.5),
]


# The two versions. The first is an ordinary function, called from threads; the second is async, called from tasks.


@tk.app(name="docs", version="1", metrics=METRICS)
def ask(question: str) -> str:
    """Quote the first sentence of the best passage."""
    passages = retrieve(question, limit=1)
    return sentences(passages[0])[0] if passages else NO_ANSWER


@tk.app(name="docs", version="2", metrics=METRICS)
async def ask_better(question: str) -> str:
    """Quote the best sentence of three passages."""
    passages = await asyncio.to_thread(retrieve, question, limit=3)
    return best_sentence(question, passages)
