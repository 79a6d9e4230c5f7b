"""Comparing every two of several annotators at once."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelPrice, Project
from jobs.models import Job
from jobs.running import run_next_chunk
from route.models import JudgeRun
from route.services.meta_routers import MetaChoice, check_meta
from route.services.missing_comparisons import missing_comparisons, missing_comparisons_start
from tests.api.caller import call
from tests.factories import make_membership, make_user
from tests.route.two_annotators import (
    LEFT,
    judge_choice,
    make_judge_run,
    make_metal_project,
    make_three,
    prefers_positive,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_metal_project()


@pytest.fixture
def three(project: Project) -> list[AnnotationRun]:
    """The cheap one, one in between, and the premium one."""
    return make_three(project)


def start(project: Project, agents: list[AnnotationRun], **options: Any) -> list[JudgeRun]:
    return missing_comparisons_start(
        project=project, user=project.created_by, agents=agents, choice=judge_choice(project), **options
    ).created


def pairs(runs: list[JudgeRun]) -> set[tuple[int, int]]:
    return {(run.cheap_id, run.premium_id) for run in runs}


def test_every_two_are_compared_the_cheaper_one_first_and_a_router_learns_from_them(
    project: Project, three: list[AnnotationRun], provider: Any
) -> None:
    provider(prefers_positive)
    cheap, middle, premium = three

    runs = start(project, [premium, cheap, middle])

    assert pairs(runs) == {(cheap.pk, middle.pk), (cheap.pk, premium.pk), (middle.pk, premium.pk)}
    for run in runs:
        while run_next_chunk(run.job_id):
            pass
    found = check_meta(project, project.created_by, MetaChoice(agents=three))
    assert len(found.preferences) == 3 * LEFT


def test_what_was_compared_is_not_compared_again_but_what_was_broken_off_is(
    project: Project, three: list[AnnotationRun]
) -> None:
    cheap, middle, premium = three
    made = make_judge_run(project, premium, cheap)  # the other way round, too

    assert pairs(start(project, three)) == {(cheap.pk, middle.pk), (middle.pk, premium.pk)}
    with pytest.raises(Refusal, match="have been compared"):
        start(project, three)

    Job.objects.filter(pk=made.job_id).update(state=Job.State.CANCELLED)
    assert pairs(start(project, three)) == {(cheap.pk, premium.pk)}


def test_the_estimate_is_what_all_pairs_take_together(project: Project, three: list[AnnotationRun]) -> None:
    ModelPrice.objects.create(
        provider="openai", model="judge", input=1, output=1, updated_by=project.created_by
    )
    make_judge_run(project, three[0], three[1])

    found = missing_comparisons(project=project, agents=three, choice=judge_choice(project))

    assert (len(found.pairs), found.there) == (2, 1)
    # They differ where one errs about metal, and where the other errs about fruit.
    assert found.estimate.calls == LEFT
    costs = [pair.estimate and pair.estimate.cost for pair in found.pairs]
    assert found.estimate.cost == sum(cost for cost in costs if cost)
    assert (found.gold.annotators, found.gold.warning) == (3, "")


def test_two_that_always_agree_are_left_out_with_why(project: Project, three: list[AnnotationRun]) -> None:
    cheap, middle, premium = three
    answers = dict(premium.annotations.values_list("item_id", "label_id"))
    for row in middle.annotations.all():
        middle.annotations.filter(pk=row.pk).update(label_id=answers[row.item_id])

    started = missing_comparisons_start(
        project=project, user=project.created_by, agents=three, choice=judge_choice(project)
    )

    assert pairs(started.created) == {(cheap.pk, middle.pk), (cheap.pk, premium.pk)}
    [left] = started.left_out
    assert (left.cheap, left.premium) == (middle, premium)
    assert "take the cheaper one" in left.problem
    with pytest.raises(Refusal, match="take the cheaper one"):
        start(project, [middle, premium])


@pytest.mark.parametrize(
    ("taken", "sentence"), [([0], "two to 8"), ([0, 0], "same annotator"), ([0, 1, 2] * 3, "two to 8")]
)
def test_who_cannot_be_compared_is_refused(
    project: Project, three: list[AnnotationRun], taken: list[int], sentence: str
) -> None:
    with pytest.raises(Refusal, match=sentence) as refused:
        start(project, [three[place] for place in taken])

    assert refused.value.field == "agents"
    assert not JudgeRun.objects.exists()


def test_a_limit_is_each_comparisons_and_needs_a_price(project: Project, three: list[AnnotationRun]) -> None:
    with pytest.raises(Refusal, match="price"):
        start(project, three, spend_limit=Decimal(2))
    ModelPrice.objects.create(
        provider="openai", model="judge", input=1, output=1, updated_by=project.created_by
    )

    runs = start(project, three, spend_limit=Decimal(2))

    assert [run.job.spend_limit for run in runs] == [2, 2, 2]


def test_the_page_shows_what_is_missing_and_starts_it(
    client: Client, project: Project, three: list[AnnotationRun]
) -> None:
    client.force_login(project.created_by)
    make_judge_run(project, three[0], three[1])
    routing = f"/projects/{project.pk}/routing/"
    form: dict[str, Any] = {
        "kind": "prompted",
        "agents": [run.pk for run in three],
        "connection": project.created_by.connections.get().pk,
        "model": "judge",
        "strategy": "naive",
        "answer_format": "bracket",
    }

    assert f"{routing}comparisons/missing/" in client.get(f"{routing}meta/").content.decode()
    page = client.get(f"{routing}comparisons/missing/").content.decode()
    assert page.count('name="agents"') == page.count(" checked>") == 3
    estimate = client.get(f"{routing}comparisons/missing/estimate/", form).content.decode()
    assert "cheap-model · naive against premium-model · naive" in estimate
    assert "1 pair has a comparison already" in estimate
    one = client.post(f"{routing}comparisons/missing/", form | {"agents": [three[0].pk]})
    assert "two to 8" in one.content.decode()
    none = client.post(f"{routing}comparisons/missing/", form | {"agents": []})
    assert "Choose two or more annotators" in none.content.decode()

    started = client.post(f"{routing}comparisons/missing/", form, follow=True)

    assert "2 comparisons are under way" in started.content.decode()
    assert JudgeRun.objects.count() == 3
    nothing = client.get(f"{routing}comparisons/missing/estimate/", form).content.decode()
    assert "Every two of these annotators have been compared" in nothing


def test_viewers_are_told_who_compares(client: Client, project: Project, three: list[AnnotationRun]) -> None:
    viewer = make_user("vera")
    make_membership(project, viewer, "viewer")
    client.force_login(viewer)

    page = client.get(f"/projects/{project.pk}/routing/comparisons/missing/").content.decode()

    assert "Only those who run the project" in page


def test_the_api_does_the_same(project: Project, three: list[AnnotationRun]) -> None:
    user = project.created_by
    address = f"projects/{project.pk}/judge-runs/missing/"
    body = {
        "agents": [run.pk for run in three],
        "kind": "prompted",
        "connection": user.connections.get().pk,
        "model": "judge",
        "strategy": "naive",
    }

    estimated = call(user, "post", f"{address}estimate/", body)
    assert (len(estimated["pairs"]), estimated["there"], estimated["gold"]["warning"]) == (3, 0, "")
    assert estimated["estimate"]["calls"] == sum(pair["estimate"]["calls"] for pair in estimated["pairs"])
    started = call(user, "post", address, body, status=201)
    assert (len(started["created"]), started["left_out"]) == (3, [])
    assert "agents" in call(user, "post", address, body, status=400)["errors"]
