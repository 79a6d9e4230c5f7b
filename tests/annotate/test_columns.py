import numpy as np
import pytest

from annotate import columns
from annotate.columns import by_few_values, columns_by, looked_up
from annotate.models import Item, Label, Project
from tests.factories import label_named, make_item, make_project

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project()


@pytest.fixture
def items(project: Project) -> list[Item]:
    return [make_item(project, gold=gold) for gold in ("positive", "", "negative", "positive")]


def test_columns_of_no_rows_are_as_many(project):
    assert columns_by(project.items.all(), "gold_id", "pk").shape == (0, 2)
    assert by_few_values(project.items.all(), "gold_id", "pk") == []


def test_ids_come_with_the_label_that_they_have(project, items):
    found = columns_by(project.items.all(), "gold_id", "pk", "project_id")

    assert found.dtype == np.int64
    assert sorted(found.tolist()) == sorted([item.gold_id or 0, item.pk, project.pk] for item in items)


def test_few_values_come_in_order_and_many_not_at_all(project, items, monkeypatch):
    first, second = sorted([label_named(project, "negative").pk, label_named(project, "positive").pk])
    with_gold = project.items.filter(gold__isnull=False)

    found = by_few_values(with_gold, "gold_id", "pk")

    assert found is not None
    assert [label for label, _ in found] == [first, second]
    by_label = {label: sorted(ids.tolist()) for label, ids in found}
    assert by_label == {
        label.pk: [item.pk for item in items if item.gold_id == label.pk] for label in Label.objects.all()
    }
    monkeypatch.setattr(columns, "_MOST_VALUES", 1)
    assert by_few_values(with_gold, "gold_id", "pk") is None


def test_what_is_not_known_is_looked_up_as_nothing():
    ids, values = np.array([7, 3, 5]), np.array([70, 30, 50])

    assert looked_up(np.array([5, 4, 3, 9, 7]), ids, values).tolist() == [50, 0, 30, 0, 70]
    assert looked_up(np.array([5]), ids[:0], values[:0]).tolist() == [0]
