"""Learning a router from uploaded comparisons: what there is to learn from, the training, and what it says of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from django.db.models import Avg, Count, Max, Min, Q

from annotate.array_files import write_arrays
from route.comparison_rows import ComparisonMapping
from route.comparisons import MIN_PREFERENCES, MIN_UNLIKE, MOST_COMPARISONS
from route.evidence import MIN_KNOWN
from route.meta_report import report_of as meta_report
from route.meta_training import how_of, metrics_of
from route.models import ComparisonSet, Router
from route.text_router import TextRouter, TextVectors
from route.trained import Between, Trained

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_FITTED = 20_000  # queries by whose words vectors are learned
_BLOCK = 5_000  # queries read, or scored, at a time


@dataclass(frozen=True, slots=True)
class ComparisonCounts:
    """How many rows say what. A row with gold counts as gold alone.

    `unlike` are gold rows whose gain is another than the most frequent one; `lowest_gain` and `highest_gain` are None
    without gold; `repeated` are gold rows whose query another one has as well, but one of them; `premium_better` and
    `cheap_better` those on which one response is better. `set_aside` are rows whose preference is not used because
    they have gold; `left` those with neither. `only_preference` is the preference that all rows have, None where they
    differ.
    """

    gold: int
    unlike: int
    premium_better: int
    cheap_better: int
    preferences: int
    only_preference: float | None
    set_aside: int
    left: int
    lowest_gain: float | None = None
    highest_gain: float | None = None
    repeated: int = 0

    def problem(self) -> str:
        """Why no router can be learned from it, and what to do about that; "" where one can."""
        if self.gold < MIN_KNOWN:
            return (
                f"{self.gold:,} rows have gold; at least {MIN_KNOWN} are needed. Let people compare the responses to "
                "more queries, and upload the file again."
            )
        if self.unlike < MIN_UNLIKE:
            return (
                f"The gold is the same on all but {self.unlike:,} of {self.gold:,} rows; at least {MIN_UNLIKE} must "
                "differ to learn where the premium response is worth its price."
            )
        if self.preferences < MIN_PREFERENCES:
            aside = (
                f" {self.set_aside:,} more rows have gold as well, which counts instead."
                if self.set_aside
                else ""
            )
            return (
                f"{self.preferences:,} rows have a preference and no gold; at least {MIN_PREFERENCES} are needed."
                f"{aside} Let a judge compare the responses to more queries, and upload the file again."
            )
        if self.only_preference is not None:
            return (
                f"The preference is {self.only_preference:g} on every row without gold, so nothing can be learned from "
                "it. Let another judge compare the responses."
            )
        return ""


def comparison_counts(comparisons: ComparisonSet) -> ComparisonCounts:
    """What the set's rows say, counted by the database."""
    rows = comparisons.comparisons.all()
    has_gold, has_preference = Q(gold_gain__isnull=False), Q(preference__isnull=False)
    found = rows.order_by().aggregate(
        gold=Count("pk", filter=has_gold),
        premium_better=Count("pk", filter=Q(gold_gain__gt=0)),
        cheap_better=Count("pk", filter=Q(gold_gain__lt=0)),
        preferences=Count("pk", filter=has_preference & ~has_gold),
        lowest=Min("preference", filter=~has_gold),
        highest=Max("preference", filter=~has_gold),
        lowest_gain=Min("gold_gain"),
        highest_gain=Max("gold_gain"),
        queries=Count("query", filter=has_gold, distinct=True),
        set_aside=Count("pk", filter=has_gold & has_preference),
        left=Count("pk", filter=~has_gold & ~has_preference),
    )
    gains = rows.filter(has_gold).order_by().values_list("gold_gain").annotate(rows=Count("pk"))
    commonest = gains.order_by("-rows").first()
    lowest, highest, queries = found.pop("lowest"), found.pop("highest"), found.pop("queries")
    return ComparisonCounts(
        unlike=found["gold"] - (commonest[1] if commonest else 0),
        only_preference=lowest if lowest == highest else None,
        repeated=found["gold"] - queries,
        **found,
    )


@dataclass(frozen=True)
class _Known:
    """Gold gains, (g,), and preferences, (p,), with the rows that they are of."""

    gold_rows: IntArray
    gold: FloatArray
    preferred_rows: IntArray
    preferences: FloatArray


def _known(comparisons: ComparisonSet, seed: int) -> _Known:
    """What is learned from; of very many rows of a source, a seeded sample."""
    rows, gold, preference = _columns(comparisons)
    has_gold, has_preference = ~np.isnan(gold), ~np.isnan(preference)
    rng = np.random.default_rng([seed, 13])
    gold_at = _sampled(np.flatnonzero(has_gold), rng)
    preferred_at = _sampled(np.flatnonzero(has_preference & ~has_gold), rng)
    return _Known(rows[gold_at], gold[gold_at], rows[preferred_at], preference[preferred_at])


