"""The metric object: what it judges, where its arguments come from, what its result means."""

from tracekeeper.judging import selectors as select
from tracekeeper.judging.annotations import return_annotation
from tracekeeper.judging.making import as_metrics, metric
from tracekeeper.judging.metric import Metric
from tracekeeper.judging.options import MetricOptions
from tracekeeper.judging.picking import Selector
from tracekeeper.judging.resolving import resolve, restore
from tracekeeper.judging.results import scores
from tracekeeper.judging.tasks import bind_task, check_task
from tracekeeper.judging.view import CannotBind, RecordView, SpanView

__all__ = [
    "CannotBind",
    "Metric",
    "MetricOptions",
    "RecordView",
    "Selector",
    "SpanView",
    "as_metrics",
    "bind_task",
    "check_task",
    "metric",
    "resolve",
    "restore",
    "return_annotation",
    "scores",
    "select",
]
