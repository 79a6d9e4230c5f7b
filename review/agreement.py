"""How far people agree who answered the same items, with 95% intervals by resampling the items.

Notation: N items, R raters, K labels, n_i answers to item i, c_ik of them with label k. Only items that at least two
raters answered say anything about agreement; the others are left out everywhere here.

Intervals are percentiles of the figure over resampled items: as many items as there are are drawn with replacement,
with all their answers, and the figure is computed again. Items, not answers, are drawn, since answers to one item
depend on each other. Items with the same answers are drawn together, by a multinomial distribution over the different
patterns of answers, which is the same and much faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

MISSING = -1
REPLICATES = 1000
LEVEL = 0.95
# A figure is not defined where a resample has only one label. With more than this share of such resamples the others
# would tell a story of their own, so there is no interval.
_MOST_UNDEFINED = 0.05
# Resampled counts are held for so many numbers at once: some 16 MB.
_AT_ONCE = 2_000_000

Counts = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95% interval.

    `value` is None where it is not defined. `low` and `high` are None where it is, or where resampling says nothing:
    with one item, or where no resample differs from another, as when all answers agree.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


UNDEFINED = Figure(None)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of all raters on `items` items with `answers` answers, each item with at least two.

    `percent` in [0, 1]: the mean over items of the share of pairs of answers that are equal. `kappa`: Fleiss' κ;
    `alpha`: Krippendorff's α for nominal data; both at most 1, 0 where agreement is what chance gives. `f1` in [0, 1]
    of spans of a text: the mean over items of the token F1 of pairs of answers.
    """

    items: int
    answers: int
    percent: Figure
    kappa: Figure
    alpha: Figure
    f1: Figure = UNDEFINED


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Agreement on one label against all others together. `answers` that have it lie on `items` items."""

    label: int
    items: int
    answers: int
    percent: Figure
    kappa: Figure
    alpha: Figure


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Agreement of two raters on the `items` that both answered; `kappa` is Cohen's κ.

    `confusion` (K, K): how often the first gave the row's label and the second the column's. `f1` in [0, 1]: the mean
    token F1 where answers are spans of a text.
    """

    first: int
    second: int
    items: int
    percent: Figure
    kappa: Figure
    alpha: Figure
    confusion: Labels
    f1: Figure = UNDEFINED


# --- Figures of whole tables -----------------------------------------------------------------------------------------


def cohen_kappa(confusion: npt.ArrayLike) -> float | None:
    """Cohen's κ of a confusion matrix (K, K) of counts, at most 1: (p_o − p_e)/(1 − p_e).

    None where nothing was counted, or where both gave one and the same label only, so that chance alone agrees.
    """
    cells = _Cells(np.asarray(confusion, dtype=np.int64))
    if not len(cells.weights):
        return None
    return _defined(cells.figures(cells.weights[np.newaxis].astype(np.float64))[1][0])


def fleiss_kappa(counts: npt.ArrayLike) -> float | None:
    """Fleiss' κ of a table of counts (N, K): how many raters gave item i label k.

    The number of raters may vary from item to item: then this is Gwet's generalisation, in which each item counts
    once. Observed agreement is the mean over items of Σ_k c_ik(c_ik − 1)/(n_i(n_i − 1)); the share of label k, for
    the agreement by chance, the mean over items of c_ik/n_i. With equally many raters it is Fleiss' own.
    None without an item with two answers, or with one label only.
    """
    table = _pairable(counts)
    if not len(table):
        return None
    raters = table.sum(axis=1)
    observed = np.mean((table * (table - 1)).sum(axis=1) / (raters * (raters - 1)))
    shares = np.mean(table / raters[:, np.newaxis], axis=0)
    if np.count_nonzero(shares) < 2:
        return None
    by_chance = np.sum(shares**2)
    return float((observed - by_chance) / (1.0 - by_chance))


