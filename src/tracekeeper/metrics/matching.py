"""Comparing an output with what was expected: exactly, as text, or as part of it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.texts import answer_text, shown
from tracekeeper.types import MetricError

Outcome = tuple[bool, str | None]
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
# A separator or sign that belongs to a number, or any one sign.
_SIGN = re.compile(r"(?P<number>(?<=\d)[.,](?=\d)|(?<!\w)[-\u2212](?=\d))|[^\w\s]|_")


class Equals(BuiltIn):
    """Whether the output equals the expected one, as data: numbers, texts, lists and mappings, through all levels.

    ``1`` equals ``1.0``, but ``True`` equals neither, and ``"1"`` is no number.

    Parameters
    ----------
    tolerance:
        Largest difference at which two numbers count as equal (absolute; default 0).
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> Equals()({"a": [1, 2]}, {"a": [1, 3]})
    (False, 'at a[1]: 2 is not 3')
    """

    def __init__(self, *, tolerance: float = 0.0, **options: Unpack[MetricOptions]) -> None:
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
            raise MetricError(f"Equals: tolerance={tolerance!r}: expected a number of at least 0")
        self._make(_Equals(float(tolerance)), options, direction="maximize")


@dataclass(frozen=True)
class _Equals:
    tolerance: float

    def __call__(self, output: Any, expected: Any) -> Outcome:
        where = difference(output, expected, self.tolerance)
        return where is None, where


def difference(value: Any, expected: Any, tolerance: float = 0.0, path: str = "") -> str | None:
    """Where two pieces of data first differ, in words; ``None`` when they are equal."""
    place = f"at {path}: " if path else ""
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        missing = [key for key in expected if key not in value]
        if missing:
            return f"{place}{shown(repr(missing[0]), 80)} is missing"
        for key, inner in value.items():
            if key not in expected:
                return f"{place}{shown(repr(key), 80)} is not expected"
            found = difference(inner, expected[key], tolerance, f"{path}.{key}" if path else str(key))
            if found is not None:
                return found
        return None
    if isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        if len(value) != len(expected):
            return f"{place}{len(value)} elements, expected {len(expected)}"
        for index, (left, right) in enumerate(zip(value, expected, strict=True)):
            found = difference(left, right, tolerance, f"{path}[{index}]")
            if found is not None:
                return found
        return None
    return None if _same(value, expected, tolerance) else f"{place}{_said(value)} is not {_said(expected)}"


def _same(value: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return value == expected or (tolerance > 0 and abs(value - expected) <= tolerance)
    return type(value) is type(expected) and bool(value == expected)


def _said(value: Any) -> str:
    return shown(repr(value[:200] if isinstance(value, str) else value), 80)


class ExactMatch(BuiltIn):
    """Whether the output is the expected text, up to case, punctuation, articles and space.

    Both are brought to Unicode's NFKC form and their space is reduced to single blanks; then, unless it is said
    otherwise, letters are lower-cased, punctuation is removed (not the separators and the sign of a number) and the
    English articles are left out. ``expected`` may be a list of acceptable texts. Normalisation after SQuAD's
    evaluation script (Rajpurkar et al. 2016, arXiv:1606.05250).

    Parameters
    ----------
    ignore_case, ignore_punctuation, ignore_articles:
        What does not count as a difference.
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> ExactMatch()("The Eiffel Tower!", "eiffel tower")
    (True, None)
    """

    def __init__(
        self,
        *,
        ignore_case: bool = True,
        ignore_punctuation: bool = True,
        ignore_articles: bool = True,
        **options: Unpack[MetricOptions],
    ) -> None:
        judge = _ExactMatch(bool(ignore_case), bool(ignore_punctuation), bool(ignore_articles))
        self._make(judge, options, direction="maximize")


@dataclass(frozen=True)
class _ExactMatch:
    ignore_case: bool
    ignore_punctuation: bool
    ignore_articles: bool

    def __call__(self, output: Any, expected: Any) -> Outcome:
        found = self.normal(answer_text(output))
        wanted = references(expected)
        if any(self.normal(reference) == found for reference in wanted):
            return True, None
        others = f" (or {len(wanted) - 1} others)" if len(wanted) > 1 else ""
        return False, f"{_said(answer_text(output))} is not {_said(wanted[0] if wanted else '')}{others}"

    def normal(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text)
        if self.ignore_case:
            text = text.lower()
        if self.ignore_punctuation:
            text = _SIGN.sub(_kept, text)
        if self.ignore_articles:
            text = _ARTICLES.sub(" ", text)
        return " ".join(text.split())


def _kept(sign: re.Match[str]) -> str:
    if sign.lastgroup == "number":
        return sign.group()
    # What is neither a letter nor a sign (vowel marks of Indic scripts, joiners of emoji) is part of the text.
    return "" if unicodedata.category(sign.group())[0] in "PS" else sign.group()


def references(expected: Any) -> list[str]:
    """The acceptable texts: of a list each of its elements."""
    if isinstance(expected, list | tuple):
        return [answer_text(one) for one in expected]
    return [answer_text(expected)]


class Contains(BuiltIn):
    """Whether the output contains the expected text, or texts that are given here.

    Parameters
    ----------
    text:
        A text or several that must be in the output; ``None`` (default): the record's expected output.
    ignore_case:
        Whether upper and lower case are the same (default).
    every:
        Whether all of several texts must be there (default), or one of them.
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> Contains(["Dublin", "Cork"])("Trains run from Dublin.")
    (False, "not found: 'Cork'")
    """

    def __init__(
        self,
        text: str | Iterable[str] | None = None,
        *,
        ignore_case: bool = True,
        every: bool = True,
        **options: Unpack[MetricOptions],
    ) -> None:
        if text is None:
            self._make(_ContainsExpected(None, bool(ignore_case), bool(every)), options, **_CONTAINS)
            return
        texts = (text,) if isinstance(text, str) else tuple(text)
        if not texts or not all(isinstance(one, str) and one for one in texts):
            raise MetricError(f"Contains({text!r}): expected a text, or several")
        self._make(_Contains(texts, bool(ignore_case), bool(every)), options, **_CONTAINS)


_CONTAINS: dict[str, Any] = {"name": "contains", "direction": "maximize"}


@dataclass(frozen=True)
class _Contains:
    text: tuple[str, ...] | None
    ignore_case: bool
    every: bool

    def __call__(self, output: Any) -> Outcome:
        return self.find(output, self.text or ())

    def find(self, output: Any, texts: Iterable[str]) -> Outcome:
        wanted = list(texts)
        whole = self.normal(answer_text(output))
        absent = [text for text in wanted if self.normal(text) not in whole]
        good = not absent if self.every else len(absent) < len(wanted)
        return good, None if good else f"not found: {', '.join(_said(text) for text in absent[:5])}"

    def normal(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text)
        return text.lower() if self.ignore_case else text


@dataclass(frozen=True)
class _ContainsExpected(_Contains):
    def __call__(self, output: Any, expected: Any) -> Outcome:  # type: ignore[override]  # called by name
        return self.find(output, references(expected))
