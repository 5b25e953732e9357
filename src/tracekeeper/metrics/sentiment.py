"""How positive a text sounds, by VADER's lexicon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.texts import answer_text, shown, skipped
from tracekeeper.types import MissingExtraError, Score
from tracekeeper.types.sentences import sentences

_PIECE = 1_000  # characters: VADER's time grows with the square of a sentence's words


class Sentiment(BuiltIn):
    """How positive the output sounds, from -1 to 1: the mean of VADER's compound score of its sentences.

    VADER (Hutto & Gilbert 2014, ICWSM) is a lexicon with rules for negation and emphasis, made for English; text in
    other languages comes out near 0. Needs the extra ``tracekeeper[sentiment]``.

    Parameters
    ----------
    options:
        Those of ``tk.metric``.

    Raises
    ------
    MissingExtraError
        When the package vaderSentiment is not installed.

    Example
    -------
    >>> value, reason = Sentiment()("This is wonderful. I hate the rain.")
    >>> round(value, 2), reason
    (0.0, 'most positive (0.57): This is wonderful. Most negative (-0.57): I hate the rain.')
    """

    def __init__(self, **options: Unpack[MetricOptions]) -> None:
        if find_spec("vaderSentiment") is None:
            raise MissingExtraError("Sentiment needs vaderSentiment: pip install 'tracekeeper[sentiment]'")
        self._make(_Sentiment(), options, range=(-1, 1), requires=("tracekeeper[sentiment]",))


@dataclass(frozen=True)
class _Sentiment:
    def __call__(self, output: Any) -> tuple[float, str] | Score:
        pieces = [piece for sentence in sentences(answer_text(output)) for piece in _pieces(sentence)]
        if not pieces:
            return skipped("the output has no text")
        analyse = _analyser().polarity_scores
        scored = [(float(analyse(piece)["compound"]), piece) for piece in pieces]
        value = sum(score for score, _ in scored) / len(scored)
        best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
        if best[0] == worst[0]:
            return value, "all of it alike" if len(scored) > 1 else "one sentence"
        return value, (
            f"most positive ({best[0]:.2f}): {shown(best[1], 80)} Most negative ({worst[0]:.2f}): {shown(worst[1], 80)}"
        )


def _pieces(sentence: str) -> list[str]:
    return [sentence[start : start + _PIECE] for start in range(0, len(sentence), _PIECE)]


@lru_cache(maxsize=1)
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