def krippendorff_alpha(counts: npt.ArrayLike) -> float | None:
    """Krippendorff's α for nominal data, 1 − D_o/D_e, of a table of counts (N, K); missing answers just lack.

    D_o is the disagreement within items over the coincidences, each item weighted by its answers; D_e that of all
    answers paired anyhow. At most 1. None without an item with two answers, or with one label only.
    """
    table = _pairable(counts)
    if not len(table):
        return None
    raters = table.sum(axis=1)
    answers = raters.sum()
    unequal = np.sum((raters**2 - (table**2).sum(axis=1)) / (raters - 1)) / answers
    totals = table.sum(axis=0)
    if np.count_nonzero(totals) < 2:
        return None
    expected = (answers**2 - np.sum(totals**2)) / (answers * (answers - 1))
    return float(1.0 - unequal / expected)


def percent_agreement(counts: npt.ArrayLike) -> float | None:
    """The mean over items of the share of pairs of answers that are equal, in [0, 1], of a table of counts (N, K)."""
    table = _pairable(counts)
    if not len(table):
        return None
    raters = table.sum(axis=1)
    return float(np.mean((table * (table - 1)).sum(axis=1) / (raters * (raters - 1))))


def count_table(answers: npt.ArrayLike, labels: int) -> Labels:
    """How many raters gave each item each label, shape (N, K), from `answers` (N, R) in −1 (missing) … K − 1.

    Raises ValueError for an answer outside that.
    """
    table = _checked(answers, labels)
    items, raters = np.nonzero(table != MISSING)
    cells = items * labels + table[items, raters]
    return np.bincount(cells, minlength=len(table) * labels).reshape(len(table), labels)


def confusion(first: npt.ArrayLike, second: npt.ArrayLike, labels: int) -> Labels:
    """(K, K): how often the first rater gave the row's label and the second the column's, to the same item.

    `first` and `second` (N,) in −1 (missing) … K − 1; items that either lacks are left out.
    """
    one, other = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    both = (one != MISSING) & (other != MISSING)
    cells = one[both] * labels + other[both]
    return np.bincount(cells, minlength=labels * labels).reshape(labels, labels)


def label_pairs(answers: npt.ArrayLike, labels: int) -> Labels:
    """(K, K), symmetric: how many pairs of answers to the same item have the row's and the column's label.

    A pair of two different labels counts once in each of its two cells; a pair of equal ones once on the diagonal.
    """
    table = _checked(answers, labels)
    codes, weights = _patterns(table)
    pairs = np.zeros((labels, labels), dtype=np.int64)
    for one in range(codes.shape[1]):
        for other in range(one + 1, codes.shape[1]):
            both = (codes[:, one] != MISSING) & (codes[:, other] != MISSING)
            # Answers of a pattern are sorted, so that each pair lies on or above the diagonal.
            np.add.at(pairs, (codes[both, one], codes[both, other]), weights[both])
    return pairs + np.triu(pairs, 1).T


# --- Figures with intervals ------------------------------------------------------------------------------------------


def agreement(
    answers: npt.ArrayLike, labels: int, *, seed: int, replicates: int = REPLICATES
) -> tuple[Agreement, list[LabelAgreement]]:
    """Agreement of all raters, and of each label that anybody gave against all others, by rising label.

    `answers` (N, R) in −1 (missing) … K − 1. The same answers and seed give the same intervals. Raises ValueError
    for an answer outside that.
    """
    codes, weights = _patterns(_checked(answers, labels))
    if not len(codes):
        return Agreement(0, 0, UNDEFINED, UNDEFINED, UNDEFINED), []
    features = _Features(codes, labels)
    exact = features.sums(weights[np.newaxis].astype(np.float64))
    drawn = _SumsInBlocks(features, weights, seed, replicates)
    overall = Agreement(
        items=int(weights.sum()),
        answers=int(exact.answers[0]),
        percent=_figure(exact.percent()[0], drawn.percent),
        kappa=_figure(exact.kappa()[0], drawn.kappa),
        alpha=_figure(exact.alpha()[0], drawn.alpha),
    )
    by_label = [
        LabelAgreement(
            label=label,
            items=int(weights @ (features.counts[label].toarray()[0] > 0)),
            answers=int(exact.totals[0, label]),
            percent=_figure(exact.label_percent()[0, label], drawn.label_percent[:, label]),
            kappa=_figure(exact.label_kappa()[0, label], drawn.label_kappa[:, label]),
            alpha=_figure(exact.label_alpha()[0, label], drawn.label_alpha[:, label]),
        )
        for label in np.flatnonzero(exact.totals[0]).tolist()
    ]
    return overall, by_label


