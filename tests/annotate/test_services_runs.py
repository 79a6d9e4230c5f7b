from decimal import Decimal
from typing import Any

import pytest

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, ModelPrice, Project
from annotate.services.runs import (
    TRAINED,
    ModelChoice,
    annotation_estimate,
    annotation_run_create,
    candidate_parameters,
)
from jobs.models import Job
from jobs.running import run_to_end
from mllm.messages import Reply
from tests.conftest import Provider
from tests.factories import make_calibration_label, make_connection, make_item, make_items, make_project

pytestmark = pytest.mark.django_db


def chosen(project: Project, **fields: object) -> ModelChoice:
    options = {
        "kind": "prompted",
        "connection": make_connection(project.created_by, in_flight=4),
        "model": "small",
        "strategy": "naive",
        "answer_format": "bracket",
        **fields,
    }
    return ModelChoice(**options)  # type: ignore[arg-type]


def create(project: Project, choice: ModelChoice, **options: Any) -> AnnotationRun:
    return annotation_run_create(project=project, user=project.created_by, choice=choice, **options)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "oracle"}, "kind"),
        ({"connection": None}, "connection"),
        ({"model": " "}, "model"),
        ({"strategy": "guess"}, "strategy"),
    ],
)
def test_a_choice_that_cannot_be_run_is_refused(fields, field):
    project = make_project()
    make_items(project, 2)

    with pytest.raises(Refusal) as refusal:
        create(project, chosen(project, **fields))

    assert refusal.value.field == field
    assert not Job.objects.exists()


def test_copies_of_a_calibration_item_are_in_its_fold():
    project = make_project()
    for number in range(40):
        item = make_item(project, text=f"Day {number % 20}" if number < 20 else f" DAY  {number % 20} ")
        make_calibration_label(item, "positive" if number % 2 else "negative")

    folds = candidate_parameters(project)["training_folds"]

    assert folds[:20] == folds[20:]
    assert sorted(folds) == sorted([*range(10)] * 4)


def test_copies_are_no_further_items_to_learn_from():
    project = make_project()
    for number in range(40):
        item = make_item(project, text=f"Day {number % 11}")
        make_calibration_label(item, "positive" if number % 11 % 2 else "negative")

    with pytest.raises(Refusal, match="12 or more different calibration items"):
        candidate_parameters(project)


def test_a_project_without_labels_or_items_is_refused():
    few = make_project(labels=["only"])
    make_items(few, 2)
    with pytest.raises(Refusal, match="at least two labels"):
        create(few, chosen(few))
    empty = make_project()
    with pytest.raises(Refusal, match="no items to annotate"):
        create(empty, chosen(empty))
    assert not Job.objects.exists()


@pytest.mark.parametrize("labels", [[], ["positive", "positive"]])
def test_the_trained_annotator_needs_two_labels_to_learn_from(labels):
    project = make_project()
    items = make_items(project, 5)
    for item, label in zip(items, labels, strict=False):
        make_calibration_label(item, label)

    with pytest.raises(Refusal, match="Make a calibration set first"):
        create(project, TRAINED)
    assert not Job.objects.exists()


class TestLimit:
    def test_it_needs_a_price(self):
        project = make_project()
        make_items(project, 2)

        with pytest.raises(Refusal, match="no price for small"):
            create(project, chosen(project), spend_limit=Decimal(1))

    @pytest.mark.parametrize("limit", ["0", "-1"])
    def test_it_is_above_zero(self, limit):
        project = make_project()
        make_items(project, 2)

        with pytest.raises(Refusal) as refusal:
            create(project, chosen(project), spend_limit=Decimal(limit))
        assert refusal.value.field == "spend_limit"

    def test_it_holds_to_the_end(self, provider: Provider):
        project = make_project()
        make_items(project, 40)
        ModelPrice.objects.create(provider="openai", model="small", input=0, output=1000)
        provider(lambda request: Reply("[0]", "", "small", "stop", 10, 10, 0, (), 0.0))

        run = create(project, chosen(project, max_tokens=10), spend_limit=Decimal("0.25"))
        run_to_end(run.job_id)

        job = Job.objects.get()
        assert (job.state, job.failure, job.done, job.cost) == ("paused", "spend_limit", 25, Decimal("0.25"))
        assert sum(row.cost or 0 for row in Annotation.objects.all()) == job.cost


class TestEstimate:
    def test_it_counts_the_items_to_be_asked(self):
        project = make_project()
        known, *_ = make_items(project, 30)
        make_calibration_label(known, "positive")

        estimate = annotation_estimate(project=project, choice=chosen(project))

        assert estimate.calls == 29
        assert estimate.input_tokens > 29 * 50
        assert (estimate.cost, estimate.measured) == (None, False)
        assert estimate.seconds == pytest.approx(29 * 1.5 / 4)

    def test_with_a_price_it_says_what_it_costs(self):
        project = make_project()
        make_items(project, 10)
        ModelPrice.objects.create(provider="openai", model="small", input=1, output=2)

        estimate = annotation_estimate(project=project, choice=chosen(project))

        tokens = estimate.input_tokens + 2 * estimate.output_tokens
        assert estimate.cost == Decimal(tokens) / 1_000_000
        assert estimate.cost_per_call * 10 == estimate.cost

    def test_it_learns_from_an_earlier_run(self, provider: Provider):
        project = make_project()
        make_items(project, 10)
        provider(lambda request: Reply("[0]", "", "small", "stop", 1000, 30, 0, (), 0.0))
        run_to_end(create(project, chosen(project)).job_id)

        estimate = annotation_estimate(project=project, choice=chosen(project))

        assert (estimate.input_tokens, estimate.output_tokens, estimate.measured) == (10_000, 300, True)

    def test_the_trained_annotator_costs_nothing(self):
        project = make_project()
        make_items(project, 10)

        assert annotation_estimate(project=project, choice=TRAINED).cost == 0

    def test_an_empty_project_takes_nothing(self):
        project = make_project()

        estimate = annotation_estimate(project=project, choice=chosen(project))

        assert (estimate.calls, estimate.input_tokens, estimate.seconds) == (0, 0, 0)
