"""The work of criticism runs about written answers: each is rated as a whole, or checked fact by fact."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from annotate.annotators import CUT_OFF
from annotate.connections import run_price
from annotate.contents import item_content
from annotate.label_sets import need_label_set
from annotate.models import Annotation, Project
from annotate.prompts import STRATEGIES
from annotate.task_types import TaskType
from annotate.writing import is_cut_short
from criticize.criticizers import PromptedCriticism, record_criticisms
from criticize.fact_checking import (
    FACTS_PROMPT_VERSIONS,
    fact_check_request,
    most_doubtful,
    read_fact_checks,
    stored_facts,
)
from criticize.facts import facts_of
from criticize.models import Criticism, CriticismRun
from criticize.quality import QUALITY_PROMPT_VERSIONS, quality_request, read_quality
from criticize.selectors import annotations_in_order
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Job
from jobs.recording import call_fields, storable
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request

# Of the criticizer strategies, those that need no label.
JUDGE_STRATEGIES = STRATEGIES


def check_judge(project: Project, *, strategy: str, is_trained: bool) -> None:
    """Raise Refusal unless answers can be criticized so, where they are written."""
    if is_trained:
        need_label_set(project, "no classifier can be trained on them: choose a model", field="kind")
    if strategy not in JUDGE_STRATEGIES:
        choices = " or ".join(JUDGE_STRATEGIES)
        need_label_set(
            project, f"{strategy} cannot judge them: choose the strategy {choices}", field="strategy"
        )


def judge_versions(task: TaskType) -> Mapping[str, str]:
    """Version by strategy of what criticizers of written answers are asked."""
    return FACTS_PROMPT_VERSIONS if task.checks_facts else QUALITY_PROMPT_VERSIONS


def judging_request_for(run: CriticismRun, project: Project, annotation: Annotation) -> Request:
    """What the criticizer is asked about the written answer. Raises CallError where it cannot be asked."""
    try:
        if project.task.checks_facts:
            request = fact_check_request(
                strategy=run.strategy,
                answer_format=run.answer_format,
                model=run.model,
                item=item_content(annotation.item),
                answer=annotation.answer,
                facts=facts_of(annotation.answer),
                instructions=project.instructions,
                max_tokens=run.parameters.get("max_tokens"),
            )
        else:
            request = quality_request(
                strategy=run.strategy,
                answer_format=run.answer_format,
                model=run.model,
                item=item_content(annotation.item),
                answer=annotation.answer,
                instructions=project.instructions,
                max_tokens=run.parameters.get("max_tokens"),
            )
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, str(error)) from error
    return replace(request, top_logprobs=run.parameters.get("top_logprobs", 0))


class WrittenCriticism(PromptedCriticism):
    kind = "written_criticism"

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        run = job.criticismrun
        project = run.annotation_run.project
        for annotation in annotations_in_order(subjects):
            try:
                yield annotation.pk, judging_request_for(run, project, annotation)
            except CallError as error:
                yield annotation.pk, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.criticismrun
        task = run.annotation_run.project.task
        price = run_price(run)
        answered = [outcome.subject for outcome in outcomes if outcome.reply is not None]
        answers = dict(Annotation.objects.filter(pk__in=answered).values_list("pk", "answer"))
        rows = []
        for outcome in outcomes:
            row = Criticism(run=run, annotation_id=outcome.subject, **call_fields(outcome, price))
            if outcome.reply is not None:
                judge(row, run, task, answers[outcome.subject], outcome.reply)
            rows.append(row)
        return record_criticisms(run, rows)


def judge(row: Criticism, run: CriticismRun, task: TaskType, answer: str, reply: Reply) -> None:
    """Fill the row with what the reply says about the answer, or with why it cannot be read."""
    if task.checks_facts:
        problem, reasoning = _judge_facts(row, run, answer, reply)
    else:
        problem, reasoning = _judge_quality(row, run, reply)
    row.reasoning = storable(reasoning or row.reasoning)
    if is_cut_short(run, reply, is_read=not problem):
        problem = CUT_OFF
    if problem:
        row.error_prob = row.priority = row.facts = None
        row.failure, row.message = Failure.UNPARSEABLE, problem


def _judge_quality(row: Criticism, run: CriticismRun, reply: Reply) -> tuple[str, str]:
    """What is wrong with the reply, "" if nothing, and its reasoning."""
    quality, reasoning = read_quality(reply.text, run.answer_format)
    if quality is None:
        return "The reply holds no rating between 0 and 1.", reasoning
    row.priority = 1.0 - quality
    return "", reasoning


def _judge_facts(row: Criticism, run: CriticismRun, answer: str, reply: Reply) -> tuple[str, str]:
    facts = facts_of(answer)
    error_probs, reasoning = read_fact_checks(reply.text, run.answer_format, len(facts))
    if error_probs is None:
        return (
            f"The reply does not give each of the {len(facts):,} statements one probability between 0 and 1.",
            reasoning,
        )
    row.facts = stored_facts(facts, error_probs)
    row.error_prob = row.priority = most_doubtful(error_probs)
    return "", reasoning
