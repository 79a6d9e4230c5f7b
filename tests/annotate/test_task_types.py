import pytest

from annotate.task_types import TASK_TYPES, get_task_type


def test_each_task_type_is_found_by_its_key_and_needs_something_of_an_item():
    for key, task in TASK_TYPES.items():
        assert get_task_type(key) is task
        assert task.key == key
        assert task.needs_text or task.needs_image


def test_agreement_compares_an_image_with_a_caption():
    task = get_task_type("image_text_agreement")

    assert (task.needs_text, task.needs_image, task.needs_question) == (True, True, False)
    assert task.default_labels == ("no", "yes")


def test_an_unknown_key_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known are image_classification, text_classification"):
        get_task_type("poetry")
