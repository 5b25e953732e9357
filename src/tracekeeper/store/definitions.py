"""Metrics as they were described when their scores were born."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, select

from tracekeeper.store.tables import metric


class DefinitionRow(NamedTuple):
    """A metric's definition."""

    id: int
    """Grows with every definition that is new."""
    name: str
    version: str
    data: str
    """JSON: what ``Metric.description`` gives."""


def metric_definitions(connection: Connection, after: int) -> list[DefinitionRow]:
    """See ``Store.metric_definitions``."""
    wanted = select(metric.c.id, metric.c.name, metric.c.version, metric.c.data)
    return [DefinitionRow(*row) for row in connection.execute(wanted.where(metric.c.id > after).order_by(metric.c.id))]
