"""The work of annotation runs whose answers are written."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from annotate.annotators import CUT_OFF, PromptedAnnotation, record_annotations
from annotate.connections import run_price
from annotate.contents import item_content, items_in_order
from annotate.models import Annotation, AnnotationRun, Item, ModelRun, Project
from annotate.written import clean_answer, read_written, written_request
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Job
from jobs.recording import call_fields, storable
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request


def writing_request_for(run: AnnotationRun, project: Project, item: Item) -> Request:
    """What the run's model is asked to write about the item. Raises CallError where it cannot be asked."""
    try:
        request = written_request(
            task_type=project.task_type,
            strategy=run.strategy,
            answer_format=run.answer_format,
            model=run.model,
            item=item_content(item),
            instructions=project.instructions,
            max_tokens=run.parameters.get("max_tokens"),
        )
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, str(error)) from error
    return replace(request, top_logprobs=run.parameters.get("top_logprobs", 0))


class WrittenAnnotation(PromptedAnnotation):
    kind = "written_annotation"

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        run = job.annotationrun
        for item in items_in_order(subjects):
            try:
                yield item.pk, writing_request_for(run, run.project, item)
            except CallError as error:
                yield item.pk, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.annotationrun
        price = run_price(run)
        rows = []
        for outcome in outcomes:
            row = Annotation(run=run, item_id=outcome.subject, **call_fields(outcome, price))
            if outcome.reply is not None:
                answer, reasoning = read_written(outcome.reply.text, run.strategy, run.answer_format)
                row.reasoning = storable(reasoning or row.reasoning)
                row.answer = clean_answer(storable(answer or ""))
                if is_cut_short(run, outcome.reply, is_read=bool(row.answer)):
                    row.answer, row.failure, row.message = "", Failure.UNPARSEABLE, CUT_OFF
                elif not row.answer:
                    row.failure = Failure.UNPARSEABLE
                    row.message = "The reply holds no answer in the form that was asked for."
            rows.append(row)
        return record_annotations(run, rows)


def is_cut_short(run: ModelRun, reply: Reply, *, is_read: bool) -> bool:
    """Whether the reply ended at its token limit before it was whole: only JSON that could be read surely was."""
    return reply.finish_reason == "length" and not (run.answer_format == "structured" and is_read)
