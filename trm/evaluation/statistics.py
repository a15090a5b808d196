"""Intervals and areas: how much a measured share can be trusted."""

from __future__ import annotations

from collections.abc import Sequence


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Area under the ROC curve: how often a right one scores above a wrong one, of equals half. Some of each."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
