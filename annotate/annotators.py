"""The work of annotation runs: a prompted model, or the classifier trained on the calibration labels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db.models import Q

from annotate.connections import connection_settings, run_price
from annotate.contents import BLOCK, item_content, items_in_order, label_specs
from annotate.discussion import opinions_about
from annotate.models import Annotation, AnnotationRun, Item, Label, ModelRun, Project
from annotate.prompts import (
    STEPS,
    Example,
    LabelSpec,
    Opinion,
    annotation_request,
    read_annotation,
    read_confident_annotation,
    read_steps,
)
from jobs import shutdown
from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.recording import call_fields, record, storable
from jobs.work import Work
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings


def request_for(
    run: AnnotationRun,
    project: Project,
    specs: Sequence[LabelSpec],
    item: Item,
    *,
    examples: Sequence[Example] | None = None,
    opinions: Sequence[Opinion] | None = None,
) -> Request:
    """What the run's model is asked about the item. Raises CallError where the item cannot be asked about."""
    try:
        request = annotation_request(
            task_type=project.task_type,
            strategy=run.strategy,
            answer_format=run.answer_format,
            model=run.model,
            labels=specs,
            item=item_content(item),
            instructions=project.instructions,
            max_tokens=run.parameters.get("max_tokens"),
            confidence=run.parameters.get("confidence", False),
            examples=examples,
            opinions=opinions,
        )
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, str(error)) from error
    return replace(request, top_logprobs=run.parameters.get("top_logprobs", 0))


def examples_for(run: AnnotationRun, item: Item) -> list[Example] | None:
    """The labelled items that the run shows with this one; None where it shows none. Raises CallError."""
    if not run.parameters.get("examples"):
        return None
    # scikit-learn takes a second to import: only a process that needs it pays.
    from annotate.example_pool import example_pool

    return example_pool(run.pk).examples(item, run.parameters["examples"])


def read_reply(
    run: AnnotationRun, text: str, specs: Sequence[LabelSpec]
) -> tuple[int | None, float | None, str]:
    """Index of the label, confidence and reasoning that a reply to the run gives; None for what it does not."""
    if run.parameters.get("confidence"):
        return read_confident_annotation(text, run.answer_format, specs)
    if run.strategy == STEPS:
        index, reasoning = read_steps(text, specs)
    else:
        index, reasoning = read_annotation(text, run.answer_format, specs)
    return index, None, reasoning


_DENSE = 10  # ids in a range for each that is meant


def open_items(run: AnnotationRun, item_ids: Sequence[int], since: datetime) -> list[int]:
    """Those of the items that still want an answer: no annotation, or one that failed before `since`."""
    settled = Annotation.objects.filter(_among(item_ids), Q(failure="") | Q(recorded_at__gte=since), run=run)
    ids = set(settled.values_list("item_id", flat=True))
    return [item_id for item_id in item_ids if item_id not in ids]


def _among(item_ids: Sequence[int]) -> Q:
    """These items, and perhaps some between them: to write out thousands takes longer than to read the few more."""
    if not item_ids:
        return Q(pk__in=[])
    first, last = min(item_ids), max(item_ids)
    is_dense = last - first < _DENSE * len(item_ids)
    return Q(item_id__gte=first, item_id__lte=last) if is_dense else Q(item_id__in=item_ids)


def record_annotations(run: AnnotationRun, rows: Sequence[Annotation]) -> Progress:
    """Write annotations of the run, replacing those that failed before."""
    failed = Annotation.objects.filter(run=run, item_id__in=[row.item_id for row in rows]).exclude(failure="")
    return record(rows, {row.item_id: row for row in failed}, subject="item_id")


CUT_OFF = "The answer was cut off at its token limit. A larger limit, or the naive strategy, helps."


class PromptedAnnotation(CallWork):
    kind = "annotation"

    def connection(self, job: Job) -> ConnectionSettings:
        return connection_settings(job.annotationrun)

    def price(self, job: Job) -> Price | None:
        return run_price(job.annotationrun)

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        return open_items(job.annotationrun, subjects, since)

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        run = job.annotationrun
        _, specs = label_specs(run.project)
        for start in range(0, len(subjects), BLOCK):
            block = subjects[start : start + BLOCK]
            opinions = opinions_about(run, block)
            for item in items_in_order(block):
                try:
                    examples = examples_for(run, item)
                    yield (
                        item.pk,
                        request_for(
                            run, run.project, specs, item, examples=examples, opinions=opinions.get(item.pk)
                        ),
                    )
                except CallError as error:
                    yield item.pk, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.annotationrun
        labels, specs = label_specs(run.project)
        price = run_price(run)
        rows = [annotation_of(run, labels, specs, outcome, price) for outcome in outcomes]
        return record_annotations(run, rows)


def annotation_of(
    run: AnnotationRun,
    labels: Sequence[Label],
    specs: Sequence[LabelSpec],
    outcome: Outcome,
    price: Price | None,
) -> Annotation:
    """The annotation that an outcome comes to: with the label that it names, or with why it has none."""
    row = Annotation(run=run, item_id=outcome.subject, **call_fields(outcome, price))
    if outcome.reply is not None:
        index, row.confidence, reasoning = read_reply(run, outcome.reply.text, specs)
        row.reasoning = storable(reasoning or row.reasoning)
        if is_cut_off(run, outcome.reply):
            row.failure, row.message, row.confidence = Failure.UNPARSEABLE, CUT_OFF, None
        elif index is None:
            row.failure = Failure.UNPARSEABLE
            row.message = "The answer does not name one of the labels."
        else:
            row.label = labels[index]
    return row


def is_cut_off(run: ModelRun, reply: Reply) -> bool:
    """Whether the answer ended at its token limit, so that its last brackets may belong to its reasoning."""
    return reply.finish_reason == "length" and (run.answer_format == "bracket" or not reply.text.strip())


class TrainedAnnotation(Work):
    kind = "trained_annotation"

    def run(self, lease: Lease) -> bool:
        # scikit-learn takes a second to import: only a process that needs it pays.
        from annotate.training import annotator_of

        run = lease.job.annotationrun
        annotator = annotator_of(run.pk)
        annotator.fit(between=lease.renew_if_due)
        todo = open_items(run, lease.chunk.subjects, lease.chunk.created_at)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            items = list(items_in_order(todo[start : start + settings.WRITE_BATCH]))
            rows = [
                Annotation(run=run, item=item, label=label, confidence=confidence)
                for item, (label, confidence) in zip(items, annotator.predict(items), strict=True)
            ]
            lease.write(lambda rows=rows: record_annotations(run, rows))  # type: ignore[misc]
        return True
