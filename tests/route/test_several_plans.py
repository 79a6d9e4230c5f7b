"""The meta-router among several annotators in the product: from comparisons of pairs to a plan at work."""

from typing import Any

import pytest
from django.test import Client

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project
from jobs.models import Job
from jobs.running import run_next_chunk
from route.meta_several import SeveralRouter
from route.models import Agent, Plan, Router
from route.saving import load
from route.services.meta_plans import MetaLimit, meta_plan_start, meta_preview
from route.services.meta_routers import MetaChoice, meta_create
from route.training import kept_scores
from route.watch import watch_of
from tests.api.caller import call, work
from tests.factories import make_calibration_label
from tests.route.two_annotators import (
    CHEAP_PRICE,
    FRUIT,
    KNOWN,
    LEFT,
    METAL,
    MIDDLE_PRICE,
    PREMIUM_PRICE,
    make_judge_run,
    make_metal_project,
    make_three,
)

pytestmark = [pytest.mark.django_db, pytest.mark.computed]


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 20)


@pytest.fixture
def project() -> Project:
    return make_metal_project()


@pytest.fixture
def three(project: Project) -> list[AnnotationRun]:
    """Cheap, middle, premium: each of the others compared with the first, and with one another."""
    cheap, middle, premium = make_three(project)
    make_judge_run(project, cheap, middle)
    make_judge_run(project, cheap, premium)
    make_judge_run(project, middle, premium)
    return [cheap, middle, premium]


def train(project: Project, agents: list[AnnotationRun], **choice: Any) -> Router:
    router = meta_create(project=project, user=project.created_by, choice=MetaChoice(agents=agents, **choice))
    while run_next_chunk(router.job_id):
        pass
    router.refresh_from_db()
    return router


def preview_of(router: Router, **limit: float):
    return meta_preview(router=router, user=router.project.created_by, limit=MetaLimit(**limit))


def texts(router: Router, preview, position: int) -> set[str]:
    items = router.project.items.filter(pk__in=preview.allocation.of(position))
    return {METAL if METAL in text else FRUIT for text in items.values_list("text", flat=True)}


