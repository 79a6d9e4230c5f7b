"""What is known of annotators before a router is trained: on which items each one is right, by people's answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.models import Annotation, AnnotationRun, Item, Project
from annotate.spans import answer_f1
from review.answers import answer_key
from review.priorities import Answer, corrections_of
from route.agents import answering_runs

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_KNOWN = 20  # items whose right answer is known, to learn from
MOST_ITEMS = 50_000  # that a router learns from; of more, a seeded sample


@dataclass(frozen=True)
class Known:
    """What is right about items: (the answers that are right, by `answer_key`), and spans' texts for F1."""

    answers: Mapping[int, Sequence[Answer]]
    texts: Mapping[int, list[dict[str, Any]]]
    from_calibration: int

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True)
class Evidence:
    """Annotators' answers on the n items whose right answer is known and that every one of m annotators answered.

    In order of item id. `is_wrong` and `confidences` (NaN where none was given) are (n, m), and so is `answers`: codes
    that are equal for equal answers, −1 where an annotator failed, which is wrong. `head_is_wrong` is (n, heads, m):
    the start and the end of a span, or the one label. `f1` is (n, m) for spans, else None.
    """

    item_ids: IntArray
    is_wrong: BoolArray
    head_is_wrong: BoolArray
    confidences: FloatArray
    answers: IntArray
    f1: FloatArray | None
    from_calibration: int
    from_corrections: int

    def __len__(self) -> int:
        return len(self.item_ids)

    def part(self, rows: npt.NDArray[np.intp]) -> "Evidence":
        """The evidence of these rows."""
        return Evidence(
            self.item_ids[rows],
            self.is_wrong[rows],
            self.head_is_wrong[rows],
            self.confidences[rows],
            self.answers[rows],
            None if self.f1 is None else self.f1[rows],
            self.from_calibration,
            self.from_corrections,
        )


def said_of_agents(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """What the page of a router says where nothing tells agents apart, or one was never right; `names` (m,)."""
    n = len(evidence)
    if not n:
        return []
    if not evidence.is_wrong.any():
        return [
            f"Every annotator is right on all {n:,} known items: only what their answers cost tells them apart."
        ]
    said = []
    for name, wrong, answers in zip(names, evidence.is_wrong.T, evidence.answers.T, strict=True):
        if wrong.all():
            failed = int((answers < 0).sum())
            without = f" It gave no usable answer to {failed:,} of them." if failed else ""
            said.append(f"{name} is wrong on all {n:,} known items.{without}")
    if len(said) == len(names) > 1:
        said.append("No annotator is ever right, so that items go to whoever costs least.")
    return said


def known_answers(project: Project) -> Known:
    """Calibration labels, which people gave blind, and what people answered in review and audit rounds."""
    answers: dict[int, Sequence[Answer]] = {}
    texts: dict[int, list[dict[str, Any]]] = {}
    for item_id, label_id, gold in project.calibration_labels.values_list("item_id", "label_id", "answers"):
        if gold is None:
            answers[item_id] = [(label_id, "")]
        else:
            texts[item_id] = gold
            answers[item_id] = [_span_key(each["text"]) for each in gold] or [_span_key("")]
    calibrated = len(answers)
    for item_id, answer in corrections_of(project).items():
        answers.setdefault(item_id, [answer])
    return Known(answers, texts, calibrated)


def _span_key(text: str) -> Answer:
    return answer_key(None, text, 0)


def evidence_of(project: Project, runs: Sequence[AnnotationRun]) -> Evidence:
    """The items whose right answer is known and about which each of the runs' annotators was asked."""
    known = known_answers(project)
    said = [_said(answering_runs(run), known) for run in runs]
    shared = sorted(set(known.answers).intersection(*said)) if said else []
    codes: dict[Any, int] = {}
    shape = (len(shared), len(said))
    is_wrong = np.ones(shape, dtype=np.bool_)
    heads = np.ones((len(shared), 2 if project.task.is_span else 1, len(said)), dtype=np.bool_)
    confidences = np.full(shape, np.nan)
    answers = np.full(shape, -1, dtype=np.int64)
    f1 = np.zeros(shape) if project.task.is_span else None
    for column, of_items in enumerate(said):
        for row, item_id in enumerate(shared):
            answer = of_items[item_id]
            if answer is None:
                continue
            key, text, place, confidence = answer
            is_wrong[row, column] = key not in known.answers[item_id]
            heads[row, :, column] = is_wrong[row, column]
            if f1 is not None and is_wrong[row, column] and place is not None:
                heads[row, :, column] = _misplaced(place, known.texts.get(item_id, []))
            answers[row, column] = codes.setdefault(key, len(codes))
            confidences[row, column] = np.nan if confidence is None else confidence
            if f1 is not None and item_id in known.texts:
                f1[row, column] = answer_f1(text, known.texts[item_id])
            elif f1 is not None:
                f1[row, column] = float(not is_wrong[row, column])
    calibrated = project.calibration_labels.filter(item__in=shared).count()
    return Evidence(
        np.array(shared, dtype=np.int64),
        is_wrong,
        heads,
        confidences,
        answers,
        f1,
        calibrated,
        len(shared) - calibrated,
    )


def _misplaced(place: tuple[int, int], gold: Sequence[Mapping[str, Any]]) -> tuple[bool, bool]:
    """Whether the start, and whether the end, of a wrong span is that of no right one."""
    starts = {int(each["start"]) for each in gold if each.get("start") is not None}
    ends = {int(each["start"]) + len(each["text"]) for each in gold if each.get("start") is not None}
    return place[0] not in starts, place[1] not in ends


_Said = tuple[Answer, str, tuple[int, int] | None, float | None]


def _said(runs: Sequence[AnnotationRun], known: Known) -> dict[int, _Said | None]:
    """By item: answer, its text, its place, and confidence; None where the annotator failed. The first run counts."""
    found: dict[int, _Said | None] = {}
    fields = ("item_id", "failure", "label_id", "answer", "start", "end", "confidence")
    for run in runs:
        rows = Annotation.objects.filter(run=run).exclude(failure=Annotation.TO_PERSON)
        for item_id, failure, label_id, answer, start, end, confidence in rows.values_list(
            *fields
        ).iterator():
            if item_id in known.answers and found.get(item_id) is None:
                key = answer_key(label_id, answer, start)
                place = None if start is None or end is None else (start, end)
                found[item_id] = None if failure else (key, answer, place, confidence)
    return found


def open_items(project: Project) -> list[int]:
    """Ids, in order, of the items whose right answer nobody has said: those that a plan hands out."""
    known = known_answers(project).answers
    ids = Item.objects.filter(project=project).order_by("pk").values_list("pk", flat=True)
    return [pk for pk in ids.iterator(chunk_size=10_000) if pk not in known]
