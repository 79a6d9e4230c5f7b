"""The work of criticism runs: a prompted model, or the cross-fitted classifier of another family."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db.models import Q

from annotate.annotators import CUT_OFF, is_cut_off
from annotate.connections import connection_settings, run_price
from annotate.contents import item_content, label_specs
from annotate.models import Annotation, Project
from annotate.prompts import LabelSpec
from criticize.methods import METHODS
from criticize.models import Criticism, CriticismRun
from criticize.prompts import Question
from criticize.selectors import annotations_in_order
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
    run: CriticismRun, project: Project, specs: Sequence[LabelSpec], annotation: Annotation
) -> Request:
    """What the criticizer is asked about the annotation. Raises CallError where it cannot be asked."""
    label = annotation.label
    question = Question(
        task_type=project.task_type,
        strategy=run.strategy,
        answer_format=run.answer_format,
        model=run.model,
        item=item_content(annotation.item),
        labels=specs,
        label=None if label is None else LabelSpec(label.name, label.description),
        answer=None if annotation.start is None else annotation.answer,
        reasoning=annotation.reasoning,
        instructions=project.instructions,
        max_tokens=run.parameters.get("max_tokens"),
    )
    try:
        request = METHODS[run.strategy].ask(question)
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, str(error)) from error
    return replace(request, top_logprobs=max(request.top_logprobs, run.parameters.get("top_logprobs", 0)))


def open_annotations(run: CriticismRun, annotation_ids: Sequence[int], since: datetime) -> list[int]:
    """Those that still want an answer: no criticism, or one that failed before `since`."""
    settled = set(
        Criticism.objects.filter(
            Q(failure="") | Q(recorded_at__gte=since), run=run, annotation_id__in=annotation_ids
        ).values_list("annotation_id", flat=True)
    )
    return [pk for pk in annotation_ids if pk not in settled]


def record_criticisms(run: CriticismRun, rows: Sequence[Criticism]) -> Progress:
    """Write criticisms of the run, replacing those that failed before."""
    ids = [row.annotation_id for row in rows]
    failed = Criticism.objects.filter(run=run, annotation_id__in=ids).exclude(failure="")
    return record(rows, {row.annotation_id: row for row in failed}, subject="annotation_id")


def read_into(row: Criticism, run: CriticismRun, reply: Reply) -> None:
    """Fill the row with what the reply says, or with why it cannot be read."""
    reading = METHODS[run.strategy].read(reply, run.answer_format)
    row.reasoning = storable(reading.reasoning or row.reasoning)
    if is_cut_off(run, reply) or (reading.problem and reply.finish_reason == "length"):
        row.failure, row.message = Failure.UNPARSEABLE, CUT_OFF
    elif reading.problem:
        row.failure, row.message = Failure.UNPARSEABLE, reading.problem
    else:
        row.error_prob, row.priority = reading.error_prob, reading.priority
    if reading.answer_token is not None and row.logprobs is not None:
        # The alternatives at the token that ε̂ was computed from are kept beside it.
        top = reply.logprobs[reading.answer_token].top
        row.logprobs[reading.answer_token].append([[storable(token), logprob] for token, logprob in top])


class PromptedCriticism(CallWork):
    kind = "criticism"

    def connection(self, job: Job) -> ConnectionSettings:
        return connection_settings(job.criticismrun)

    def price(self, job: Job) -> Price | None:
        return run_price(job.criticismrun)

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        return open_annotations(job.criticismrun, subjects, since)

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        run = job.criticismrun
        project = run.annotation_run.project
        _, specs = label_specs(project)
        for annotation in annotations_in_order(subjects):
            try:
                yield annotation.pk, request_for(run, project, specs, annotation)
            except CallError as error:
                yield annotation.pk, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.criticismrun
        price = run_price(run)
        rows = []
        for outcome in outcomes:
            row = Criticism(run=run, annotation_id=outcome.subject, **call_fields(outcome, price))
            if outcome.reply is not None:
                read_into(row, run, outcome.reply)
            rows.append(row)
        return record_criticisms(run, rows)


class TrainedCriticism(Work):
    kind = "trained_criticism"

    def run(self, lease: Lease) -> bool:
        # scikit-learn takes a second to import: only a process that needs it pays.
        from criticize.training import fitted_criticizer

        run = lease.job.criticismrun
        fitted = fitted_criticizer(run.pk)
        todo = open_annotations(run, lease.chunk.subjects, lease.chunk.created_at)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            annotations = list(annotations_in_order(todo[start : start + settings.WRITE_BATCH]))
            error_probs = fitted.error_probabilities(annotations)
            rows = [
                Criticism(
                    run=run, annotation=annotation, error_prob=float(error_prob), priority=float(error_prob)
                )
                for annotation, error_prob in zip(annotations, error_probs, strict=True)
            ]
            lease.write(lambda rows=rows: record_criticisms(run, rows))  # type: ignore[misc]
        return True
