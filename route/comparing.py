"""The work of judge runs: a model compares what two annotators said about the same items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from django.db.models import Q

from annotate.annotators import CUT_OFF
from annotate.connections import connection_settings, run_price
from annotate.contents import BLOCK, item_content, items_in_order, label_specs
from annotate.models import Annotation, Item, Project
from annotate.prompts import LabelSpec
from annotate.writing import is_cut_short
from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Job
from jobs.recording import call_fields, record, storable
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings
from route.comparison_prompts import FIRST, SECOND, Pair, comparison_request, read_comparison
from route.models import JudgeRun, Preference

NOT_READ = "The reply does not say which answer is better in the form that was asked for."
ANSWER_GONE = "One of the two answers is gone. Retry it in its annotator's run first, then here."


def is_premium_first(seed: int, item_id: int) -> bool:
    """Whether the premium annotator's answer stands first: drawn for each item by the run's seed."""
    return bool(np.random.default_rng([seed, item_id, 7]).random() < 0.5)


def answers_by(run_ids: Sequence[int], item_ids: Sequence[int]) -> dict[int, Annotation]:
    """By item: what the first of these runs that answered it says."""
    place = {pk: number for number, pk in enumerate(run_ids)}
    rows = Annotation.objects.filter(run__in=run_ids, item__in=item_ids, failure="").select_related("label")
    found: dict[int, Annotation] = {}
    for row in sorted(rows, key=lambda row: place[row.run_id], reverse=True):
        found[row.item_id] = row
    return found


def said(answer: Annotation) -> str:
    """An answer in words: the label's name, or the text."""
    return answer.label.name if answer.label is not None else answer.answer


def comparing_request_for(
    run: JudgeRun,
    project: Project,
    specs: Sequence[LabelSpec],
    item: Item,
    cheap: Mapping[int, Annotation],
    premium: Mapping[int, Annotation],
) -> Request:
    """What the judge is asked about the item's two answers. Raises CallError where it cannot be asked."""
    if item.pk not in cheap or item.pk not in premium:
        raise CallError(Failure.BAD_REQUEST, ANSWER_GONE)
    first, second = cheap[item.pk], premium[item.pk]
    if is_premium_first(run.seed, item.pk):
        first, second = second, first
    try:
        request = comparison_request(
            task_type=project.task_type,
            strategy=run.strategy,
            answer_format=run.answer_format,
            model=run.model,
            pair=Pair(item_content(item), said(first), said(second)),
            labels=specs,
            instructions=project.instructions,
            max_tokens=run.parameters.get("max_tokens"),
        )
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, str(error)) from error
    return replace(request, top_logprobs=run.parameters.get("top_logprobs", 0))


def requests_about(run: JudgeRun, item_ids: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
    """What the judge is asked about each item, in order."""
    _, specs = label_specs(run.project)
    for start in range(0, len(item_ids), BLOCK):
        block = item_ids[start : start + BLOCK]
        cheap = answers_by(run.parameters["cheap_runs"], block)
        premium = answers_by(run.parameters["premium_runs"], block)
        for item in items_in_order(block):
            try:
                yield item.pk, comparing_request_for(run, run.project, specs, item, cheap, premium)
            except CallError as error:
                yield item.pk, error


class Comparing(CallWork):
    kind = "comparison"

    def connection(self, job: Job) -> ConnectionSettings:
        return connection_settings(job.judgerun)

    def price(self, job: Job) -> Price | None:
        return run_price(job.judgerun)

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        settled = set(
            Preference.objects.filter(
                Q(failure="") | Q(recorded_at__gte=since), run=job.judgerun, item_id__in=subjects
            ).values_list("item_id", flat=True)
        )
        return [pk for pk in subjects if pk not in settled]

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        return requests_about(job.judgerun, subjects)

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        run = job.judgerun
        price = run_price(run)
        rows = []
        for outcome in outcomes:
            row = Preference(
                run=run,
                item_id=outcome.subject,
                premium_first=is_premium_first(run.seed, outcome.subject),
                **call_fields(outcome, price),
            )
            if outcome.reply is not None:
                read_into(row, run, outcome.reply)
            rows.append(row)
        ids = [row.item_id for row in rows]
        failed = Preference.objects.filter(run=run, item_id__in=ids).exclude(failure="")
        return record(rows, {row.item_id: row for row in failed}, subject="item_id")


def read_into(row: Preference, run: JudgeRun, reply: Reply) -> None:
    """Fill the row with whom the reply prefers, or with why it cannot be read."""
    better, reasoning = read_comparison(reply.text, run.answer_format)
    row.reasoning = storable(reasoning or row.reasoning)
    if is_cut_short(run, reply, is_read=better is not None):
        row.failure, row.message = Failure.UNPARSEABLE, CUT_OFF
    elif better is None:
        row.failure, row.message = Failure.UNPARSEABLE, NOT_READ
    elif better in (FIRST, SECOND):
        row.value = 1 if (better == FIRST) == row.premium_first else -1
    else:
        row.value = 0
