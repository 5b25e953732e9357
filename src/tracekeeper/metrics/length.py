"""How long an output is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Unpack

from tracekeeper.judging import MetricOptions
from tracekeeper.metrics.built_in import BuiltIn
from tracekeeper.metrics.texts import answer_text
from tracekeeper.types import MetricError
from tracekeeper.types.sentences import sentences
from tracekeeper.types.text import words

Unit = Literal["characters", "words", "sentences"]
_UNITS = ("characters", "words", "sentences")


class Length(BuiltIn):
    """The length of the output; with ``min`` or ``max``, whether it lies between them (both included).

    Parameters
    ----------
    unit:
        ``characters`` (Unicode code points, the default), ``words`` (each Chinese, Japanese or Korean character is
        one) or ``sentences``.
    min, max:
        Bounds in that unit. With one of them the score is a bool and more of it is better; without, it is the number.
    options:
        Those of ``tk.metric``.

    Example
    -------
    >>> Length("words")("mild and wet"), Length("words", max=2)("mild and wet")
    (3, (False, '3 words, more than 2'))
    """

    def __init__(
        self,
        unit: Unit = "characters",
        *,
        min: int | None = None,
        max: int | None = None,
        **options: Unpack[MetricOptions],
    ) -> None:
        if unit not in _UNITS:
            raise MetricError(f"Length({unit!r}): expected one of {', '.join(_UNITS)}")
        for name, bound in (("min", min), ("max", max)):
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or bound < 0):
                raise MetricError(f"Length: {name}={bound!r}: expected a whole number, 0 or more")
        if min is not None and max is not None and min > max:
            raise MetricError(f"Length: min={min} is more than max={max}")
        judges = min is not None or max is not None
        defaults: dict[str, Any] = {"direction": "maximize"} if judges else {"range": (0, None)}
        self._make(_Length(unit, min, max), options, **defaults)


@dataclass(frozen=True)
class _Length:
    unit: Unit
    min: int | None
    max: int | None

    def __call__(self, output: Any) -> int | tuple[bool, str | None]:
        size = _size(answer_text(output), self.unit)
        if self.min is None and self.max is None:
            return size
        said = f"{size} {self.unit if size != 1 else self.unit[:-1]}"
        if self.min is not None and size < self.min:
            return False, f"{said}, fewer than {self.min}"
        if self.max is not None and size > self.max:
            return False, f"{said}, more than {self.max}"
        return True, said


def _size(text: str, unit: Unit) -> int:
    if unit == "characters":
        return len(text)
    return len(words(text)) if unit == "words" else len(sentences(text))
