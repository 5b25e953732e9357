"""The little statistics that aggregates of scores need, without NumPy or SciPy."""

from tracekeeper.statistics.bootstrap import average, bootstrap_mean, bootstrap_p
from tracekeeper.statistics.intervals import Interval, mean_interval, wilson
from tracekeeper.statistics.paired import PairedDifference, holm, mcnemar, paired_booleans, paired_numbers, sign_test
from tracekeeper.statistics.quantiles import quantile
from tracekeeper.statistics.repeats import pass_at_k, pass_hat_k, spread
from tracekeeper.statistics.student import student_quantile, student_tail

__all__ = [
    "Interval",
    "PairedDifference",
    "average",
    "bootstrap_mean",
    "bootstrap_p",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired_booleans",
    "paired_numbers",
    "pass_at_k",
    "pass_hat_k",
    "quantile",
    "sign_test",
    "spread",
    "student_quantile",
    "student_tail",
    "wilson",
]