def pair_agreements(
    answers: npt.ArrayLike, labels: int, *, seed: int, replicates: int = REPLICATES
) -> list[PairAgreement]:
    """Agreement of each two raters with an item in common, those with most items first.

    `answers` (N, R) in −1 (missing) … K − 1. Raises ValueError for an answer outside that.
    """
    table = _checked(answers, labels)
    found = []
    for first in range(table.shape[1]):
        rows = table[table[:, first] != MISSING]
        for second in range(first + 1, table.shape[1]):
            counted = confusion(rows[:, first], rows[:, second], labels)
            if counted.any():
                found.append(
                    confusion_agreement(counted, first=first, second=second, seed=seed, replicates=replicates)
                )
    return sorted(found, key=lambda pair: (-pair.items, pair.first, pair.second))


def confusion_agreement(
    confusion: npt.ArrayLike,
    *,
    seed: int,
    first: int = 0,
    second: int = 1,
    replicates: int = REPLICATES,
) -> PairAgreement:
    """Agreement of two raters by their confusion matrix (K, K) of counts; its rows are the first's labels."""
    table = np.asarray(confusion, dtype=np.int64)
    items = int(table.sum())
    if not items:
        return PairAgreement(first, second, 0, UNDEFINED, UNDEFINED, UNDEFINED, table)
    cells = _Cells(table)
    rng = np.random.default_rng([seed, first, second])
    drawn = [
        cells.figures(rng.multinomial(items, cells.weights / items, size=size).astype(np.float64))
        for size in _blocks(replicates, max(len(cells.weights), len(table)))
    ]
    percents, kappas, alphas = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    percent, kappa, alpha = cells.figures(cells.weights[np.newaxis].astype(np.float64))
    return PairAgreement(
        first=first,
        second=second,
        items=items,
        percent=_figure(percent[0], percents),
        kappa=_figure(kappa[0], kappas),
        alpha=_figure(alpha[0], alphas),
        confusion=table,
    )


