"""The demo's search: finds the passage, takes any question, and may be used from threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracekeeper.demo.passages import Passage
from tracekeeper.demo.search import Index, words

PASSAGES = [
    Passage("journal", "Journal / Limits", "The journal is capped at one gigabyte."),
    Passage("scores", "Scores", "A score that cannot be computed has a status and a reason."),
    Passage("streams", "Streams", "Leaving a stream early marks its span abandoned."),
]


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index(PASSAGES)
    yield made
    made.close()


def test_the_best_match_comes_first(index: Index) -> None:
    assert index.search("What happens to a stream that is left early?", 3)[0] == PASSAGES[2]
    assert index.search("journals", 1) == [PASSAGES[0]]
    assert len(index) == 3


@pytest.mark.parametrize("question", ["", "?", "what is it?", '"', 'a" OR b*', "NEAR(", "zebra", "日志"])
def test_any_question_is_searched_without_an_error(index: Index, question: str) -> None:
    assert index.search(question, 3) == []


def test_threads_search_at_once(index: Index) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: index.search("status of a score", 1), range(100)))
    assert found == [[PASSAGES[1]]] * 100


def test_words_leave_out_what_every_question_has() -> None:
    assert words("What does the Journal do when disk is full?") == ["journal", "disk", "full"]
