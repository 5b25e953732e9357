"""The three questions about an answer from documents, asked of its words: no model, no network.

Is the answer in the documents (groundedness)? Are the documents about the question (context relevance)? Is the answer
about the question (answer relevance)? Words in common are a rough measure: it does not see a paraphrase or a negation.
What it is worth was measured on human labels; ``docs/metrics.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.texts import (
    answer_text,
    content_terms,
    content_words,
    document_texts,
    question_text,
    shown,
    skipped,
)
from tracekeeper.types import MetricError, Score
from tracekeeper.types.sentences import sentences
from tracekeeper.types.text import terms

Result = tuple[float, str | None] | Score
_RANGE: dict[str, Any] = {"direction": "maximize", "range": (0, 1)}


class OverlapGroundedness(BuiltIn):
    """How much of the answer is found in the retrieved documents, from 0 to 1, with the least supported sentence.

    Of each sentence of the answer two shares are taken, and their mean is its support::

        found words = content words of the sentence that are in the documents / its content words
        found pairs = neighbouring content words that are neighbours in a document too / its pairs
        support     = (found words + found pairs) / 2           (found words alone, where there is no pair)

    Content words are words without English stop words; of Chinese and Japanese, overlapping pairs of characters. The
    value is the mean support of the sentences, or, with a ``threshold``, the share of sentences with at least that.
    The pairs are what makes it useful: most made-up sentences use the words of the text for something it does not say.

    It is ``skipped`` when there are no documents or the answer has no content words.

    Parameters
    ----------
    threshold:
        Support from which a sentence counts as supported, above 0 to 1; ``None`` (default): take the mean support.
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> OverlapGroundedness()("Ireland is mild. Snow is common.", ["Ireland has a mild climate."])
    (0.5, 'least supported of 2 sentences (0.00): Snow is common.')
    """

    def __init__(self, *, threshold: float | None = None, **options: Unpack[MetricOptions]) -> None:
        good = isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 < threshold <= 1
        if threshold is not None and not good:
            raise MetricError(f"OverlapGroundedness: threshold={threshold!r}: expected a number above 0, at most 1")
        self._make(_OverlapGroundedness(None if threshold is None else float(threshold)), options, **_RANGE)


@dataclass(frozen=True)
class _OverlapGroundedness:
    threshold: float | None

    def __call__(self, output: Any, context: Any) -> Result:
        documents = [text for text in document_texts(context) if text.strip()]
        if not documents:
            return skipped("no documents to find the answer in")
        known, pairs = _known(documents)
        judged = ((_support(text, known, pairs), text) for text in sentences(answer_text(output)))
        supports = [(support, text) for support, text in judged if support is not None]
        if not supports:
            return skipped("the answer has no words to look for")
        if self.threshold is None:
            value = sum(support for support, _ in supports) / len(supports)
        else:
            value = sum(support >= self.threshold for support, _ in supports) / len(supports)
        least, text = min(supports, key=lambda pair: pair[0])
        if least >= 1:
            return value, "every sentence is found in the documents"
        return value, f"least supported of {len(supports)} sentences ({least:.2f}): {shown(text)}"


def _known(documents: Iterable[str]) -> tuple[set[str], set[tuple[str, str]]]:
    known: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for text in documents:
        known.update(terms(text))
        found = content_words(text)
        pairs.update(pairwise(found))
    return known, pairs


def _support(sentence: str, known: set[str], pairs: set[tuple[str, str]]) -> float | None:
    """The sentence's support, ``None`` when it has no content word."""
    wanted = content_terms(sentence)
    if not wanted:
        return None
    words_found = _share(wanted, known)
    found = content_words(sentence)
    if len(found) < 2:
        return words_found
    return (words_found + _share(list(pairwise(found)), pairs)) / 2


def _share(wanted: Sequence[Any], known: set[Any]) -> float:
    return sum(one in known for one in wanted) / len(wanted)


class OverlapContextRelevance(BuiltIn):
    """How much of the question's content words each retrieved document holds, from 0 to 1.

    For each document: the question's different content words that are in it / the question's different content words.
    The value is their mean, so that documents which have nothing to do with the question lower it; ``aggregate="best"``
    takes the best document instead. ``skipped`` without documents or without content words in the question.

    Parameters
    ----------
    aggregate:
        ``mean`` (default) or ``best``.
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> OverlapContextRelevance()("weather in Ireland?", ["Irish weather is mild.", "Ireland's weather"])
    (0.75, 'the least relevant of 2 documents is number 1 (0.50): Irish weather is mild.')
    """

    def __init__(self, *, aggregate: Literal["mean", "best"] = "mean", **options: Unpack[MetricOptions]) -> None:
        if aggregate not in ("mean", "best"):
            raise MetricError(f"OverlapContextRelevance: aggregate={aggregate!r}: expected 'mean' or 'best'")
        self._make(_OverlapContextRelevance(aggregate), options, **_RANGE)


@dataclass(frozen=True)
class _OverlapContextRelevance:
    aggregate: Literal["mean", "best"]

    def __call__(self, input: Any, context: Any) -> Result:
        documents = document_texts(context)
        if not documents:
            return skipped("no documents were retrieved")
        wanted = list(dict.fromkeys(content_terms(question_text(input))))
        if not wanted:
            return skipped("the question has no words to look for")
        shares = [_share(wanted, set(terms(text))) for text in documents]
        if self.aggregate == "best":
            place = max(range(len(shares)), key=lambda index: shares[index])
            return shares[place], f"the most relevant of {len(shares)} documents is number {place + 1}"
        place = min(range(len(shares)), key=lambda index: shares[index])
        said = f"number {place + 1} ({shares[place]:.2f}): {shown(documents[place])}"
        return sum(shares) / len(shares), f"the least relevant of {len(shares)} documents is {said}"


class OverlapAnswerRelevance(BuiltIn):
    """How much of the question the answer takes up, from 0 to 1.

    The question's different content words that are in the answer / the question's different content words. A short
    right answer ("Paris.") takes up nothing and scores 0: use it for answers in whole sentences. ``skipped`` when the
    question has no content words.

    Parameters
    ----------
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> OverlapAnswerRelevance()("What is the weather in Ireland?", "The weather is mild.")
    (0.5, 'not taken up: ireland')
    """

    def __init__(self, **options: Unpack[MetricOptions]) -> None:
        self._make(_OverlapAnswerRelevance(), options, **_RANGE)


@dataclass(frozen=True)
class _OverlapAnswerRelevance:
    def __call__(self, input: Any, output: Any) -> Result:
        wanted = list(dict.fromkeys(content_terms(question_text(input))))
        if not wanted:
            return skipped("the question has no words to look for")
        found = set(terms(answer_text(output)))
        missing = [term for term in wanted if term not in found]
        if not missing:
            return 1.0, "every word of the question is taken up"
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        return 1 - len(missing) / len(wanted), f"not taken up: {shown(', '.join(missing[:8]))}{more}"
