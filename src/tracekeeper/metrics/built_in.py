"""What the built-in metrics share: where they are public, and a version that does not depend on our source's layout."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from tracekeeper.judging import Metric, MetricOptions
from tracekeeper.judging.options import DEFAULTS
from tracekeeper.types import MetricError


class BuiltIn(Metric):
    """A metric that comes with Tracekeeper."""

    home = "tracekeeper.metrics"
    revision: ClassVar[str] = "1"
    """Increased when the same parameters begin to give other values; part of the version of every score."""

    def _make(self, function: Callable[..., Any], options: MetricOptions, **defaults: Any) -> None:
        own = list(inspect.signature(type(self).__init__).parameters)[1:-1]  # without self and **options
        accepted = [*own, *DEFAULTS]
        for name in options:
            if name not in accepted:
                near = difflib.get_close_matches(name, accepted, n=1)
                hint = f"; did you mean {near[0]}=?" if near else f"; known: {', '.join(accepted)}"
                raise MetricError(f"{type(self).__name__}: unknown option {name!r}{hint}")
        stated: Any = {"version": self.revision, **defaults, **options}
        Metric.__init__(self, function, **stated)

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value in self.parameters.items()]
        said += [f"{name}={selector!r}" for name, selector in self.selectors.items()]
        return f"{type(self).__name__}({', '.join(said)})"
