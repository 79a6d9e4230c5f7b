"""What a router among annotators learns from: gold gains by people's answers, and judges' preferences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from annotate.models import AnnotationRun, Project
from route.agents import runs_of_annotator
from route.evidence import MIN_KNOWN, Evidence, evidence_of, known_answers
from route.meta_metrics import FloatArray
from route.models import JudgeRun

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MIN_UNLIKE = 5  # gold items on which one annotator is right and the other wrong
MIN_PREFERENCES = 20
MOST_COMPARISONS = 50_000  # of each source; of more, a seeded sample


class Rows(NamedTuple):
    """Comparisons one below the other, gold first: each about an item, with quality(first) − quality(second) of a pair
    of positions, (n, 2).
    """

    item_ids: IntArray
    pairs: IntArray
    is_gold: BoolArray
    outcome: FloatArray


@dataclass(frozen=True)
class Comparisons:
    """What is known of annotators, the default (of two: the cheap one) first, as `names` has them.

    `evidence` is where people said what is right and every annotator answered. `preferences` (p,) in {−1, 0, 1} are
    judges' on other items, `preferred_ids` (p,), between the two at the positions `preferred_pairs` (p, 2), the later
    one first: 1 where its answer is better.
    """

    names: tuple[str, ...]
    evidence: Evidence
    preferred_ids: IntArray
    preferred_pairs: IntArray
    preferences: FloatArray

    @property
    def gains(self) -> FloatArray:
        """Gold gains over the default, (items, annotators), in {−1, 0, 1}."""
        wrong = self.evidence.is_wrong.astype(float)
        gains: FloatArray = wrong[:, :1] - wrong
        return gains

    @property
    def unlike(self) -> int:
        """Gold items on which some are right and some wrong."""
        return int((self.gains != 0).any(axis=1).sum())

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The share of gold items that each annotator has right; 0 without any."""
        right = ~self.evidence.is_wrong
        return tuple(right.mean(axis=0).tolist()) if len(right) else (0.0,) * len(self.names)

    @property
    def counted(self) -> list[tuple[str, float, int, int]]:
        """By annotator: name, accuracy, gold items on which it and the default differ in being right, and preferences
        between it and the default.
        """
        return [
            (
                name,
                self.accuracies[position],
                int((self.gains[:, position] != 0).sum()),
                int(self._with_default(position).sum()),
            )
            for position, name in enumerate(self.names)
        ]

    def rows(self) -> Rows:
        """All comparisons: of gold items every pair of annotators, the later one first."""
        pairs = [(k, other) for k in range(1, len(self.names)) for other in range(k)]
        wrong = self.evidence.is_wrong.astype(float)
        gold = np.stack([wrong[:, other] - wrong[:, k] for k, other in pairs], axis=1)
        n = len(gold)
        return Rows(
            np.concatenate([np.repeat(self.evidence.item_ids, len(pairs)), self.preferred_ids]),
            np.concatenate([np.tile(np.array(pairs, dtype=np.int64), (n, 1)), self.preferred_pairs]),
            np.arange(gold.size + len(self.preferences)) < gold.size,
            np.concatenate([gold.ravel(), self.preferences]),
        )

    def problem(self) -> str:
        """Why no router can be learned from it, and what to do about that; "" where one can."""
        all_of_them = "both annotators" if len(self.names) == 2 else f"all {len(self.names)} annotators"
        if len(self.evidence) < MIN_KNOWN:
            return (
                f"Of {len(self.evidence):,} items it is known what is right and {all_of_them} have answered them; at "
                f"least {MIN_KNOWN} are needed. Label more calibration items, and try {all_of_them} on them on the "
                "page “Candidates”."
            )
        others = range(1, len(self.names))
        return next(filter(None, map(self._alike, others)), "") or next(
            filter(None, map(self._not_preferred, others)), ""
        )

    def _with_default(self, position: int) -> BoolArray:
        return np.asarray((self.preferred_pairs == (position, 0)).all(axis=1))

    def _called(self, position: int) -> str:
        if len(self.names) > 2:
            return self.names[position]
        return "the premium annotator" if position else "the cheap annotator"

    def _not_preferred(self, position: int) -> str:
        said = self.preferences[self._with_default(position)]
        both = "both annotators" if len(self.names) == 2 else f"{self.names[position]} and {self.names[0]}"
        if len(said) < MIN_PREFERENCES:
            whose = "the answers" if len(self.names) == 2 else f"the answers of {both}"
            return (
                f"The judge has compared {whose} to {len(said):,} items without a person's answer; at "
                f"least {MIN_PREFERENCES} are needed. Let {both} answer more items, and compare them."
            )
        if (said == said[0]).all():
            whose = {
                1: f"{self._called(position)}'s answer",
                -1: f"{self._called(0)}'s answer",
                0: "neither answer" if len(self.names) == 2 else f"neither answer of {both}",
            }[int(said[0])]
            return (
                f"The judge prefers {whose} everywhere, so nothing can be learned from it. "
                "Let another model compare the answers."
            )
        return ""

    def _alike(self, position: int) -> str:
        unlike = int((self.gains[:, position] != 0).sum())
        if unlike >= MIN_UNLIKE:
            return self.one_sided()
        default, other = self.accuracies[0], self.accuracies[position]
        if len(self.names) == 2:
            whom = "one annotator is right and the other wrong"
            better = "the premium one is better anyway" if other > default else "the cheap one is as good"
        else:
            whom = f"one of {self.names[0]} and {self.names[position]} is right and the other wrong"
            best, how = (
                (self.names[position], "better anyway") if other > default else (self.names[0], "as good")
            )
            better = f"{best} is {how}"
        return (
            f"Only on {unlike:,} of {len(self.evidence):,} items whose right answer is known {whom}; at least "
            f"{MIN_UNLIKE} are needed to learn where that is so. As far as these items tell, {better}. Label more "
            "calibration items, or choose annotators that differ more."
        )

    def one_sided(self) -> str:
        """Why there is nothing to choose between two, one of whom is right and the other wrong nearly everywhere."""
        if len(self.names) > 2 or not len(self.evidence):
            return ""
        n, gain = len(self.evidence), self.gains[:, 1]
        most = max(int((gain == 1).sum()), int((gain == -1).sum()))
        if n - most >= MIN_UNLIKE:
            return ""
        better, worse = self._called(int(gain.sum() > 0)), self._called(int(gain.sum() <= 0))
        where = f"all {n:,} items" if most == n else f"{most:,} of {n:,} items"
        return (
            f"On {where} whose right answer is known {better} is right and {worse} wrong, so there is nothing to "
            f"choose between them: take {better}. If you doubt that, label more calibration items; on at least "
            f"{MIN_UNLIKE} it must be otherwise."
        )