def mean_figure(values: npt.ArrayLike, *, seed: int | Sequence[int], replicates: int = REPLICATES) -> Figure:
    """The mean of a number that each item has, with its interval; not defined without items.

    `values` (N,), one an item. The same values and seed give the same interval. Raises ValueError for other shapes.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError("There is one number an item.")
    if not len(numbers):
        return UNDEFINED
    # Items with the same number are drawn together, which is the same and much faster.
    different, counts = np.unique(numbers, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = [
        rng.multinomial(len(numbers), counts / len(numbers), size=size) @ different / len(numbers)
        for size in _blocks(replicates, len(different))
    ]
    return _figure(float(numbers.mean()), np.concatenate(drawn))


# --- Parts -----------------------------------------------------------------------------------------------------------


def _checked(answers: npt.ArrayLike, labels: int) -> Labels:
    table = np.asarray(answers, dtype=np.int64)
    if table.ndim != 2:
        raise ValueError("Answers have a row an item and a column a rater.")
    if table.size and (table.min() < MISSING or table.max() >= labels):
        raise ValueError(f"Answers lie between -1, which is missing, and {labels - 1}.")
    return table


def _pairable(counts: npt.ArrayLike) -> Counts:
    """The rows of a table of counts (N, K) with at least two answers."""
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or (table.size and table.min() < 0):
        raise ValueError("Counts have a row an item and a column a label, and none is negative.")
    several: Counts = table[table.sum(axis=1) >= 2]
    return several


def _patterns(table: Labels) -> tuple[Labels, Labels]:
    """The different sets of at least two answers to an item, and how many items have each.

    Each pattern is sorted, missing answers first, in as many columns as the longest has.
    """
    ordered = np.sort(table, axis=1)
    sizes = (ordered != MISSING).sum(axis=1)
    ordered, sizes = ordered[sizes >= 2], sizes[sizes >= 2]
    if not len(ordered):
        return np.empty((0, 0), dtype=np.int64), np.empty(0, dtype=np.int64)
    ordered = ordered[:, ordered.shape[1] - sizes.max() :]
    base = int(ordered.max()) + 2
    if base ** ordered.shape[1] >= 2**62:
        codes, weights = np.unique(ordered, axis=0, return_counts=True)
        return codes, weights
    # One number a row sorts much faster than rows do.
    numbers = (ordered + 1) @ (base ** np.arange(ordered.shape[1], dtype=np.int64))
    _, places, weights = np.unique(numbers, return_index=True, return_counts=True)
    return ordered[places], weights


class _Features:
    """What each pattern adds to the sums that all figures are made of; by label as sparse tables (K, P)."""

    def __init__(self, codes: Labels, labels: int) -> None:
        patterns, places = np.nonzero(codes != MISSING)
        shape = (labels, len(codes))
        ones = np.ones(len(patterns))
        self.counts = sparse.coo_matrix((ones, (codes[patterns, places], patterns)), shape=shape).tocsr()
        self.raters = (codes != MISSING).sum(axis=1).astype(np.float64)
        n = self.raters
        squares = np.asarray(self.counts.power(2).sum(axis=0)).ravel()
        self.unequal = (n**2 - squares) / (n - 1)
        self.unequal_share = (n**2 - squares) / (n * (n - 1))
        per_answer = sparse.diags_array(1.0 / n)
        self.shares = (self.counts @ per_answer).tocsr()
        # One label against the others: 2c(n − c) ordered pairs of answers differ.
        differing = 2.0 * (self.counts @ sparse.diags_array(n) - self.counts.power(2))
        self.label_unequal = (differing @ sparse.diags_array(1.0 / (n - 1))).tocsr()
        self.label_unequal_share = (differing @ sparse.diags_array(1.0 / (n * (n - 1)))).tocsr()

    def sums(self, weights: Counts) -> "_Sums":
        """For weights (B, P): how often each pattern occurs in each of B samples."""
        by_pattern = weights.T
        return _Sums(
            items=weights.sum(axis=1),
            answers=weights @ self.raters,
            unequal=weights @ self.unequal,
            unequal_share=weights @ self.unequal_share,
            totals=np.asarray(self.counts @ by_pattern).T,
            shares=np.asarray(self.shares @ by_pattern).T,
            label_unequal=np.asarray(self.label_unequal @ by_pattern).T,
            label_unequal_share=np.asarray(self.label_unequal_share @ by_pattern).T,
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over the items of B samples, shapes (B,), and by label (B, K). Figures that are not defined are NaN."""

    items: Counts
    answers: Counts
    unequal: Counts
    unequal_share: Counts
    totals: Counts
    shares: Counts
    label_unequal: Counts
    label_unequal_share: Counts

    def percent(self) -> Counts:
        return 1.0 - self.unequal_share / self.items

    def kappa(self) -> Counts:
        shares = self.shares / self.items[:, np.newaxis]
        by_chance = np.where(np.count_nonzero(self.totals, axis=1) > 1, np.sum(shares**2, axis=1), np.nan)
        return 1.0 - (self.unequal_share / self.items) / (1.0 - by_chance)

    def alpha(self) -> Counts:
        several = np.count_nonzero(self.totals, axis=1) > 1
        n = self.answers
        expected = np.where(several, n**2 - np.sum(self.totals**2, axis=1), np.nan) / (n * (n - 1))
        return 1.0 - (self.unequal / n) / expected

    def label_percent(self) -> Counts:
        return 1.0 - self.label_unequal_share / self.items[:, np.newaxis]

    def label_kappa(self) -> Counts:
        share = self.shares / self.items[:, np.newaxis]
        by_chance = np.where(self._is_split(), 2.0 * share * (1.0 - share), np.nan)
        return 1.0 - (self.label_unequal_share / self.items[:, np.newaxis]) / by_chance

    def label_alpha(self) -> Counts:
        n = self.answers[:, np.newaxis]
        unlike = np.where(self._is_split(), 2.0 * self.totals * (n - self.totals), np.nan)
        return 1.0 - (self.label_unequal / n) / (unlike / (n * (n - 1)))

    def _is_split(self) -> npt.NDArray[np.bool_]:
        """(B, K): whether both the label and another occur."""
        return (self.totals > 0) & (self.totals < self.answers[:, np.newaxis])


