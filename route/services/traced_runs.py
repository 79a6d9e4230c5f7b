"""Starting traced runs: an annotator over the project's items, with a trained router that reads along."""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from django.db import transaction
from django.db.models import Avg, Count, F, Q, Sum

from annotate.errors import Refusal
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, ModelRun, User
from annotate.services.combining import choice_of_run
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    annotation_estimate,
    check_limit,
    items_to_annotate,
    record_run,
)
from jobs.models import Job
from jobs.services import job_create
from review.services.routed import routed_round_create
from route.models import Router, RouterQuery, TracedRun
from route.replay import choose_setting, deployment_order, escalation_budget
from route.trace_queries import annotator_of, is_often_unread


@dataclass(frozen=True, slots=True)
class TracedPreview:
    """What a traced run would do: how many items, at most how many for people, and what it would take.

    `estimate` is of annotating every item to the end; `router_cost` is US$ of the router's calls at most, None
    without a price. `settings` has the chosen setting's row of `Router.metrics`.
    """

    items: int
    budget: int
    estimate: Estimate
    router_cost: Decimal | None
    setting: dict[str, object]

    @property
    def cost(self) -> Decimal | None:
        if self.estimate.cost is None or self.router_cost is None:
            return None
        return self.estimate.cost + self.router_cost

    @property
    def warning(self) -> str:
        """That the router is likely to stop nobody; "" where it stopped somebody when it was trained."""
        if self.setting["escalation_rate"]:
            return ""
        return (
            "With the setting that keeps to this limit the router stopped nobody when it was trained. Every item is "
            "likely to be written to its end, and the router's questions cost as much all the same."
        )


def ordered_items(router: Router) -> list[int]:
    """The project's items that are no calibration items, by falling p̂; those that came after the training last."""
    from route.training import kept_scores

    scored, scores = kept_scores(router)
    said = dict(zip(scored.tolist(), scores[:, 0].tolist(), strict=True))
    ids = items_to_annotate(router.project)
    order = deployment_order(np.array([said.get(pk, -1.0) for pk in ids], dtype=np.float64))
    return [ids[place] for place in order.tolist()]


def traced_run_preview(*, router: Router, limit: float) -> TracedPreview:
    """Raises Refusal where the router cannot be set to work within this limit."""
    if router.kind != Router.Kind.TRACE:
        raise Refusal("This router does not read along. Choose one that was trained on traces.")
    if not router.is_trained:
        raise Refusal(f"The router is not trained: its training is {router.job.get_state_display().lower()}.")
    if not 0 <= limit <= 1:
        raise Refusal("The share that may go to people must lie between 0 and 1.", field="limit")
    setting = _setting(router, limit)
    ids = items_to_annotate(router.project)
    if not ids:
        raise Refusal("There are no items to annotate. Upload some first.")
    budget = escalation_budget(limit, len(ids))
    if not budget:
        raise Refusal(
            f"{limit:.0%} of {len(ids):,} items is less than one item. Allow more, or annotate without a router.",
            field="limit",
        )
    run = annotator_of(router)
    choice = _choice(run)
    estimate = annotation_estimate(project=router.project, choice=choice, items=ids)
    return TracedPreview(len(ids), budget, estimate, _router_cost(router, setting, len(ids)), setting)


def _setting(router: Router, limit: float) -> dict[str, object]:
    from route.replay import Replay

    rows = router.metrics["settings"]
    replays = [Replay(row["missed_errors"], row["escalation_rate"], row["effort"]) for row in rows]
    chosen = choose_setting(replays, limit)
    if chosen is None:
        raise Refusal(
            f"No setting of this router kept to {limit:.0%} of the items on the development traces. Allow more, or "
            "train another with a more lenient wording.",
            field="limit",
        )
    found: dict[str, object] = rows[chosen]
    return found


def _choice(run: AnnotationRun) -> ModelChoice:
    if run.connection is None:
        raise Refusal("The connection of the router's annotator was deleted. Train a router on another run.")
    return choice_of_run(run)


def _router_cost(router: Router, setting: dict[str, object], n_items: int) -> Decimal | None:
    """By what the development items took with this setting, each read to its end."""
    queries = RouterQuery.objects.filter(
        router=router, traced_run=None, step__gt=0, variant=int(str(setting["variant"]))
    )
    mean: Decimal | None = queries.aggregate(mean=Avg("cost"))["mean"]
    if mean is None:
        return None
    items = queries.values("item").distinct().count()
    asked = queries.count() / max(1, items) / int(str(setting["interval"])) + 1
    return Decimal(mean) * Decimal(asked) * n_items