def positions_of(runs: Sequence[AnnotationRun]) -> dict[int, int]:
    """By run of one of the annotators of these runs: its annotator's position among them."""
    found: dict[int, int] = {}
    for position, run in enumerate(runs):
        for pk in runs_of_annotator(run):
            found.setdefault(pk, position)
    return found


def comparisons_of(
    project: Project, runs: Sequence[AnnotationRun], judge_runs: Sequence[JudgeRun], *, seed: int
) -> Comparisons:
    """What is known of the runs' annotators by people's answers, and by judges where people have said nothing.

    Judge runs of other annotators say nothing about these.
    """
    evidence = evidence_of(project, runs)
    rng = np.random.default_rng([seed, 13])
    most = MOST_COMPARISONS // (len(runs) * (len(runs) - 1) // 2)
    if len(evidence) > most:
        evidence = evidence.part(np.sort(rng.choice(len(evidence), most, replace=False)))
    known = known_answers(project).answers
    positions = positions_of(runs)
    ids, pairs, values = [], [], []
    for judge_run in judge_runs:
        if not {judge_run.premium_id, judge_run.cheap_id} <= positions.keys():
            continue
        places = positions[judge_run.premium_id], positions[judge_run.cheap_id]
        pair, sign = (max(places), min(places)), 1 if places[0] > places[1] else -1
        rows = judge_run.preferences.filter(failure="").order_by("item_id")
        for item_id, value in rows.values_list("item_id", "value").iterator(chunk_size=10_000):
            if value is not None and item_id not in known:
                ids.append(item_id)
                pairs.append(pair)
                values.append(sign * value)
    preferred, preferences = np.array(ids, dtype=np.int64), np.array(values, dtype=float)
    between = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    if len(preferred) > MOST_COMPARISONS:
        kept = np.sort(rng.choice(len(preferred), MOST_COMPARISONS, replace=False))
        preferred, between, preferences = preferred[kept], between[kept], preferences[kept]
    return Comparisons(tuple(run.who for run in runs), evidence, preferred, between, preferences)
