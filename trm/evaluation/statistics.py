"""Confidence intervals of shares, and areas under ROC curves."""

from __future__ import annotations

from collections.abc import Sequence

# scipy.stats takes a second to import, which few callers need.


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Area under the ROC curve: how often a right one scores higher than a wrong one; ties count half.

    Both must have at least one score.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share, from 0 to 1."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
