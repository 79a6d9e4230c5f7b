"""How good the final answers of a round are where answers are spans of a text."""

from collections.abc import Sequence
from dataclasses import replace

from django.db.models import Q

from annotate.rightness import Judgment, Truth, judgments
from annotate.spans import answer_f1, is_right
from criticize.models import CriticismRun
from review.models import ReviewRound, ReviewTask


def final_spans(round: ReviewRound, run: CriticismRun) -> Sequence[Judgment]:
    """Of each item of the round's annotation run that has gold answers: how good its final answer is.

    That is a person's, in the round or in an audit of it, else the machine's. Of several gold answers the best counts.
    """
    found = {
        each.item_id: each
        for each in judgments(run.annotation_run.annotations.all(), round.project.task, Truth.GOLD)
    }
    answered = ReviewTask.counted.filter(
        Q(round=round) | Q(round__audited=round),
        state=ReviewTask.State.ANSWERED,
        item__gold_answers__isnull=False,
    )
    # Of an item that was audited before it was reviewed, the review's answer is the last word.
    rows = answered.order_by("-round_id").values_list("item_id", "correction__answer", "item__gold_answers")
    for item_id, answer, gold in rows:
        if item_id in found and gold is not None:
            found[item_id] = replace(
                found[item_id], is_right=is_right(answer, gold), f1=answer_f1(answer, gold)
            )
    return list(found.values())
