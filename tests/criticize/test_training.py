import pytest

from annotate.services.runs import TRAINED
from criticize.models import CriticismRun
from criticize.services import criticism_run_create
from jobs.running import run_to_end
from tests.factories import make_annotation_run, make_calibration_label, make_item, make_items, make_project

pytestmark = pytest.mark.django_db

WORDS = {"positive": "a lovely sunny day", "negative": "a dreadful rainy day"}


def criticized() -> CriticismRun:
    """The same data set, imported once more and criticized by the trained criticizer."""
    project = make_project()
    for number in range(20):
        name = ("positive", "negative")[number % 2]
        make_calibration_label(make_item(project, text=f"{WORDS[name]}, on day {number}"), name)
    answers = {}
    for number in range(60):
        name = ("positive", "negative")[number % 3 % 2]
        item = make_item(project, text=f"{WORDS[name]} number {number * 37 % 60}")
        answers[item] = "" if number == 7 else ("positive", "negative")[number % 2]
    run = criticism_run_create(
        annotation_run=make_annotation_run(project, answers), user=project.created_by, choice=TRAINED
    )
    run_to_end(run.job_id)
    return run


def error_probs(run: CriticismRun) -> list[float | None]:
    return list(run.criticisms.order_by("annotation__item_id").values_list("error_prob", flat=True))


def test_the_same_data_and_seed_give_the_same_probabilities_whatever_the_ids_are() -> None:
    first = criticized()
    make_items(make_project(), 3)
    second = criticized()

    assert len(error_probs(first)) == 59
    assert error_probs(first) == error_probs(second)