def _columns(comparisons: ComparisonSet) -> tuple[IntArray, FloatArray, FloatArray]:
    found = comparisons.comparisons.order_by("position").values_list("position", "gold_gain", "preference")
    table = np.array(
        [
            (row, np.nan if gold is None else gold, np.nan if preference is None else preference)
            for row, gold, preference in found.iterator(chunk_size=_BLOCK)
        ],
        dtype=float,
    ).reshape(-1, 3)
    return table[:, 0].astype(np.int64), table[:, 1], table[:, 2]


def _sampled(places: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    if len(places) <= MOST_COMPARISONS:
        return places
    return np.sort(rng.choice(places, MOST_COMPARISONS, replace=False))


def prices_of(comparisons: ComparisonSet) -> tuple[float | None, float | None]:
    """US$ for a cheap and for a premium response: as entered, else the means of the columns; None where neither is."""
    mapping = ComparisonMapping(**comparisons.mapping)
    if mapping.price_a is not None and mapping.price_b is not None:
        prices = {"a": mapping.price_a, "b": mapping.price_b}
        return prices[mapping.cheap], prices[mapping.premium]
    means = comparisons.comparisons.aggregate(cheap=Avg("cheap_cost"), premium=Avg("premium_cost"))
    return means["cheap"], means["premium"]


def train_uploaded(router: Router, between: Between) -> Trained:
    """A router of texts from the router's comparison set. Raises ValueError."""
    comparisons = router.comparison_set
    assert comparisons is not None  # noqa: S101 (the caller looked)
    counts = comparison_counts(comparisons)
    if problem := counts.problem():
        raise ValueError(problem)
    known = _known(comparisons, router.seed)
    vectors = _vectors(router, comparisons)
    between()
    rows = np.concatenate([known.gold_rows, known.preferred_rows])
    features = _features(comparisons, rows, vectors, between)
    is_gold = np.arange(len(rows)) < len(known.gold)
    outcome = np.concatenate([known.gold, known.preferences])
    report = meta_report(features, is_gold, outcome, between=between, **how_of(router))
    metrics = metrics_of(report, known.gold, len(known.preferences), router.seed) | {
        "items": len(known.gold),
        "set_aside": counts.set_aside,
        "left": counts.left,
        "repeated": counts.repeated,
        "unlike": counts.unlike,
        "better": {
            "cheap": counts.cheap_better / counts.gold,
            "premium": counts.premium_better / counts.gold,
        },
    }
    held_out = {"held_out_rows": known.gold_rows, "held_out_gains": report.predicted}
    return Trained(TextRouter(vectors, report.router), (features, is_gold, outcome), metrics, held_out)


def _vectors(router: Router, comparisons: ComparisonSet) -> TextVectors:
    rows = np.array(comparisons.comparisons.order_by("position").values_list("position", flat=True))
    if len(rows) > MOST_FITTED:
        rows = np.sort(np.random.default_rng([router.seed, 19]).choice(rows, MOST_FITTED, replace=False))
    vectors = TextVectors(str(router.vectors["kind"]), random_state=router.seed)
    return vectors.fit(_queries(comparisons, rows))


def _features(
    comparisons: ComparisonSet, rows: IntArray, vectors: TextVectors, between: Between
) -> FloatArray:
    parts = []
    for start in range(0, len(rows), _BLOCK):
        parts.append(vectors.transform(_queries(comparisons, rows[start : start + _BLOCK])))
        between()
    return np.concatenate(parts)


def _queries(comparisons: ComparisonSet, rows: npt.NDArray[np.int64]) -> Sequence[str]:
    """The queries of these rows, in their order."""
    found: dict[int, str] = {}
    wanted = rows.tolist()
    for start in range(0, len(wanted), 900):
        block = comparisons.comparisons.filter(position__in=wanted[start : start + 900])
        found.update(block.values_list("position", "query"))
    return [found[row] for row in wanted]


def uploaded_scores(router: Router, trained: Trained, between: Between) -> bytes:
    """What the router expects of every row of its set, as kept arrays: of gold rows, what one that was trained without
    them expects.
    """
    assert router.comparison_set is not None  # noqa: S101 (the caller looked)
    found = router.comparison_set.comparisons.order_by("position")
    rows: list[int] = []
    gains: list[FloatArray] = []
    while block := list(
        found.filter(position__gt=rows[-1] if rows else -1).values_list("position", "query")[:_BLOCK]
    ):
        rows.extend(row for row, _ in block)
        gains.append(trained.router.predict([query for _, query in block]))
        between()
    said = dict(zip(rows, np.concatenate(gains).tolist(), strict=True))
    said |= dict(
        zip(
            trained.held_out["held_out_rows"].tolist(),
            trained.held_out["held_out_gains"].tolist(),
            strict=True,
        )
    )
    arrays = {"rows": np.array(rows, dtype="<i8"), "gains": np.array(list(said.values()), dtype="<f8")}
    return write_arrays(arrays, {"router": router.pk})
