"""The work of runs that combine others: a discussion, and a vote."""

from collections.abc import Sequence
from decimal import Decimal

from django.conf import settings

from annotate.annotators import PromptedAnnotation, open_items, record_annotations
from annotate.discussion import Answers, agree, answers_about
from annotate.models import Annotation, AnnotationRun
from annotate.services.combining import vote_on_discussion
from annotate.voting import majority
from jobs import shutdown
from jobs.leases import Lease
from jobs.models import Job
from jobs.work import Work

NO_VOTES = "None of the annotators gave this item a label. Retry it in their runs first, then here."


class Discussion(PromptedAnnotation):
    """Asks again where the sources disagree; where they agree, their label stays, without a call."""

    kind = "discussion"

    def run(self, lease: Lease) -> bool:
        return self._keep_agreed(lease) and super().run(lease)

    def _keep_agreed(self, lease: Lease) -> bool:
        run = lease.job.annotationrun
        sources = run.parameters["sources"]
        own = sources.index(run.parameters["source"])
        todo = open_items(run, lease.chunk.subjects, lease.chunk.created_at)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            answers = answers_about(sources, todo[start : start + settings.WRITE_BATCH])
            rows = [kept_annotation(run, said[own]) for said in answers.values() if agree(said)]
            lease.write(lambda rows=rows: record_annotations(run, rows))  # type: ignore[misc]
        return True

    def finished(self, job: Job) -> None:
        vote_on_discussion(job.annotationrun)


def kept_annotation(run: AnnotationRun, answer: Annotation | None) -> Annotation:
    """The run's annotation of an item that nobody disputes: the annotator's own, for which nothing is paid again."""
    assert answer is not None  # noqa: S101 (only items with an answer of everybody are kept)
    return Annotation(
        run=run,
        item_id=answer.item_id,
        label=answer.label,
        confidence=answer.confidence,
        reasoning=answer.reasoning,
        raw_text=answer.raw_text,
        model_returned=answer.model_returned,
        cost=Decimal(0),
        attempts=0,
    )


class Vote(Work):
    """Counts what finished runs said. No calls."""

    kind = "vote"

    def run(self, lease: Lease) -> bool:
        run = lease.job.annotationrun
        precedence = run.parameters["precedence"]
        names = {source.pk: source.who for source in run.sources.all()}
        voters = [names.get(source_id, "an annotator that was deleted") for source_id in precedence]
        todo = open_items(run, lease.chunk.subjects, lease.chunk.created_at)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            answers = answers_about(precedence, todo[start : start + settings.WRITE_BATCH])
            rows = [voted_annotation(run, item_id, said, voters) for item_id, said in answers.items()]
            lease.write(lambda rows=rows: record_annotations(run, rows))  # type: ignore[misc]
        return True


def voted_annotation(run: AnnotationRun, item_id: int, answers: Answers, voters: Sequence[str]) -> Annotation:
    """The vote about one item. `answers` and the names of who gave them are in order of precedence."""
    label_id, share = majority([None if answer is None else answer.label_id for answer in answers])
    if label_id is None:
        return Annotation(run=run, item_id=item_id, failure="no_votes", message=NO_VOTES, attempts=0)
    said = zip(answers, voters, strict=True)
    lines = [f"{voter}: {'no answer' if answer is None else answer.label}" for answer, voter in said]
    winners = [answer for answer in answers if answer is not None and answer.label_id == label_id]
    reasoning = next((answer.reasoning for answer in winners if answer.reasoning), "")
    return Annotation(
        run=run,
        item_id=item_id,
        label_id=label_id,
        confidence=share,
        reasoning="\n".join(lines) + (f"\n\n{reasoning}" if reasoning else ""),
        cost=Decimal(0),
        attempts=0,
    )
