"""Metrics that need no model and no network: ``tk.metrics.ExactMatch()``, ``tk.metrics.OverlapGroundedness()`` …

Each is a ``Metric``: the options of ``tk.metric`` (``name=``, ``timeout=``, ``mode=`` …), ``.on`` and ``.replace``
work on all of them. They are deterministic, take time linear in the text, and work on text in any language, Chinese and
Japanese included. Importing this package loads none of them until it is asked for by name.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekeeper.metrics.length import Length
    from tracekeeper.metrics.matching import Contains, Equals, ExactMatch
    from tracekeeper.metrics.overlap import OverlapAnswerRelevance, OverlapContextRelevance, OverlapGroundedness
    from tracekeeper.metrics.pii import Pii
    from tracekeeper.metrics.resolving import built_in_names, resolve
    from tracekeeper.metrics.sentiment import Sentiment
    from tracekeeper.metrics.tokens import TokenF1

_HOMES = {
    "Contains": "matching",
    "Equals": "matching",
    "ExactMatch": "matching",
    "Length": "length",
    "OverlapAnswerRelevance": "overlap",
    "OverlapContextRelevance": "overlap",
    "OverlapGroundedness": "overlap",
    "Pii": "pii",
    "Sentiment": "sentiment",
    "TokenF1": "tokens",
    "built_in_names": "resolving",
    "resolve": "resolving",
}
_RESERVED = {
    "Groundedness": "OverlapGroundedness",
    "ContextRelevance": "OverlapContextRelevance",
    "AnswerRelevance": "OverlapAnswerRelevance",
}
"""Names kept for metrics that ask a language model."""

__all__ = [
    "Contains",
    "Equals",
    "ExactMatch",
    "Length",
    "OverlapAnswerRelevance",
    "OverlapContextRelevance",
    "OverlapGroundedness",
    "Pii",
    "Sentiment",
    "TokenF1",
    "built_in_names",
    "resolve",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
    if name in _RESERVED:
        raise AttributeError(
            f"tk.metrics.{name} asks a language model and is not in this version; "
            f"tk.metrics.{_RESERVED[name]} compares words and needs none"
        )
    near = difflib.get_close_matches(name, _HOMES, n=1)
    hint = f"; did you mean tk.metrics.{near[0]}?" if near else f"; there are: {', '.join(sorted(_HOMES))}"
    raise AttributeError(f"tk.metrics has no {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted(__all__)
