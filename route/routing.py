"""The work of routed runs: it gathers the answers that a plan's agents gave, one an item."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from annotate.annotators import open_items, record_annotations
from annotate.models import Annotation, AnnotationRun
from jobs import shutdown
from jobs.leases import Lease
from jobs.models import Job
from jobs.work import Work
from review.models import ReviewRound
from review.services.routed import settle_routed_round
from route.agents import agents_of_items, runs_by

NO_ANSWER = "no_answer"
NO_ANSWER_MESSAGE = "Its agent gave no answer: {reason} Retry it in the agent's run first, then here."
_LOOK_AGAIN = timedelta(seconds=3)


class Routing(Work):
    """Takes each item's annotation from the run of the agent that the plan gave it to, as the runs go on. No calls."""

    kind = "routing"

    def run(self, lease: Lease) -> bool:
        run = lease.job.annotationrun
        todo = open_items(run, lease.chunk.subjects, lease.chunk.created_at)
        is_over = not run.sources.exclude(job__state__in=_OVER).exists()
        runs, agents = runs_of_agents(run), agents_of_items(run.plan, todo)
        waits = False
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            block = todo[start : start + settings.WRITE_BATCH]
            rows = taken(run, {pk: agents[pk] for pk in block}, runs, is_over=is_over)
            waits = waits or len(rows) < len(block)
            if rows:
                lease.write(lambda rows=rows: record_annotations(run, rows))  # type: ignore[misc]
            lease.renew_if_due()
        if waits:
            lease.release(until=timezone.now() + _LOOK_AGAIN)
            return False
        return True

    def finished(self, job: Job) -> None:
        round = ReviewRound.objects.filter(routed_run=job.annotationrun).first()
        if round is not None:
            settle_routed_round(round)


_OVER = [Job.State.DONE, Job.State.FAILED, Job.State.CANCELLED]


def runs_of_agents(run: AnnotationRun) -> dict[int, list[int]]:
    """By position of the agent: the routed run's sources that hold its answers."""
    sources = set(run.sources.values_list("pk", flat=True))
    agents = run.plan.router.agents.select_related("run__project")
    return {agent.position: [each.pk for each in runs_by(agent) if each.pk in sources] for agent in agents}


def taken(
    run: AnnotationRun, agents: Mapping[int, int], runs: Mapping[int, list[int]], *, is_over: bool
) -> list[Annotation]:
    """The run's annotations of those items that their agents answered; with `is_over` of all, failed ones too.

    `agents` is the position of each item's agent, `runs` as of `runs_of_agents`.
    """
    found = []
    by_agent: dict[int, list[int]] = {}
    for item_id, position in agents.items():
        by_agent.setdefault(position, []).append(item_id)
    for position, items in by_agent.items():
        answers = Annotation.objects.filter(run__in=runs[position], item__in=items).order_by("run_id")
        said = {answer.item_id: answer for answer in answers if not answer.failure}
        why = {answer.item_id: answer.message for answer in answers if answer.failure}
        found += [_copy(run, said[item_id]) for item_id in items if item_id in said]
        if is_over:
            found += [
                _without(run, item_id, why.get(item_id, "")) for item_id in items if item_id not in said
            ]
    return found


def _copy(run: AnnotationRun, answer: Annotation) -> Annotation:
    """An agent's answer as the routed run's; what it cost is in the agent's run."""
    return Annotation(
        run=run,
        item_id=answer.item_id,
        label_id=answer.label_id,
        answer=answer.answer,
        start=answer.start,
        end=answer.end,
        confidence=answer.confidence,
        reasoning=answer.reasoning,
        raw_text=answer.raw_text,
        model_returned=answer.model_returned,
        cost=Decimal(0),
        attempts=0,
    )


def _without(run: AnnotationRun, item_id: int, reason: str) -> Annotation:
    message = NO_ANSWER_MESSAGE.format(reason=reason or "it was not asked.")
    return Annotation(run=run, item_id=item_id, failure=NO_ANSWER, message=message, attempts=0)
