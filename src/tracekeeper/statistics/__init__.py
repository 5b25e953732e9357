"""The little statistics that aggregates of scores need, without NumPy or SciPy."""

from tracekeeper.statistics.intervals import Interval, mean_interval, wilson
from tracekeeper.statistics.quantiles import quantile
from tracekeeper.statistics.student import student_quantile

__all__ = ["Interval", "mean_interval", "quantile", "student_quantile", "wilson"]
