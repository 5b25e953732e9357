"""Experiments as the store has them: how each was defined, and what became of its items."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from tracekeeper.store.tables import experiment, item


class ExperimentRow(NamedTuple):
    """A run of ``evaluate``."""

    id: str
    name: str
    first_seen: int
    data: str
    """JSON: what the run was asked to do."""


_WANTED = select(experiment.c.name, experiment.c.version, experiment.c.first_seen, experiment.c.data)


def find(connection: Connection, wanted: str) -> ExperimentRow | None:
    """The experiment with this id, else the newest with this name."""
    for statement in (
        _WANTED.where(experiment.c.name == wanted),
        _WANTED.where(experiment.c.version == wanted).order_by(experiment.c.id.desc()).limit(1),
    ):
        row = connection.execute(statement).first()
        if row is not None:
            return ExperimentRow(*row)
    return None


def newest(connection: Connection, limit: int) -> list[ExperimentRow]:
    """The newest ones, the latest first."""
    return [ExperimentRow(*row) for row in connection.execute(_WANTED.order_by(experiment.c.id.desc()).limit(limit))]


def items(connection: Connection, experiment_id: str) -> list[Row[Any]]:
    """Its item rows, in the order in which they began."""
    return list(connection.execute(select(item).where(item.c.experiment == experiment_id).order_by(item.c.id)))
