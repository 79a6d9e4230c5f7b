"""The meta-router in the product: from comparisons to a plan at work."""

from dataclasses import replace
from typing import Any

import pytest

from annotate.errors import Refusal
from annotate.models import ModelPrice, Project
from jobs.models import Job
from jobs.running import run_next_chunk
from route.models import Agent, JudgeRun, Plan, Router
from route.saving import load
from route.services.meta_plans import MetaLimit, meta_plan_start, meta_preview
from route.services.meta_routers import MetaChoice, meta_create
from route.training import kept_scores
from route.watch import watch_of
from tests.factories import make_calibration_label, make_item
from tests.route.two_annotators import (
    CHEAP_PRICE,
    KNOWN,
    LEFT,
    METAL,
    PREMIUM_PRICE,
    make_judge_run,
    make_metal_project,
    make_two,
)

pytestmark = pytest.mark.django_db

GAP = float(PREMIUM_PRICE - CHEAP_PRICE)


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here does not depend on how large forests are, and they are most of the time."""
    monkeypatch.setattr("route.meta._TREES", 8)


@pytest.fixture
def project() -> Project:
    return make_metal_project()


@pytest.fixture
def judge_run(project: Project) -> JudgeRun:
    return make_judge_run(project, *make_two(project))


def train(judge_run: JudgeRun, **choice: Any) -> Router:
    project = judge_run.project
    router = meta_create(project=project, user=project.created_by, choice=MetaChoice([judge_run], **choice))
    while run_next_chunk(router.job_id):
        pass
    router.refresh_from_db()
    return router


def preview_of(router: Router, **limit: float):
    return meta_preview(router=router, user=router.project.created_by, limit=MetaLimit(**limit))


@pytest.mark.parametrize(("learner", "regressor"), [("dr", "forest"), ("r", "forest"), ("dr", "boosting")])
def test_it_learns_where_the_premium_annotator_is_better(judge_run, learner, regressor) -> None:
    router = train(judge_run, learner=learner, regressor=regressor)

    assert router.job.state == Job.State.DONE, router.job.reason
    metrics = router.metrics
    mine = metrics["table"][0]
    oracle = next(line for line in metrics["table"] if line["kind"] == "oracle")
    assert mine["area"] > 0.8 * oracle["area"]
    assert {line["name"] for line in metrics["table"]} > {"Gold alone", "Both, pooled", "Random"}
    assert (metrics["items"], metrics["preferences"], metrics["unlike"]) == (KNOWN, LEFT, KNOWN // 2)
    assert metrics["accuracy"] == {"cheap": 0.5, "premium": 1.0}
    assert len(metrics["held_out"]["predicted"]) == len(metrics["held_out"]["gains"]) == KNOWN
    assert metrics["left_out"] >= 0


def test_the_agents_are_the_cheap_one_and_the_premium_one_with_their_prices(judge_run) -> None:
    router = train(judge_run)

    rows = [(agent.position, agent.name, agent.price) for agent in router.agents.all()]
    assert rows == [
        (0, "cheap-model · naive", CHEAP_PRICE),
        (1, "premium-model · naive", PREMIUM_PRICE),
    ]
    assert project_change(router) == "router training started"


def project_change(router: Router) -> str:
    return str(router.project.changes.filter(subject_id=str(router.pk)).latest("pk").action)


def test_the_file_holds_the_router_and_training_again_gives_the_same(judge_run) -> None:
    first, again = train(judge_run), train(judge_run)

    with first.file.open("rb") as file:
        loaded, _ = load(file)
    assert loaded.n_gold_ == KNOWN
    assert first.data_digest == again.data_digest
    assert first.metrics == again.metrics
    assert written(first) == written(again)
    assert [part.tolist() for part in kept_scores(first)] == [part.tolist() for part in kept_scores(again)]


def written(router: Router) -> bytes:
    with router.file.open("rb") as file:
        content: bytes = file.read()
        return content


def test_without_a_limit_every_item_with_a_gain_is_premium(judge_run) -> None:
    preview = preview_of(train(judge_run))

    metal = judge_run.project.items.filter(text__startswith=METAL, calibration_label__isnull=True)
    assert set(metal.values_list("pk", flat=True)) <= set(preview.allocation.of(1))
    assert preview.items == LEFT
    assert (preview.default_accuracy, preview.premium_accuracy) == (0.5, 1.0)
    assert preview.accuracy > 0.9


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
def test_the_limit_on_the_share_is_kept(judge_run, share) -> None:
    preview = preview_of(train(judge_run), premium_share=share)

    assert preview.premium_share <= share + 1e-9
    assert preview.shares[0].items + preview.shares[1].items == LEFT
    assert not preview.is_unit
    assert preview.cost_gap == pytest.approx(GAP)
    texts = judge_run.project.items.filter(pk__in=preview.allocation.of(1)).values_list("text", flat=True)
    if 0 < share < 0.5:
        assert all(METAL in text for text in texts)


def test_the_limit_on_the_cost_is_one_on_the_mean_extra_cost(judge_run) -> None:
    router = train(judge_run)

    assert preview_of(router, extra_cost=0.3 * GAP).premium_share <= 0.3 + 1e-9
    assert preview_of(router, extra_cost=0.0).shares[1].items == 0
    assert preview_of(router, extra_cost=GAP).allocation.of(1) == preview_of(router).allocation.of(1)


def test_w_itself_can_be_given(judge_run) -> None:
    router = train(judge_run)

    assert preview_of(router, w=1e9).shares[1].items == 0
    assert preview_of(router, w=0).allocation.of(1) == preview_of(router).allocation.of(1)


def test_only_what_was_not_answered_costs(project) -> None:
    cheap, premium = make_two(project, answered=LEFT - 6)
    ModelPrice.objects.create(
        provider="openai", model="cheap-model", input=1, output=1, updated_by=project.created_by
    )
    ModelPrice.objects.create(
        provider="openai", model="premium-model", input=100, output=100, updated_by=project.created_by
    )
    router = train(make_judge_run(project, cheap, premium))

    preview = preview_of(router, premium_share=0.5)

    assert sum(share.items - share.answered for share in preview.shares) == 6
    assert 0 < preview.default_cost < preview.cost < preview.premium_cost
    assert preview.saved == preview.premium_cost - preview.cost


def test_without_prices_a_share_can_be_limited_and_the_cost_cannot(judge_run) -> None:
    router = train(judge_run)
    Agent.objects.filter(router=router).update(price=None)

    assert preview_of(router, premium_share=0.2).is_unit
    with pytest.raises(Refusal, match="Enter the prices"):
        preview_of(router, extra_cost=0.01)


def test_items_that_came_later_are_counted_and_in_no_plan(judge_run) -> None:
    router = train(judge_run)
    make_item(judge_run.project, text="a new one")

    preview = preview_of(router)

    assert (preview.items, preview.added) == (LEFT, 1)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ({"premium_share": 1.2}, "between 0 and 1"),
        ({"extra_cost": -1.0}, "at least 0"),
        ({"w": float("nan")}, "at least 0"),
        ({"premium_share": 0.2, "w": 1.0}, "one of the three"),
    ],
)
def test_limits_that_are_none_are_refused(judge_run, limit, sentence) -> None:
    with pytest.raises(Refusal, match=sentence):
        preview_of(train(judge_run), **limit)


def finish(plan: Plan) -> None:
    for run in [*plan.run.sources.all(), plan.run]:
        while run_next_chunk(run.job_id):
            pass
    plan.run.job.refresh_from_db()


def test_a_plan_gathers_cheap_and_premium_answers(judge_run) -> None:
    router = train(judge_run)

    plan = meta_plan_start(
        router=router, user=judge_run.project.created_by, limit=MetaLimit(premium_share=0.5)
    )
    finish(plan)

    assert plan.run.job.state == Job.State.DONE
    assert set(plan.run.annotations.values_list("label__name", flat=True)) == {"positive"}
    assert plan.run.annotations.count() == LEFT
    assert plan.setting["premium_share"] == 0.5
    assert plan.setting["w"] == plan.expected["w"]
    assert plan.expected["premium_share"] == 0.5


def test_a_plan_asks_each_annotator_about_what_it_has_not_answered(project, provider) -> None:
    cheap, premium = make_two(project, answered=LEFT - 6)
    router = train(make_judge_run(project, cheap, premium))
    adapter = provider(lambda request: "[1]")

    plan = meta_plan_start(router=router, user=project.created_by, limit=MetaLimit(premium_share=0.5))
    finish(plan)

    assert (
        sorted(request.model for request in adapter.requests) == ["cheap-model"] * 3 + ["premium-model"] * 3
    )
    assert plan.run.annotations.filter(failure="").count() == LEFT


def test_the_watch_says_what_people_found_since(judge_run) -> None:
    router = train(judge_run)
    limit = MetaLimit(premium_share=0.5)
    plan = meta_plan_start(router=router, user=judge_run.project.created_by, limit=limit)
    finish(plan)
    before = watch_of(plan)
    cheap, premium = plan.router.agents.all()
    left = list(judge_run.project.items.filter(calibration_label__isnull=True).order_by("pk"))
    for item in left[:4]:
        make_calibration_label(item, "positive" if METAL in item.text else "negative")

    watch = watch_of(plan)

    assert (before.whole.items, before.whole.judged, before.whole.accuracy) == (LEFT, 0, None)
    assert [(part.name, part.share) for part in watch.agents] == [(cheap.name, 0.5), (premium.name, 0.5)]
    assert [(part.right, part.judged) for part in watch.agents] == [(0, 2), (2, 2)]
    low, accuracy, high = watch.whole.low, watch.whole.accuracy, watch.whole.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high
    assert accuracy == 0.5
    assert watch.cost == 0


def test_too_little_is_refused_before_anything_is_trained(judge_run) -> None:
    project = judge_run.project
    choice = MetaChoice([judge_run])
    other = make_metal_project()
    cases = [
        (replace(choice, learner="x"), "learner"),
        (replace(choice, regressor="x"), "regressor"),
        (replace(choice, scaling="x"), "scaling"),
        (MetaChoice([make_judge_run(other, *make_two(other))]), "of this project"),
    ]
    for wrong, sentence in cases:
        with pytest.raises(Refusal, match=sentence):
            meta_create(project=project, user=project.created_by, choice=wrong)
    Job.objects.filter(pk=judge_run.job_id).update(state=Job.State.RUNNING)
    judge_run.job.refresh_from_db()
    with pytest.raises(Refusal, match="still being compared"):
        meta_create(project=project, user=project.created_by, choice=choice)
    Job.objects.filter(pk=judge_run.job_id).update(state=Job.State.DONE)
    judge_run.job.refresh_from_db()
    judge_run.preferences.all().delete()
    with pytest.raises(Refusal, match="at least 20"):
        meta_create(project=project, user=project.created_by, choice=choice)
    assert not Router.objects.exists()


def test_what_changed_since_it_was_chosen_fails_the_training_with_the_reason(judge_run) -> None:
    project = judge_run.project
    router = meta_create(project=project, user=project.created_by, choice=MetaChoice([judge_run]))
    judge_run.preferences.update(value=0)
    run_next_chunk(router.job_id)

    router.refresh_from_db()
    assert router.job.state == Job.State.FAILED
    assert "prefers neither answer everywhere" in router.job.reason
    with pytest.raises(Refusal, match="not trained"):
        preview_of(router)
