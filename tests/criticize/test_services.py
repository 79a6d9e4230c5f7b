from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from annotate.errors import Refusal
from annotate.models import ModelPrice
from annotate.services.runs import TRAINED, ModelChoice
from criticize.models import CriticismRun
from criticize.services import annotations_to_criticize, criticism_estimate, criticism_run_create
from criticize.strategies import STRATEGIES
from jobs.models import Job
from tests.factories import make_annotation_run, make_connection, make_items, make_project

pytestmark = pytest.mark.django_db


def make_run(state: str = Job.State.DONE):
    project = make_project()
    items = make_items(project, 6)
    return make_annotation_run(
        project,
        dict(zip(items, ["positive", "", "negative", "", "positive", "positive"], strict=True)),
        state=state,
    )


def chosen(run, **fields: Any):
    options: dict[str, Any] = {
        "connection": make_connection(run.created_by, in_flight=2),
        "model": "small",
        "strategy": "cot",
    }
    return ModelChoice(kind="prompted", **(options | fields))


@pytest.mark.parametrize("state", [Job.State.QUEUED, Job.State.RUNNING, Job.State.PAUSED])
def test_a_run_that_is_not_finished_is_not_criticized(state):
    run = make_run(state)

    with pytest.raises(Refusal, match="not finished yet"):
        criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run))
    assert not CriticismRun.objects.exists()


@pytest.mark.parametrize("state", [Job.State.DONE, Job.State.CANCELLED, Job.State.FAILED])
def test_what_has_a_label_is_criticized_in_order_of_items(state):
    run = make_run(state)

    created = criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run))

    labelled = list(run.annotations.filter(failure="").order_by("item_id").values_list("pk", flat=True))
    assert annotations_to_criticize(run) == labelled
    assert [subject for chunk in created.job.chunks.all() for subject in chunk.subjects] == labelled
    assert (created.job.total, created.prompt_version) == (4, "criticize-cot-1")


def test_a_run_without_labels_has_nothing_to_criticize():
    run = make_run()
    run.annotations.filter(failure="").delete()

    with pytest.raises(Refusal, match="no labels that could be criticized"):
        criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run))


def test_the_trained_criticizer_needs_calibration_labels():
    run = make_run()

    with pytest.raises(Refusal, match="Make a calibration set first"):
        criticism_run_create(annotation_run=run, user=run.created_by, choice=TRAINED)
    assert not CriticismRun.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"connection": None}, "connection"), ({"model": ""}, "model"), ({"strategy": "guess"}, "strategy")],
)
def test_a_choice_that_cannot_be_run_is_refused(fields, field):
    run = make_run()

    with pytest.raises(Refusal) as refusal:
        criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run, **fields))
    assert refusal.value.field == field


def test_a_limit_needs_a_price():
    run = make_run()

    with pytest.raises(Refusal, match="no price"):
        criticism_run_create(
            annotation_run=run, user=run.created_by, choice=chosen(run), spend_limit=Decimal(1)
        )


def test_the_estimate_counts_what_has_a_label():
    run = make_run()
    ModelPrice.objects.create(provider="openai", model="small", input=1, output=2)

    estimate = criticism_estimate(annotation_run=run, choice=chosen(run))

    assert estimate.calls == 4
    assert estimate.cost == Decimal(estimate.input_tokens + 2 * estimate.output_tokens) / 1_000_000
    assert estimate.seconds == pytest.approx(4 * 5.0 / 2)
    assert criticism_estimate(annotation_run=run, choice=TRAINED).cost == 0


def test_self_criticism_is_known_as_such():
    run = make_run()  # by openai's "small"

    own = criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run))
    other = criticism_run_create(annotation_run=run, user=run.created_by, choice=chosen(run, model="large"))

    assert (own.is_self_criticism, other.is_self_criticism) == (True, False)


LOGPROB_STRATEGIES = [name for name, strategy in STRATEGIES.items() if strategy.needs_logprobs]


@pytest.mark.parametrize("strategy", LOGPROB_STRATEGIES)
def test_a_provider_without_log_probabilities_is_refused_when_it_is_chosen(strategy):
    run = make_run()
    choice = chosen(run, connection=make_connection(run.created_by, provider="anthropic"), strategy=strategy)

    for ask in (criticism_estimate, partial(criticism_run_create, user=run.created_by)):
        with pytest.raises(
            Refusal, match=r"^Anthropic gives no log-probabilities.*Choose another"
        ) as refusal:
            ask(annotation_run=run, choice=choice)
        assert refusal.value.field == "strategy"
    assert not CriticismRun.objects.exists()


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in LOGPROB_STRATEGIES])
def test_a_provider_without_log_probabilities_does_all_else(strategy):
    run = make_run()
    choice = chosen(run, connection=make_connection(run.created_by, provider="anthropic"), strategy=strategy)

    created = criticism_run_create(annotation_run=run, user=run.created_by, choice=choice)

    assert (created.strategy, created.parameters["top_logprobs"]) == (strategy, 0)


def test_labels_made_without_reasoning_cannot_be_argued_against():
    run = make_run()
    run.annotations.update(reasoning="")
    choice = chosen(run, strategy="devil")

    for ask in (criticism_estimate, partial(criticism_run_create, user=run.created_by)):
        with pytest.raises(
            Refusal, match=r"made without any\. Choose another strategy, or labels"
        ) as refusal:
            ask(annotation_run=run, choice=choice)
        assert refusal.value.field == "strategy"

    run.annotations.filter(failure="").order_by("pk")[:1].get().delete()
    run.annotations.filter(pk=run.annotations.filter(failure="")[:1].get().pk).update(
        reasoning="It sounds so."
    )
    assert criticism_run_create(annotation_run=run, user=run.created_by, choice=choice).strategy == "devil"


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_each_strategy_has_its_own_estimate_and_alternatives(strategy):
    run = make_run()
    estimate = criticism_estimate(annotation_run=run, choice=chosen(run, strategy=strategy))
    created = criticism_run_create(
        annotation_run=run, user=run.created_by, choice=chosen(run, strategy=strategy)
    )

    assert estimate.output_tokens == 4 * STRATEGIES[strategy].usual_tokens
    assert estimate.seconds == 4 * STRATEGIES[strategy].usual_seconds / 2
    assert created.parameters["top_logprobs"] == STRATEGIES[strategy].top_logprobs
    assert created.ranks_only == (strategy in ("mc", "cot_ppl"))


def test_log_probabilities_that_were_asked_for_are_never_fewer_than_needed():
    run = make_run()
    for strategy, wanted in (("naive_logit", 20), ("cot_ppl", 5), ("cot", 5)):
        choice = chosen(run, strategy=strategy, top_logprobs=5)
        created = criticism_run_create(annotation_run=run, user=run.created_by, choice=choice)
        assert created.parameters["top_logprobs"] == wanted
