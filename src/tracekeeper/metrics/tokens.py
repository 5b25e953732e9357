"""Token F1: how many words an answer and the expected one share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.matching import references
from tracekeeper.metrics.texts import answer_text
from tracekeeper.types.text import words

_ARTICLES = frozenset({"a", "an", "the"})


class TokenF1(BuiltIn):
    """The harmonic mean of precision and recall of the answer's words, from 0 to 1.

    With ``c`` the number of words in common (each as often as it is in both)::

        precision = c / words of the output      recall = c / words of the expected output
        F1 = 2 * precision * recall / (precision + recall)

    Two texts without words score 1, one of them 0. Of several expected texts the best counts. After SQuAD's evaluation
    script (Rajpurkar et al. 2016, arXiv:1606.05250); each Chinese, Japanese or Korean character is one word, as in
    CMRC 2018's (Cui et al. 2019, arXiv:1810.07366).

    Parameters
    ----------
    ignore_articles:
        Leave out ``a``, ``an`` and ``the`` (default, as SQuAD does).
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> TokenF1()("mild and wet", "mild")
    (0.5, 'precision 0.33, recall 1.00')
    """

    def __init__(self, *, ignore_articles: bool = True, **options: Unpack[MetricOptions]) -> None:
        self._make(_TokenF1(bool(ignore_articles)), options, name="token_f1", direction="maximize", range=(0, 1))


@dataclass(frozen=True)
class _TokenF1:
    ignore_articles: bool

    def __call__(self, output: Any, expected: Any) -> tuple[float, str | None]:
        found = self.count(answer_text(output))
        return max((_f1(found, self.count(text)) for text in references(expected)), default=(0.0, "nothing expected"))

    def count(self, text: str) -> Counter[str]:
        left_out = _ARTICLES if self.ignore_articles else frozenset()
        return Counter(word for word in words(text) if word not in left_out)


def _f1(found: Counter[str], wanted: Counter[str]) -> tuple[float, str]:
    if not found or not wanted:
        return (1.0, "neither has a word") if not found and not wanted else (0.0, "one of them has no word")
    common = sum(min(count, wanted[word]) for word, count in found.items() if word in wanted)
    precision, recall = common / found.total(), common / wanted.total()
    # 2pr/(p+r) written on the counts: exact where both are equal, and symmetric to the last bit.
    return 2 * common / (found.total() + wanted.total()), f"precision {precision:.2f}, recall {recall:.2f}"
