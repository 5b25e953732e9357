"""What an app computes of what others left: the metrics that its apps have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tracekeeper.types import MetricMode

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.store.store import Store

Key = tuple[str, str]
"""Name of a score, and version of its metric."""


class Abilities(Protocol):
    """What can be computed in a process."""

    @property
    def loading(self) -> bool:
        """Whether more may come to light."""
        ...

    def metrics(self, store: Store) -> Mapping[Key, Metric]:
        """By score name and version."""
        ...

    def account(self, waiting: Sequence[Key]) -> dict[str, Any]:
        """What is said of it to others, above all about what waits."""
        ...


class AppAbilities:
    """The importable background metrics of this process's apps."""

    loading = False

    def metrics(self, store: Store) -> Mapping[Key, Metric]:
        """See ``Abilities``."""
        return self.known()

    def known(self) -> dict[Key, Metric]:
        """The same, without asking the store."""
        found = (metric for source in _sources for metric in source())
        return {
            (name, metric.version): metric
            for metric in found
            if metric.mode == MetricMode.BACKGROUND and metric.import_path is not None
            for name in metric.names
        }

    def account(self, waiting: Sequence[Key]) -> dict[str, Any]:
        """See ``Abilities``."""
        return {}


_sources: list[Callable[[], Iterable[Metric]]] = []


def add_source(source: Callable[[], Iterable[Metric]]) -> None:
    """Say where the metrics of this process's apps are to be found."""
    _sources.append(source)
