import pytest

from annotate.models import AnnotationRun, CalibrationLabel
from annotate.services.runs import TRAINED
from criticize.models import CriticismRun
from criticize.services import criticism_run_create
from criticize.training import fitted_criticizer
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


def candidate() -> AnnotationRun:
    """A run over the calibration items alone, every third of whose labels is wrong."""
    project = make_project()
    answers = {}
    for number in range(60):
        name = ("positive", "negative")[number % 2]
        item = make_item(project, text=f"{WORDS[name]}, on day {number}")
        make_calibration_label(item, name)
        answers[item] = ("positive", "negative")[(number % 2) ^ (number % 3 == 0)]
    return make_annotation_run(project, answers, scope="calibration")


def test_the_calibration_items_of_a_candidate_are_judged_without_their_own_labels() -> None:
    annotation_run = candidate()
    owner = annotation_run.created_by

    def judge() -> dict[int, float]:
        run = criticism_run_create(annotation_run=annotation_run, user=owner, choice=TRAINED)
        run_to_end(run.job_id)
        found = run.criticisms.values_list("annotation__item_id", "error_prob")
        return {item_id: error_prob for item_id, error_prob in found if error_prob is not None}

    before = judge()
    assert len(before) == 60
    wrong = [
        annotation.item_id
        for annotation in annotation_run.annotations.select_related("item__calibration_label")
        if annotation.label_id != annotation.item.calibration_label.label_id
    ]
    right = [pk for pk in before if pk not in wrong]
    assert min(before[pk] for pk in wrong) > max(before[pk] for pk in right)

    for item_id in (wrong[0], right[0]):
        label = CalibrationLabel.objects.get(item_id=item_id)
        own = label.label
        assert own is not None
        label.label = annotation_run.project.labels.exclude(pk=own.pk).get()
        label.save()
        after = judge()
        assert after[item_id] == before[item_id]
        assert after != before
        label.label = own
        label.save()


def test_items_calibrated_after_they_were_annotated_are_judged_without_their_own_labels() -> None:
    annotation_run = candidate()
    annotation_run.scope = "project"
    annotation_run.save()
    make_calibration_label(
        make_item(annotation_run.project, text="a lovely day that no one annotated"), "positive"
    )
    run = criticism_run_create(annotation_run=annotation_run, user=annotation_run.created_by, choice=TRAINED)

    fitted = fitted_criticizer(run.pk)
    items = list(annotation_run.project.items.order_by("id"))

    assert fitted.places_or_none(items).tolist() == [*range(60), -1]


def test_copies_of_a_candidates_items_do_not_tell_each_others_labels() -> None:
    annotation_run = candidate()
    project = annotation_run.project
    first, *_, last = list(project.items.order_by("pk"))
    copy = make_item(project, text=f" {first.text.upper()} ")
    make_calibration_label(copy, "positive")
    unlabelled = make_item(project, text=last.text)
    make_calibration_label(unlabelled, "negative")  # a copy that the candidate was not asked about
    annotation_run.annotations.create(
        run=annotation_run, item=copy, label=annotation_run.annotations.get(item=first).label
    )

    def judge() -> dict[int, float]:
        run = criticism_run_create(annotation_run=annotation_run, user=project.created_by, choice=TRAINED)
        annotations = list(annotation_run.annotations.order_by("item_id"))
        found = fitted_criticizer(run.pk).error_probabilities(annotations).tolist()
        return {row.item_id: error_prob for row, error_prob in zip(annotations, found, strict=True)}

    before = judge()
    assert before[first.pk] == before[copy.pk]
    for item, twin, name in ((copy, first, "negative"), (unlabelled, last, "positive")):
        labels = CalibrationLabel.objects.filter(item=item)
        own = labels.get().label
        labels.update(label=project.labels.get(name=name))
        after = judge()
        assert after[twin.pk] == before[twin.pk]
        assert after != before
        labels.update(label=own)