def test_each_annotator_gets_what_it_is_right_about_for_the_least(project, three) -> None:
    router = train(project, three)

    assert router.job.state == Job.State.DONE, router.job.reason
    metrics = router.metrics
    assert metrics["accuracies"] == [0.5, 0.5, 1.0]
    assert (metrics["items"], metrics["preferences"]) == (KNOWN, 3 * LEFT)
    assert [row["price"] for row in metrics["alone"]] == pytest.approx(
        [float(CHEAP_PRICE), float(MIDDLE_PRICE), float(PREMIUM_PRICE)]
    )
    # For what the premium annotator costs alone, and for far less, everything is right.
    assert metrics["alone"][2]["router_accuracy"] > 0.9
    mine = metrics["table"][0]
    oracle = next(line for line in metrics["table"] if line["kind"] == "oracle")
    assert mine["area"] > 0.8 * oracle["area"]
    assert router.judge_runs.count() == 3
    preview = preview_of(router, w=60)
    assert texts(router, preview, 0) == {FRUIT}
    assert texts(router, preview, 1) == {METAL}
    assert [share.items for share in preview.shares] == [LEFT // 2, LEFT // 2, 0]
    assert preview.accuracy > 0.9
    assert (preview.premium_accuracy, preview.premium.agent.position) == (1.0, 2)


def test_the_file_holds_the_router_and_training_again_gives_the_same(project, three) -> None:
    first, again = train(project, three, learner="r"), train(project, three, learner="r")

    with first.file.open("rb") as file, again.file.open("rb") as other:
        loaded, _ = load(file)
        file.seek(0)
        assert file.read() == other.read()
    assert isinstance(loaded, SeveralRouter)
    assert loaded.compared_.tolist() == [[1, 0], [2, 0], [2, 1]]
    assert (first.metrics, first.data_digest) == (again.metrics, again.data_digest)
    assert kept_scores(first)[1].shape == (LEFT, 2)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_limit_on_the_share_is_kept(project, three, share) -> None:
    preview = preview_of(train(project, three), premium_share=share)

    assert preview.premium_share <= share + 1e-9
    assert sum(each.items for each in preview.shares) == LEFT


def test_the_limit_on_the_cost_is_one_on_the_mean_extra_cost(project, three) -> None:
    router = train(project, three)
    gap = float(MIDDLE_PRICE - CHEAP_PRICE)

    preview = preview_of(router, extra_cost=0.2 * gap)

    spent = sum(share.items * extra for share, extra in zip(preview.shares, preview.extra_costs, strict=True))
    assert 0 < spent / LEFT <= 0.2 * gap + 1e-12
    assert preview_of(router, extra_cost=0.0).premium_share == 0


def test_without_prices_or_with_a_default_that_is_dearer_the_share_can_be_limited(project, three) -> None:
    router = train(project, [three[1], three[0], three[2]])

    assert preview_of(router, premium_share=0.3).is_unit
    with pytest.raises(Refusal, match="is not the cheapest annotator"):
        preview_of(router, extra_cost=0.1)
    Agent.objects.filter(router=router).update(price=None)
    with pytest.raises(Refusal, match="Enter the prices of all models"):
        preview_of(router, extra_cost=0.1)


def test_a_limit_on_the_share_holds_where_another_costs_the_same(project, three) -> None:
    router = train(project, three)
    Agent.objects.filter(router=router, position=1).update(price=CHEAP_PRICE)

    assert preview_of(router, premium_share=0.2).premium_share <= 0.2
    assert preview_of(router, extra_cost=0.0).shares[1].items > 0


def test_a_plan_hands_items_to_each_and_the_watch_tells_them_apart(project, three) -> None:
    router = train(project, three)
    plan = meta_plan_start(router=router, user=project.created_by, limit=MetaLimit(w=60))
    for run in [*plan.run.sources.all(), plan.run]:
        while run_next_chunk(run.job_id):
            pass
    for item in project.items.filter(calibration_label__isnull=True).order_by("pk")[:4]:
        make_calibration_label(item, "positive" if METAL in item.text else "negative")

    watch = watch_of(plan)

    assert set(plan.run.annotations.values_list("label__name", flat=True)) == {"positive"}
    assert [(part.items, part.right, part.judged) for part in watch.agents] == [
        (LEFT // 2, 0, 2),
        (LEFT // 2, 2, 2),
        (0, 0, 0),
    ]
    assert [one["agent"] for one in plan.expected["alone"]] == [agent.name for agent in router.agents.all()]
    seen = call(project.created_by, "get", f"plans/{plan.pk}/watch/")
    assert [(part["judged"], part["accuracy"]) for part in seen["agents"]] == [(2, 0.0), (2, 1.0), (0, None)]
    assert (seen["whole"]["items"], seen["cost"]) == (LEFT, 0.0)


def test_who_was_not_compared_is_named(project) -> None:
    cheap, middle, premium = make_three(project)
    with pytest.raises(
        Refusal, match="middle-model · naive and the default, cheap-model · naive, have not been"
    ):
        train(project, [cheap, middle, premium])
    first = make_judge_run(project, cheap, middle)
    between = make_judge_run(project, middle, premium)
    with pytest.raises(Refusal, match="premium-model · naive and the default"):
        train(project, [cheap, middle, premium])
    with pytest.raises(Refusal, match="not among those you have chosen"):
        train(project, [cheap, middle], judge_runs=[first, between])
    with pytest.raises(Refusal, match="two to 8 annotators"):
        train(project, [cheap])
    with pytest.raises(Refusal, match="same annotator"):
        train(project, [cheap, middle, cheap])


def test_too_few_comparisons_of_one_of_them_are_said_by_name(project, three) -> None:
    run = project.judge_runs.get(cheap=three[0], premium=three[1])
    run.preferences.update(value=1)
    with pytest.raises(Refusal, match="prefers middle-model · naive's answer everywhere"):
        train(project, three)
    run.preferences.filter(pk__gt=run.preferences.order_by("pk")[9].pk).delete()
    with pytest.raises(Refusal, match="answers of middle-model · naive and cheap-model · naive to 10 items"):
        train(project, three)


def test_a_comparison_the_other_way_round_says_the_same(project) -> None:
    cheap, _, premium = make_three(project)
    forth = train(project, [cheap, premium], judge_runs=[make_judge_run(project, cheap, premium)])
    back = train(project, [cheap, premium], judge_runs=[make_judge_run(project, premium, cheap)])

    assert forth.data_digest == back.data_digest
    assert forth.metrics == back.metrics


def test_from_three_annotators_to_a_plan_by_the_pages(client: Client, project, three) -> None:
    client.force_login(project.created_by)
    routing = f"/projects/{project.pk}/routing/"
    page = client.get(f"{routing}meta/").content.decode()
    # The two of the newest comparison are ticked, the first of them as the default.
    assert page.count('name="agents"') == 3
    assert page.count(" checked") >= 3
    form = {
        "agents": [run.pk for run in three],
        "default": three[0].pk,
        "learner": "dr",
        "regressor": "forest",
        "scaling": "variance",
        "vectors": "plain",
    }
    check = client.get(f"{routing}meta/check/", form).content.decode()
    assert "Unlike the default" in check
    assert "middle-model" in check
    wrong = client.get(f"{routing}meta/check/", form | {"agents": [run.pk for run in three[1:]]})
    assert "one of the annotators that you tick" in wrong.content.decode()

    trained = client.post(f"{routing}meta/", form)
    router = Router.objects.get()
    assert [agent.run for agent in router.agents.all()] == three
    while run_next_chunk(router.job_id):
        pass
    page = client.get(trained["Location"]).content.decode()
    assert "Each annotator alone" in page
    assert "dearest annotator" in page
    preview = client.get(
        f"{trained['Location']}plan/preview/", {"limit": "w", "amount": "60"}
    ).content.decode()
    assert "Not to the default" in preview
    assert "premium-model · naive alone" in preview
    answer = client.post(f"{trained['Location']}plan/", {"limit": "w", "amount": "60"})
    assert answer["Location"] == f"{routing}plans/{Plan.objects.get().pk}/"
    assert "middle-model" in client.get(answer["Location"]).content.decode()


def test_from_three_annotators_to_a_plan_through_the_api(project, three) -> None:
    user = project.created_by
    address = f"projects/{project.pk}/routers/meta/"
    agents = [run.pk for run in three]
    both = call(user, "post", address, {"agents": agents, "judge_run": 1}, status=400)
    assert "one of the two" in str(both)
    made = call(user, "post", address, {"agents": agents}, status=202)
    work()

    router = call(user, "get", f"routers/{made['id']}/")
    assert router["is_trained"], router["progress"]
    assert [agent["run"] for agent in router["agents"]] == agents
    preview = call(user, "post", f"routers/{made['id']}/plan-preview/", {"w": 60})
    assert [each["accuracy"] for each in preview["alone"]] == [0.5, 0.5, 1.0]
    assert [share["items"] for share in preview["shares"]] == [LEFT // 2, LEFT // 2, 0]
    plan = call(user, "post", f"routers/{made['id']}/plans/", {"w": 60}, status=202)
    work()
    assert call(user, "get", f"plans/{plan['id']}/")["progress"]["state"] == "done"