class _SumsInBlocks:
    """All figures over resampled items, computed in blocks, so that memory stays flat."""

    def __init__(self, features: _Features, weights: Labels, seed: int, replicates: int) -> None:
        rng = np.random.default_rng(seed)
        items = int(weights.sum())
        blocks = []
        for size in _blocks(replicates, max(len(weights), features.counts.shape[0])):
            drawn = features.sums(rng.multinomial(items, weights / items, size=size).astype(np.float64))
            blocks.append(
                (
                    drawn.percent(),
                    drawn.kappa(),
                    drawn.alpha(),
                    drawn.label_percent(),
                    drawn.label_kappa(),
                    drawn.label_alpha(),
                )
            )
        whole = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        self.percent, self.kappa, self.alpha = whole[:3]
        self.label_percent, self.label_kappa, self.label_alpha = whole[3:]


class _Cells:
    """The cells of a confusion matrix in which something was counted: most are empty where labels are many."""

    def __init__(self, table: Labels) -> None:
        rows, columns = np.nonzero(table)
        self.weights = table[rows, columns]
        self._equal = (rows == columns).astype(np.float64)
        shape, ones, cells = (len(table), len(rows)), np.ones(len(rows)), np.arange(len(rows))
        self._rows = sparse.coo_matrix((ones, (rows, cells)), shape=shape).tocsr()
        self._columns = sparse.coo_matrix((ones, (columns, cells)), shape=shape).tocsr()

    def figures(self, drawn: Counts) -> tuple[Counts, Counts, Counts]:
        """Percent agreement, Cohen's κ and Krippendorff's α, each (B,), of counts (B, C); NaN where not defined."""
        items = drawn.sum(axis=1)
        observed = drawn @ self._equal / items
        rows, columns = np.asarray(self._rows @ drawn.T), np.asarray(self._columns @ drawn.T)
        totals, n = rows + columns, 2 * items
        several = np.count_nonzero(totals, axis=0) > 1
        by_chance = np.where(several, np.sum(rows * columns, axis=0) / items**2, np.nan)
        expected = np.where(several, n**2 - np.sum(totals**2, axis=0), np.nan) / (n * (n - 1))
        return observed, (observed - by_chance) / (1.0 - by_chance), 1.0 - (1.0 - observed) / expected


def _blocks(replicates: int, width: int) -> Sequence[int]:
    """Sizes of the blocks that so many samples of `width` numbers are drawn in."""
    size = max(1, min(replicates, _AT_ONCE // max(1, width)))
    whole, rest = divmod(replicates, size)
    return [size] * whole + ([rest] if rest else [])


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _figure(value: float, drawn: Counts) -> Figure:
    if np.isnan(value):
        return UNDEFINED
    known = drawn[~np.isnan(drawn)]
    if len(known) < (1.0 - _MOST_UNDEFINED) * len(drawn) or not np.ptp(known) > 1e-12:
        return Figure(float(value))
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1.0 - tail])
    # With very few items a percentile can miss the figure itself by a hair.
    return Figure(float(value), float(min(low, value)), float(max(high, value)))
