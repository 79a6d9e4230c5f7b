"""Judge runs: a model compares two annotators' answers."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelPrice, Project
from annotate.services.runs import TRAINED
from jobs.models import Job
from jobs.running import run_next_chunk
from mllm.errors import CallError, Failure
from route.comparing import NOT_READ, is_premium_first
from route.models import JudgeRun
from route.services.judge_runs import (
    gold_count,
    judge_run_create,
    judge_run_estimate,
    judge_run_retry,
    pairs_of,
    preferences_with_answers,
)
from route.views.judge_runs import preferred
from tests.factories import make_calibration_label, make_item
from tests.route.two_annotators import (
    KNOWN,
    LEFT,
    METAL,
    PREMIUM_PRICE,
    compare,
    judge_choice,
    make_annotator,
    make_judge_run,
    make_metal_project,
    make_two,
    prefers_positive,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_metal_project()


@pytest.fixture
def two(project: Project) -> tuple[AnnotationRun, AnnotationRun]:
    return make_two(project)


def test_only_items_with_different_answers_that_nobody_labeled_are_compared(project, two) -> None:
    pairs = pairs_of(project, *two)

    assert len(pairs) == LEFT
    assert all(METAL in item.text for item in project.items.filter(pk__in=pairs.differing))
    assert not project.items.filter(pk__in=pairs.differing, calibration_label__isnull=False).exists()


def test_the_judge_asks_about_differing_answers_in_drawn_order(project, two, provider) -> None:
    adapter = provider(prefers_positive)

    run = compare(project, *two)

    assert run.job.state == Job.State.DONE, run.job.reason
    assert len(adapter.requests) == LEFT // 2
    rows = {row.item: row for row in run.preferences.select_related("item")}
    assert len(rows) == LEFT
    for item, row in rows.items():
        assert row.value == (1 if METAL in item.text else 0)
    asked = [row for item, row in rows.items() if METAL in item.text]
    assert {row.premium_first for row in asked} == {True, False}
    assert all(row.premium_first == is_premium_first(run.seed, row.item_id) for row in asked)
    equal = [row for item, row in rows.items() if METAL not in item.text]
    assert {(row.cost, row.attempts) for row in equal} == {(Decimal(0), 0)}
    assert project.changes.filter(action="judge run started").exists()


def test_a_judge_that_likes_whatever_stands_first_is_no_help_and_shows_it(project, two, provider) -> None:
    provider(lambda request: "[1]")

    run = compare(project, *two)

    values = {
        row.premium_first: row.value
        for row in run.preferences.filter(item__text__startswith=METAL).order_by("pk")
    }
    assert values == {True: 1, False: -1}


def test_what_cannot_be_read_fails_and_can_be_asked_again(project, two, provider) -> None:
    provider(lambda request: "the first")
    run = compare(project, *two)
    assert (run.job.failed, run.preferences.filter(message=NOT_READ, value=None).count()) == (15, 15)

    provider(prefers_positive)
    judge_run_retry(run=run)
    while run_next_chunk(run.job_id):
        pass

    run.job.refresh_from_db()
    assert (run.job.failed, run.job.done) == (0, LEFT // 2)
    again = run.preferences.filter(item__text__startswith=METAL)
    assert {row.value for row in again} == {1}
    assert all(row.earlier for row in again)


def test_an_outage_pauses_the_run(project, two, provider) -> None:
    provider(lambda request: CallError(Failure.UNREACHABLE, "Nobody is there."))

    run = compare(project, *two)

    run.job.refresh_from_db()
    assert run.job.state == Job.State.PAUSED
    assert not run.preferences.exclude(failure="").exists()


def test_an_answer_that_is_gone_fails_its_item_alone(project, two, provider) -> None:
    provider(prefers_positive)
    run = judge_run_create(
        project=project, user=project.created_by, cheap=two[0], premium=two[1], choice=judge_choice(project)
    )
    gone = two[0].annotations.filter(item__text__startswith=METAL).earliest("pk")
    gone.delete()
    while run_next_chunk(run.job_id):
        pass

    failed = run.preferences.exclude(failure="")
    assert [row.item_id for row in failed] == [gone.item_id]
    assert "Retry it in its annotator's run first" in failed[0].message


def test_the_estimate_counts_the_calls_and_their_price(project, two) -> None:
    ModelPrice.objects.create(
        provider="openai", model="judge", input=1, output=2, updated_by=project.created_by
    )

    estimate = judge_run_estimate(project=project, cheap=two[0], premium=two[1], choice=judge_choice(project))

    assert estimate.calls == LEFT // 2
    assert (estimate.cost or 0) > 0


def test_a_spend_limit_pauses_before_it_is_passed(project, two, provider) -> None:
    provider(prefers_positive)
    ModelPrice.objects.create(
        provider="openai", model="judge", input=1000, output=1000, updated_by=project.created_by
    )
    run = judge_run_create(
        project=project,
        user=project.created_by,
        cheap=two[0],
        premium=two[1],
        choice=judge_choice(project),
        spend_limit=Decimal("0.9"),
    )
    run_next_chunk(run.job_id)

    run.job.refresh_from_db()
    assert run.job.state == Job.State.PAUSED
    assert run.job.cost <= Decimal("0.9")


def test_a_spend_limit_needs_a_price(project, two) -> None:
    with pytest.raises(Refusal, match="no price"):
        judge_run_create(
            project=project,
            user=project.created_by,
            cheap=two[0],
            premium=two[1],
            choice=judge_choice(project),
            spend_limit=Decimal(1),
        )


def test_what_cannot_be_compared_is_refused(project, two) -> None:
    cheap, premium = two
    user, choice = project.created_by, judge_choice(project)
    tried = AnnotationRun.objects.get(model="cheap-model", scope="calibration")
    other = make_metal_project()
    cases = [
        ((cheap, cheap), choice, "same annotator"),
        ((cheap, tried), choice, "same annotator"),
        ((cheap, make_two(other)[1]), choice, "of this project"),
        ((cheap, premium), TRAINED, "a trained classifier cannot"),
        ((cheap, premium), replace(choice, model=" "), "Name the model"),
    ]
    for (first, second), how, sentence in cases:
        with pytest.raises(Refusal, match=sentence):
            judge_run_create(project=project, user=user, cheap=first, premium=second, choice=how)
    assert not JudgeRun.objects.exists()


def test_annotators_that_always_agree_need_no_router(project, two) -> None:
    answers = {row.item: row.label.name for row in two[0].annotations.select_related("item", "label")}
    twin = make_annotator(project, "twin", answers, price=PREMIUM_PRICE, scope="project")

    with pytest.raises(Refusal, match="take the cheaper one"):
        judge_run_create(
            project=project, user=project.created_by, cheap=two[0], premium=twin, choice=judge_choice(project)
        )


def test_without_items_that_both_answered_there_is_nothing_to_compare(project, two) -> None:
    item = make_item(project, text="alone")
    alone = make_annotator(project, "alone", {item: "positive"}, price=PREMIUM_PRICE, scope="project")

    with pytest.raises(Refusal, match="both annotators have answered"):
        judge_run_create(
            project=project,
            user=project.created_by,
            cheap=two[0],
            premium=alone,
            choice=judge_choice(project),
        )


def test_items_that_people_label_meanwhile_are_left_to_them(project, two) -> None:
    before = len(pairs_of(project, *two))
    make_calibration_label(project.items.filter(calibration_label__isnull=True).earliest("pk"), "positive")

    assert len(pairs_of(project, *two)) == before - 1


def test_each_preference_comes_with_both_answers_and_what_stood_first(project, two, provider) -> None:
    provider(prefers_positive)
    run = compare(project, *two)
    two[0].annotations.filter(item=run.preferences.latest("item_id").item).delete()

    rows: list[Any] = list(preferences_with_answers(run).order_by("item_id"))

    for row in rows[:-1]:
        assert row.premium_answer == "positive"
        assert row.cheap_answer == ("negative" if METAL in row.item.text else "positive")
    assert rows[-1].cheap_answer is None


def test_scarce_gold_is_said_before_anything_is_spent(project, two) -> None:
    plenty = gold_count(project=project, agents=two)
    assert (plenty.known, plenty.unlike, plenty.warning) == (KNOWN, KNOWN // 2, "")

    metal = project.calibration_labels.filter(item__text__startswith=METAL).order_by("pk")
    metal.filter(pk__gt=metal[2].pk).delete()
    alike = gold_count(project=project, agents=two)
    assert "On 3 of 23 items" in alike.warning
    assert "needs 5 such items" in alike.warning

    labels = project.calibration_labels.order_by("pk")
    labels.filter(pk__gt=labels[11].pk).delete()
    few = gold_count(project=project, agents=two)
    assert "12 items have a person's answer" in few.warning
    assert "Label 8 more calibration items" in few.warning


def test_a_judge_that_always_prefers_what_it_is_shown_first_is_said(client: Client) -> None:
    project = make_metal_project()
    run = make_judge_run(project, *make_two(project))
    sided = run.preferences.exclude(value=0)
    run.preferences.update(premium_first=True)
    client.force_login(project.created_by)
    address = reverse("judge_run", args=[project.pk, run.pk])

    sided.update(value=1)
    said = preferred(run)
    assert said["first"] == said["sided"] == said["premium"] >= 10
    assert "It decides by the order." in client.get(address).content.decode()

    half = [row.pk for row in sided[: said["sided"] // 2]]
    sided.filter(pk__in=half).update(value=-1)
    assert preferred(run)["first"] == said["sided"] - len(half)
    shown = client.get(address).content.decode()
    assert "It decides by the order." not in shown
    assert f"of {said['sided']} preferences; about half is fair" in shown
