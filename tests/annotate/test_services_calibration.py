import pytest

from annotate.errors import Refusal
from annotate.models import CalibrationLabel, Item
from annotate.services.calibration import calibration_draw, calibration_from_gold
from tests.factories import make_calibration_label, make_items, make_project

pytestmark = pytest.mark.django_db


def test_gold_labels_of_random_items_become_calibration_labels():
    project = make_project()
    make_items(project, 30, gold="positive")
    make_items(project, 30)

    assert calibration_from_gold(project=project, count=20) == 20

    labels = project.calibration_labels.select_related("item", "label")
    assert all(label.item.gold == label.label and label.author is None for label in labels)
    ids = sorted(label.item_id for label in labels)
    assert ids != [item.pk for item in project.items.order_by("id")[:20]]


def test_the_same_project_draws_the_same_items_and_a_second_draw_others():
    drawn = []
    for _ in range(2):
        project = make_project()
        items = make_items(project, 40, gold="positive")
        first = items[0].pk
        calibration_from_gold(project=project, count=10)
        once = set(project.calibration_labels.values_list("item_id", flat=True))
        calibration_from_gold(project=project, count=10)
        assert project.calibration_labels.count() == 20
        drawn.append(sorted(pk - first for pk in once))

    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_count_that_there_is_not_is_refused(count):
    project = make_project()
    make_items(project, 3, gold="positive")

    with pytest.raises(Refusal) as refusal:
        calibration_from_gold(project=project, count=count)

    assert refusal.value.field == "count"
    assert not CalibrationLabel.objects.exists()


def test_without_gold_there_is_nothing_to_take():
    project = make_project()
    make_items(project, 3)

    with pytest.raises(Refusal, match="No item has a gold label"):
        calibration_from_gold(project=project, count=1)


def test_a_large_calibration_set_is_made_too():
    project = make_project()
    label = project.labels.get(name="positive")
    Item.objects.bulk_create(
        (Item(project=project, external_id=str(number), text="x", gold=label) for number in range(30_002)),
        batch_size=1000,
    )

    assert calibration_from_gold(project=project, count=30_001) == 30_001


def test_items_to_label_are_drawn_among_those_without_a_label():
    project = make_project()
    known, *rest = make_items(project, 20)
    make_calibration_label(known, "positive")

    drawn = calibration_draw(project=project, count=19, round_seed=0)

    assert sorted(drawn) == [item.pk for item in rest]
    assert drawn == calibration_draw(project=project, count=19, round_seed=0)
    assert drawn != calibration_draw(project=project, count=19, round_seed=1)
    with pytest.raises(Refusal, match="between 1 and 19"):
        calibration_draw(project=project, count=20, round_seed=0)
