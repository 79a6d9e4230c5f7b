"""The work of annotation runs whose answers are spans of the item's text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from annotate.annotators import CUT_OFF, PromptedAnnotation, record_annotations
from annotate.connections import run_price
from annotate.contents import item_content, items_in_order
from annotate.extracted import located, read_extraction, span_request
from annotate.models import Annotation, AnnotationRun, Item, Project
from annotate.writing import is_cut_short
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Job
from jobs.recording import call_fields, storable
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request

NOT_READ = "The reply holds neither an answer nor “no answer” in the form that was asked for."
# Characters of what a model quotes, in a message.
_QUOTED = 200


def extracting_request_for(run: AnnotationRun, project: Project, item: Item) -> Request:
    """What the run's model is asked about the item. Raises CallError where it cannot be asked."""
    try:
        request = span_request(
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


class SpanAnnotation(PromptedAnnotation):
    kind = "span_annotation"

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        run = job.annotationrun
        for item in items_in_order(subjects):
            try:
                yield item.pk, extracting_request_for(run, run.project, item)
            except CallError as error:
                yield item.pk, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.annotationrun
        price = run_price(run)
        answered = [outcome.subject for outcome in outcomes if outcome.reply is not None]
        texts = dict(Item.objects.filter(pk__in=answered).values_list("pk", "text"))
        rows = []
        for outcome in outcomes:
            row = Annotation(run=run, item_id=outcome.subject, **call_fields(outcome, price))
            if outcome.reply is not None:
                extract(row, run, texts[outcome.subject], outcome.reply)
            rows.append(row)
        return record_annotations(run, rows)


def extract(row: Annotation, run: AnnotationRun, text: str, reply: Reply) -> None:
    """Fill the row with the span that the reply quotes from the text, or with why there is none."""
    said = read_extraction(reply.text, run.answer_format)
    row.reasoning = storable(said.reasoning or row.reasoning)
    found = None if said.answer is None else located(said.answer, text)
    if is_cut_short(run, reply, is_read=said.answer is not None):
        problem = CUT_OFF
    elif said.answer is None:
        problem = NOT_READ
    elif found is None:
        problem = f"The answer “{storable(said.answer[:_QUOTED])}” does not stand in the text."
    else:
        row.answer, row.start, row.end = found.answer, found.start, found.end
        return
    row.failure, row.message = Failure.UNPARSEABLE, problem
