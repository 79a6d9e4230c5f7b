"""What a router between a cheap and a premium annotator learns from: gold gains, and a judge's preferences."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.models import AnnotationRun, Project
from route.evidence import MIN_KNOWN, Evidence, evidence_of, known_answers
from route.meta_metrics import FloatArray
from route.models import JudgeRun

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MIN_UNLIKE = 5  # gold items on which one annotator is right and the other wrong
MIN_PREFERENCES = 20
MOST_COMPARISONS = 50_000  # of each source; of more, a seeded sample


@dataclass(frozen=True)
class Comparisons:
    """Gold gains, (g,), in {−1, 0, 1} and preferences, (p,), likewise: premium minus cheap, with the items' ids.

    Gold is on items whose right answer is known, preferences are on the others. `evidence` is what is known of the two
    annotators, the cheap one first.
    """

    evidence: Evidence
    gold: FloatArray
    preferred_ids: IntArray
    preferences: FloatArray

    @property
    def unlike(self) -> int:
        """Gold items on which exactly one of the two is right."""
        return int((self.gold != 0).sum())

    @property
    def accuracies(self) -> tuple[float, float]:
        """The share of gold items that the cheap, and that the premium annotator has right; 0 without any."""
        right = ~self.evidence.is_wrong
        return (float(right[:, 0].mean()), float(right[:, 1].mean())) if len(right) else (0.0, 0.0)

    def problem(self) -> str:
        """Why no router can be learned from it, and what to do about that; "" where one can."""
        if len(self.gold) < MIN_KNOWN:
            return (
                f"Of {len(self.gold):,} items it is known what is right and both annotators have answered them; at "
                f"least {MIN_KNOWN} are needed. Label more calibration items, and try both annotators on them on the "
                "page “Candidates”."
            )
        if self.unlike < MIN_UNLIKE:
            return self._alike()
        if len(self.preferences) < MIN_PREFERENCES:
            return (
                f"The judge has compared the answers to {len(self.preferences):,} items without a person's label; at "
                f"least {MIN_PREFERENCES} are needed. Let both annotators answer more items, and compare them."
            )
        if (self.preferences == self.preferences[0]).all():
            whose = {
                1: "the premium annotator's answer",
                -1: "the cheap annotator's answer",
                0: "neither answer",
            }
            return (
                f"The judge prefers {whose[int(self.preferences[0])]} everywhere, so nothing can be learned from it. "
                "Let another model compare the answers."
            )
        return ""

    def _alike(self) -> str:
        cheap, premium = self.accuracies
        better = "the premium one is better anyway" if premium > cheap else "the cheap one is as good"
        return (
            f"Only on {self.unlike:,} of {len(self.gold):,} items whose right answer is known is one annotator right "
            f"and the other wrong; at least {MIN_UNLIKE} are needed to learn where that is so. As far as these items "
            f"tell, {better}. Label more calibration items, or choose two annotators that differ more."
        )


def comparisons_of(
    project: Project,
    cheap: AnnotationRun,
    premium: AnnotationRun,
    judge_run: JudgeRun | None,
    *,
    seed: int,
) -> Comparisons:
    """What is known of the two by people's labels, and by the judge where people have not said what is right."""
    evidence = evidence_of(project, [cheap, premium])
    rng = np.random.default_rng([seed, 13])
    if len(evidence) > MOST_COMPARISONS:
        evidence = evidence.part(np.sort(rng.choice(len(evidence), MOST_COMPARISONS, replace=False)))
    ids, values = [], []
    if judge_run is not None:
        known = known_answers(project).answers
        rows = judge_run.preferences.filter(failure="").order_by("item_id")
        for item_id, value in rows.values_list("item_id", "value").iterator(chunk_size=10_000):
            if item_id not in known:
                ids.append(item_id)
                values.append(value)
    preferred, preferences = np.array(ids, dtype=np.int64), np.array(values, dtype=float)
    if len(preferred) > MOST_COMPARISONS:
        kept = np.sort(rng.choice(len(preferred), MOST_COMPARISONS, replace=False))
        preferred, preferences = preferred[kept], preferences[kept]
    gold = evidence.is_wrong[:, 0].astype(float) - evidence.is_wrong[:, 1].astype(float)
    return Comparisons(evidence, gold, preferred, preferences)
