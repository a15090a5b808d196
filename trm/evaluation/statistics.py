"""Confidence intervals of shares, paired tests, and areas under ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

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


class McNemar(TypedDict):
    """How two lists of n outcomes overlap, and the p-value of the exact McNemar test."""

    n: int
    both: int
    only_first: int
    only_second: int
    p: float


def mcnemar(one: Sequence[bool], other: Sequence[bool]) -> McNemar:
    """The exact McNemar test on the puzzles that only one of two solved."""
    from scipy.stats import binomtest

    only_one = sum(a and not b for a, b in zip(one, other, strict=True))
    only_other = sum(b and not a for a, b in zip(one, other, strict=True))
    differ = only_one + only_other
    p = float(binomtest(only_one, differ, 0.5).pvalue) if differ else 1.0
    both = sum(a and b for a, b in zip(one, other, strict=True))
    return McNemar(n=len(one), both=both, only_first=only_one, only_second=only_other, p=p)
