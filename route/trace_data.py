"""What a trace-aware router is learned from: traces of an annotator on items whose right answer is known, and
their use.

Which items are for what is fixed when the training is asked for, and kept as arrays: labels that come later change
neither what is asked nor what is learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from django.core.files.base import ContentFile

from annotate.array_files import read_arrays, write_arrays
from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, Project
from route.agents import answering_runs
from route.evidence import MIN_KNOWN, evidence_of
from route.models import Router, router_path
from route.replay import escalation_budget
from route.trace import steps_of

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RISK, DEMO, DEV = 0, 1, 2
NOT_SPLIT = -1  # until the job that trains has the vectors by which topics are held out


@dataclass(frozen=True, slots=True)
class Trace:
    """What an annotator wrote about an item, and what that took: output tokens, seconds."""

    text: str
    steps: tuple[str, ...]
    tokens: int
    seconds: float

    def share_read(self, stopped_at: int) -> float:
        """The share of the text that was written when step `stopped_at` was complete; 1 for 0, to the end."""
        if not stopped_at or not self.text:
            return 1.0
        end = 0
        for step in self.steps[:stopped_at]:
            found = self.text.find(step.split("\n")[0], end)
            end = (end if found < 0 else found) + len(step)
        return min(1.0, end / len(self.text))


@dataclass(frozen=True, slots=True)
class KnownTraces:
    """Items whose right answer is known and that the annotator answered, (n,) each: in order of item id.

    `is_error`: its label differs from the right one. `use` is RISK, DEMO or DEV, or NOT_SPLIT.
    """

    item_ids: IntArray
    is_error: BoolArray
    use: IntArray

    def of(self, use: int) -> tuple[list[int], BoolArray]:
        """Ids of the items for one use, and whether each is an error."""
        mine = self.use == use
        return self.item_ids[mine].tolist(), self.is_error[mine]

    @property
    def is_split(self) -> bool:
        return bool((self.use != NOT_SPLIT).all())

    def check_choosable(self, limit: float, who: str) -> None:
        """Raise Refusal where no setting could be told from another by the development items, within ρ = `limit`.

        So before anything is asked about them: what is paid then would teach nothing.
        """
        n, wrong = len(self.is_error), int(self.is_error.sum())
        if not wrong:
            raise Refusal(
                f"{who} is right on all {n:,} known items, so there is no error that a router could learn to stop. "
                "Annotate without a router, or label more calibration items and try the annotator on them.",
                field="run",
            )
        if wrong == n:
            raise Refusal(
                f"{who} is wrong on all {n:,} known items, so nothing tells apart whom to stop. Choose another "
                "annotator, or mend the instructions, and try it again.",
                field="run",
            )
        if not self.is_split:
            return
        errors = self.of(DEV)[1]
        if not errors.any() or errors.all():
            raise Refusal(
                f"{who} is wrong on {wrong:,} of {n:,} known items, and on {'all' if errors.any() else 'none'} of "
                f"the {len(errors):,} on which the setting would be chosen, so one setting is as good there as "
                "another. Label more calibration items, and try the annotator on them.",
                field="run",
            )
        if not escalation_budget(limit, len(errors)):
            raise Refusal(
                f"The setting is chosen on {len(errors):,} known items, and {limit:.0%} of them is less than one, so "
                "only a router that never stops anybody would do. Allow more, or label more calibration items.",
                field="limit",
            )

    def unsplit(self) -> "KnownTraces":
        """The same items, for nothing yet."""
        return replace(self, use=np.full(len(self.use), NOT_SPLIT, dtype=np.int64))

    def split_by_topic(self, vectors: FloatArray, seed: int) -> "KnownTraces":
        """The same items, those of the farthest topics for DEV. Raises ValueError where topics cannot be held out."""
        from route.splits import topics_held_out

        split, _ = topics_held_out(vectors, self.is_error, seed=seed)
        use = np.empty(len(self.use), dtype=np.int64)
        use[split.risk], use[split.demo], use[split.dev] = RISK, DEMO, DEV
        return replace(self, use=use)


def split_known(project: Project, run: AnnotationRun, *, seed: int, most: int) -> KnownTraces:
    """The annotator's known items, at most `most` of them by a seeded sample, split by use.

    Items of which it gave no label are left out. Raises ValueError for fewer than `MIN_KNOWN`.
    """
    # scikit-learn takes a second to import: only a process that needs it pays.
    from route.splits import risk_demo_dev

    evidence = evidence_of(project, [run])
    answered = np.flatnonzero(evidence.answers[:, 0] >= 0) if len(evidence) else np.zeros(0, dtype=np.intp)
    if len(answered) < MIN_KNOWN:
        unlabeled = len(evidence) - len(answered)
        without = f" It gave no label that could be read to {unlabeled:,} others." if unlabeled else ""
        raise ValueError(
            f"{run.who} has labeled {len(answered):,} items of which it is known what is right; at least {MIN_KNOWN} "
            f"are needed.{without} Label more calibration items and try the annotator on them, or try another one."
        )
    if len(answered) > most:
        rng = np.random.default_rng([seed, 13])
        answered = np.sort(rng.choice(answered, most, replace=False))
    errors = evidence.is_wrong[answered, 0]
    split = risk_demo_dev(errors, seed=seed)
    use = np.empty(len(answered), dtype=np.int64)
    use[split.risk], use[split.demo], use[split.dev] = RISK, DEMO, DEV
    return KnownTraces(evidence.item_ids[answered], errors, use)


def traces_of(run: AnnotationRun, item_ids: Sequence[int]) -> dict[int, Trace]:
    """By item: what the annotator of the run wrote, where it gave a label."""
    found: dict[int, Trace] = {}
    fields = ("item_id", "raw_text", "output_tokens", "latency")
    for each in reversed(answering_runs(run)):
        rows = Annotation.objects.filter(run=each, item__in=item_ids, failure="").values_list(*fields)
        for item_id, text, tokens, seconds in rows.iterator(chunk_size=1000):
            found[item_id] = Trace(text, tuple(steps_of(text)), tokens, seconds)
    return found


def store_known(router: Router, known: KnownTraces) -> None:
    """Keep which items are for what, before anything is asked."""
    storage, name = router.scores.storage, router_path(router, "scores")
    try:
        router.scores = storage.save(name, ContentFile(_file(router, known)))
    except BaseException:
        storage.delete(name)  # half of one too
        raise


def with_scores(router: Router, known: KnownTraces, item_ids: Sequence[int], scores: FloatArray) -> bytes:
    """The same with p̂ of the items that are left, (n,), as `route.training.keep` takes it."""
    return _file(router, known, item_ids, scores)


def _file(
    router: Router, known: KnownTraces, item_ids: Sequence[int] = (), scores: FloatArray | None = None
) -> bytes:
    said = np.zeros(0) if scores is None else scores
    arrays = {
        "item_ids": np.array(item_ids, dtype="<i8"),
        "scores": said.astype("<f4").reshape(-1, 1),
        "known_ids": known.item_ids.astype("<i8"),
        "known_errors": known.is_error,
        "known_uses": known.use.astype("<i8"),
    }
    return write_arrays(arrays, {"router": router.pk})


def known_traces(router: Router) -> KnownTraces:
    """Which items the router is learned from, and what each is for."""
    with router.scores.open("rb") as file:
        arrays, _ = read_arrays(file.read())
    return KnownTraces(
        arrays["known_ids"].astype(np.int64),
        arrays["known_errors"].astype(np.bool_),
        arrays["known_uses"].astype(np.int64),
    )
