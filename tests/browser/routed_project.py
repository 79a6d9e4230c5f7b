"""Projects in which routers of every kind decide who answers, and the address of every page that shows it.

The models that are asked on the way are `models_say`: whoever makes such a project has them answer with it.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from annotate.models import AnnotationRun, Membership, ModelPrice, Project
from jobs.running import run_next_chunk
from jobs.services import job_pause
from mllm.adapters.scripted import Line
from mllm.messages import Request
from review.models import ReviewRound
from route.models import JudgeRun, Plan, Router, TracedRun
from route.services.deferral_plans import deferral_plan_start
from route.services.judge_runs import judge_run_create
from route.services.meta_plans import MetaLimit, meta_plan_start
from route.services.meta_routers import MetaChoice, meta_create
from route.services.plans import plan_act
from route.services.routers import AgentChoice, DeferralChoice, deferral_create, router_cancel
from route.services.trace_routers import trace_create
from route.services.traced_runs import traced_run_create
from tests.browser.whole_project import Page, People, page_of
from tests.factories import (
    label_named,
    make_calibration_label,
    make_connection,
    make_item,
    make_membership,
    make_project,
)
from tests.review.judging import answer_task
from tests.route import traced
from tests.route.traced import FRUIT, METAL, make_candidate, run_out, trace_choice
from tests.route.two_annotators import compare, judge_choice, make_two, prefers_positive
from tests.route.uploaded import as_csv, comparison_rows, make_comparisons, receive, train_from

KNOWN, LEFT = 48, 40
MISTAKE = Decimal("0.5")


def models_say(request: Request) -> Line:
    """What every model of these projects answers: the judge, the annotator in steps, and who reads along."""
    return prefers_positive(request) if request.model == "judge" else traced.answer(request)


@dataclass(frozen=True)
class Routed:
    """A project with a router of each kind, its plans in several states, and what people got from them."""

    people: People
    project: Project
    deferral: Router
    meta: Router
    trace: Router
    judge_run: JudgeRun
    comparing: JudgeRun
    finished: Plan
    running: Plan
    paused: Plan
    meta_plan: Plan
    traced: TracedRun
    reading: TracedRun

    @property
    def ids(self) -> dict[str, Any]:
        return {"project_id": self.project.pk}


def make_subjects(people: People, *, known: int = KNOWN, left: int = LEFT, name: str = "Routed") -> Project:
    """Texts about fruit and, one in four, about metal, all of them positive; the first are calibration items."""
    project = make_project(owner=people.owner, name=name)
    make_membership(project, people.viewer, Membership.Role.VIEWER)
    for reviewer in people.reviewers:
        make_membership(project, reviewer)
    for number in range(known + left):
        item = make_item(project, text=f"{METAL if number % 4 == 0 else FRUIT} number {number}")
        if number < known:
            make_calibration_label(item, "positive")
    make_connection(people.owner, key="sk-nobody-may-ever-read-this", in_flight=4)
    for model, price in (("cheap-model", 1), ("premium-model", 10), ("annotator", 2), ("reader", 1)):
        ModelPrice.objects.get_or_create(
            provider="openai",
            model=model,
            defaults={"input": price, "output": price, "updated_by": people.owner},
        )
    return project


def deferral_choice(project: Project, **changes: Any) -> DeferralChoice:
    """The two annotators that were tried on the calibration items, and people, who cost a tenth of a mistake."""
    tried = project.annotation_runs.filter(scope=AnnotationRun.Scope.CALIBRATION, strategy="naive")
    agents = [AgentChoice(run) for run in tried.order_by("pk")] + [AgentChoice(None, beta=0.0)]
    return DeferralChoice(**{"agents": agents, "mistake": MISTAKE, **changes})


def make_deferral(project: Project) -> Router:
    router = deferral_create(project=project, user=project.created_by, choice=deferral_choice(project))
    return trained(router)


def make_trace(project: Project) -> Router:
    choice = trace_choice(make_candidate(project), name="Reader of annotator")
    return trained(trace_create(project=project, user=project.created_by, choice=choice))


def trained(router: Router) -> Router:
    run_out(router.job_id)
    router.refresh_from_db()
    return router


def finish(plan: Plan) -> Plan:
    for run in [*plan.run.sources.all(), plan.run]:
        run_out(run.job_id)
    return plan


def make_routed(people: People) -> Routed:
    owner, project = people.owner, make_subjects(people)
    cheap, premium = make_two(project, answered=LEFT - 8)
    deferral, trace = make_deferral(project), make_trace(project)
    judge_run = compare(project, cheap, premium)
    comparing = judge_run_create(
        project=project, user=owner, cheap=premium, premium=cheap, choice=judge_choice(project)
    )
    meta = trained(meta_create(project=project, user=owner, choice=MetaChoice([judge_run])))
    finished = finish(deferral_plan_start(router=deferral, user=owner, people=4))
    running = deferral_plan_start(router=deferral, user=owner, people=2)
    paused = deferral_plan_start(router=deferral, user=owner, people=0)
    plan_act(plan=paused, user=owner, action="pause")
    meta_plan = finish(meta_plan_start(router=meta, user=owner, limit=MetaLimit(premium_share=0.5)))
    stopped = traced_run_create(router=trace, user=owner, limit=0.3)
    run_out(stopped.run.job_id)
    reading = traced_run_create(router=trace, user=owner, limit=0.3)
    for run in (finished.run, stopped.run):
        _answer_one(ReviewRound.objects.get(routed_run=run))
    return Routed(
        people=people,
        project=project,
        deferral=deferral,
        meta=meta,
        trace=trace,
        judge_run=judge_run,
        comparing=comparing,
        finished=finished,
        running=running,
        paused=paused,
        meta_plan=meta_plan,
        traced=stopped,
        reading=reading,
    )


def _answer_one(round: ReviewRound) -> None:
    answer_task(round.counted_tasks.order_by("rank")[0], label_named(round.project, "positive"))


def pages_of_routing(people: People) -> list[Page]:
    """Routers that are trained, the plans and runs they made, and what people see of them."""
    routed = make_routed(people)
    owner, viewer, reviewer, ids = people.owner, people.viewer, people.reviewers[0], routed.ids
    of_plan = ReviewRound.objects.get(routed_run=routed.finished.run)
    of_stopped = ReviewRound.objects.get(routed_run=routed.traced.run)
    waiting = of_stopped.counted_tasks.order_by("rank")[1]
    routers = {"deferral": routed.deferral, "meta": routed.meta, "trace": routed.trace}
    plans = {
        "finished": routed.finished,
        "running": routed.running,
        "paused": routed.paused,
        "meta": routed.meta_plan,
    }
    names = ("routing", "deferral_new", "meta_new", "judge_run_new", "trace_new")
    return [
        *(page_of(name, owner, **ids) for name in names),
        *(page_of(name, viewer, title=f"{name}, viewer", **ids) for name in names),
        *(
            page_of("router", owner, title=f"router, {kind}", router_id=each.pk, **ids)
            for kind, each in routers.items()
        ),
        *(
            page_of("router", viewer, title=f"router, {kind}, viewer", router_id=each.pk, **ids)
            for kind, each in routers.items()
        ),
        *(
            page_of("plan", owner, title=f"plan, {state}", plan_id=each.pk, **ids)
            for state, each in plans.items()
        ),
        page_of("plan", viewer, title="plan, viewer", plan_id=routed.finished.pk, **ids),
        page_of("judge_run", owner, run_id=routed.judge_run.pk, **ids),
        page_of("judge_run", owner, title="judge_run, waiting", run_id=routed.comparing.pk, **ids),
        page_of("traced_run", owner, traced_id=routed.traced.pk, **ids),
        page_of("traced_run", owner, title="traced_run, waiting", traced_id=routed.reading.pk, **ids),
        page_of("traced_run", viewer, title="traced_run, viewer", traced_id=routed.traced.pk, **ids),
        page_of(
            "annotation_run", owner, title="annotation_run, routed", run_id=routed.finished.run_id, **ids
        ),
        page_of("review_round", owner, title="review_round, of a plan", round_id=of_plan.pk, **ids),
        page_of("review_round", owner, title="review_round, of stopped items", round_id=of_stopped.pk, **ids),
        page_of("review_rounds", owner, title="review_rounds, routed", **ids),
        page_of("review", reviewer, title="review, stopped items", round_id=of_stopped.pk, **ids),
        page_of("item", owner, title="item, stopped", item_id=waiting.item_id, **ids),
        page_of("dashboard", owner, title="dashboard, routed", **ids),
    ]


def pages_of_routers_in_the_making(people: People) -> list[Page]:
    """Routers that wait, stand still, were cancelled and could not be trained; and nothing to make one of."""
    owner, viewer = people.owner, people.viewer
    project = make_subjects(people, left=8, name="In the making")
    ids: dict[str, Any] = {"project_id": project.pk}
    make_two(project)
    candidate = make_candidate(project)
    queued, cancelled, failed = (
        deferral_create(project=project, user=owner, choice=deferral_choice(project, name=name))
        for name in ("Waits", "Cancelled", "Failed")
    )
    router_cancel(router=cancelled, user=owner)
    replaying = trace_create(project=project, user=owner, choice=trace_choice(candidate, name="Reads"))
    run_next_chunk(replaying.job_id)
    paused = trace_create(project=project, user=owner, choice=trace_choice(candidate, name="Paused"))
    job_pause(paused.job)
    project.calibration_labels.all().delete()
    run_out(failed.job_id)  # what it was to learn from is gone
    states = {
        "queued": queued,
        "cancelled": cancelled,
        "failed": failed,
        "reading": replaying,
        "paused": paused,
    }
    empty = make_project(owner=owner, name="Nobody to choose among")
    make_membership(empty, viewer, Membership.Role.VIEWER)
    names = ("routing", "deferral_new", "meta_new", "judge_run_new", "trace_new")
    return [
        *(
            page_of("router", owner, title=f"router, {state}", router_id=each.pk, **ids)
            for state, each in states.items()
        ),
        page_of("routing", owner, title="routing, in the making", **ids),
        *(page_of(name, owner, title=f"{name}, empty", project_id=empty.pk) for name in names),
        page_of("routing", viewer, title="routing, empty, viewer", project_id=empty.pk),
    ]


def pages_of_uploaded_comparisons(people: People) -> list[Page]:
    """Comparisons from elsewhere: before their columns are named, imported with a rejected row, and their router."""
    owner, viewer = people.owner, people.viewer
    project = make_project(owner=owner, name="Comparisons")
    make_membership(project, viewer, Membership.Role.VIEWER)
    ids: dict[str, Any] = {"project_id": project.pk}
    rows = comparison_rows()
    waiting = receive(project, as_csv(rows), "waiting.csv")
    imported = make_comparisons([*rows, {**rows[0], "gold_a": "much"}], project=project)
    router = train_from(imported, name="Which response")
    return [
        page_of("comparison_sets", owner, **ids),
        page_of("comparison_sets", viewer, title="comparison_sets, viewer", **ids),
        page_of(
            "comparison_set", owner, title="comparison_set, columns", comparison_set_id=waiting.pk, **ids
        ),
        page_of(
            "comparison_set", owner, title="comparison_set, imported", comparison_set_id=imported.pk, **ids
        ),
        page_of("router", owner, title="router, of comparisons", router_id=router.pk, **ids),
        page_of("router", viewer, title="router, of comparisons, viewer", router_id=router.pk, **ids),
    ]