@transaction.atomic
def traced_run_create(
    *, router: Router, user: User, limit: float, spend_limit: Decimal | None = None
) -> TracedRun:
    """Start to annotate, at most ⌊ρ·n⌋ of the n items going to people. `limit` is ρ. Raises Refusal."""
    keep_project(router.project_id)
    preview = traced_run_preview(router=router, limit=limit)
    annotator = annotator_of(router)
    choice = _choice(annotator)
    check_limit(choice, spend_limit)
    if spend_limit is not None and preview.router_cost is None:
        raise Refusal(
            f"There is no price for {router.parameters['model']}, so a spend limit could not be kept. Enter its price "
            "first.",
            field="spend_limit",
        )
    assert annotator.connection is not None  # noqa: S101 (_choice was here)
    ids = ordered_items(router)
    job = job_create(
        kind="traced_annotation",
        subjects=ids,
        in_flight=annotator.connection.in_flight,
        connection_key=annotator.connection.key_of_jobs,
        spend_limit=spend_limit,
        expected_call_cost=preview.estimate.cost_per_call + (preview.router_cost or Decimal(0)) / len(ids),
    )
    Job.objects.filter(pk=job.pk).update(parallel=1)  # one chunk at a time, in order
    run = AnnotationRun.objects.create(
        project=router.project,
        kind=ModelRun.Kind.PROMPTED,
        scope=AnnotationRun.Scope.PROJECT,
        job=job,
        seed=router.project.seed,
        created_by=user,
        connection=annotator.connection,
        provider=annotator.provider,
        model=annotator.model,
        strategy=annotator.strategy,
        answer_format=annotator.answer_format,
        prompt_version=annotator.prompt_version,
        parameters=annotator.parameters | {"setting": preview.setting, "router": router.pk},
    )
    traced = TracedRun.objects.create(run=run, router=router, limit=limit, budget=preview.budget)
    routed_round_create(run=run, user=user, budget=preview.budget, population=len(ids))
    record_run(
        router.project,
        run,
        user,
        "started",
        new={
            "items": len(ids),
            "router": router.name,
            "for_people_at_most": preview.budget,
            "spend_limit": None if spend_limit is None else f"${spend_limit}",
        },
    )
    return traced


@dataclass(frozen=True, slots=True)
class TracedFigures:
    """What routing did so far: escalations of the budget, and what was spent against annotating every item to its end.

    Tokens saved are of the annotator's output. `seconds` are the annotator's and the router's together; `full_tokens`
    and `full_seconds` are as many times the mean of the items that the annotator wrote to the end in this run, without
    a router. None where nothing was written yet. `n_estimated`: items whose provider did not tell their tokens.
    `unreadable` of the router's `asked` answers could not be read, and counted as going on. `finished` items
    were written to their end; `stops` says after which step, counted from 1, how many were stopped.
    """

    done: int
    escalated: int
    budget: int
    tokens: int
    router_tokens: int
    full_tokens: int | None
    tokens_saved: float | None
    seconds: float
    full_seconds: float | None
    seconds_saved: float | None
    n_estimated: int
    asked: int
    unreadable: int
    finished: int
    stops: list[dict[str, int]]

    @property
    def is_often_unread(self) -> bool:
        return is_often_unread(self.unreadable, self.asked)


def traced_figures(traced: TracedRun) -> TracedFigures:
    """The figures of the run's page."""
    rows = Annotation.objects.filter(run=traced.run)
    whole, stopped = Q(failure=""), Q(failure=Annotation.TO_PERSON)
    said = rows.aggregate(
        done=Count("pk"),
        finished=Count("pk", filter=whole),
        finished_tokens=Sum("output_tokens", filter=whole, default=0),
        finished_seconds=Sum("latency", filter=whole, default=0.0),
        escalated=Count("pk", filter=stopped),
        stopped_tokens=Sum("output_tokens", filter=stopped, default=0),
        stopped_seconds=Sum("latency", filter=stopped, default=0.0),
        n_estimated=Count("pk", filter=(whole | stopped) & Q(message__endswith=Annotation.ESTIMATED)),
    )
    asked = RouterQuery.objects.filter(traced_run=traced).aggregate(
        tokens=Sum(F("input_tokens") + F("output_tokens"), default=0),
        seconds=Sum("latency", default=0.0),
        answers=Count("pk"),
        unreadable=Count("pk", filter=~Q(failure="")),
    )
    finished, n = said["finished"], said["finished"] + said["escalated"]
    tokens = said["finished_tokens"] + said["stopped_tokens"]
    seconds = said["finished_seconds"] + said["stopped_seconds"] + asked["seconds"]
    full_tokens = round(said["finished_tokens"] / finished * n) if finished else None
    full_seconds = said["finished_seconds"] / finished * n if finished else None
    stops = rows.filter(stopped).order_by("stopped_at").values_list("stopped_at").annotate(items=Count("pk"))
    return TracedFigures(
        done=said["done"],
        escalated=said["escalated"],
        budget=traced.budget,
        tokens=tokens,
        router_tokens=asked["tokens"],
        full_tokens=full_tokens,
        tokens_saved=1 - tokens / full_tokens if full_tokens else None,
        seconds=seconds,
        full_seconds=full_seconds,
        seconds_saved=1 - seconds / full_seconds if full_seconds else None,
        n_estimated=said["n_estimated"],
        asked=asked["answers"],
        unreadable=asked["unreadable"],
        finished=finished,
        stops=[{"step": step, "items": items} for step, items in stops if step is not None],
    )
