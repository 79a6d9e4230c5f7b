import pytest

from annotate.task_types import LABEL_TASKS, SPAN_TASKS, TASK_TYPES, WRITTEN_TASKS, get_task_type


def test_each_task_type_is_found_by_its_key_and_needs_something_of_an_item():
    for key, task in TASK_TYPES.items():
        assert get_task_type(key) is task
        assert task.key == key
        assert task.needs_text or task.needs_image


def test_agreement_compares_an_image_with_a_caption():
    task = get_task_type("image_text_agreement")

    assert (task.needs_text, task.needs_image, task.needs_question) == (True, True, False)
    assert task.default_labels == ("no", "yes")


def test_answers_are_labels_written_or_spans_and_only_written_ones_are_cut_into_facts():
    assert sorted([*LABEL_TASKS, *WRITTEN_TASKS, *SPAN_TASKS]) == sorted(TASK_TYPES)
    assert WRITTEN_TASKS == ("rated_answer", "written_facts")
    assert SPAN_TASKS == ("extractive_qa",)
    assert [key for key in TASK_TYPES if get_task_type(key).is_rated] == ["rated_answer"]
    for key in (*WRITTEN_TASKS, *SPAN_TASKS):
        assert get_task_type(key).is_written
        assert not get_task_type(key).default_labels
    assert [key for key in TASK_TYPES if get_task_type(key).checks_facts] == ["written_facts"]


def test_an_unknown_key_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known are image_classification, text_classification"):
        get_task_type("poetry")
