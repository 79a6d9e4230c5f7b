import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from review.weights import act_weights

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "act.json").read_text())["cases"]


@pytest.mark.parametrize("case", [case["weights"] for case in CASES])
def test_agrees_with_the_expected_figures(case):
    machine, human = act_weights(case["selected"], case["inclusion"], case["lambda"])

    assert machine == pytest.approx(case["machine"], abs=1e-9)
    assert human == pytest.approx(case["human"], abs=1e-9)


def test_at_threshold_the_weights_pick_the_final_label():
    machine, human = act_weights([True, False, True], [1.0, 0.0, 1.0])

    assert machine.tolist() == [0, 1, 0]
    assert human.tolist() == [1, 0, 1]


def test_an_unanswered_item_keeps_its_machine_label_whatever_its_chance():
    machine, human = act_weights([False, False], [0.3, 1.0], 0.8)

    assert machine.tolist() == [0.8, 0.8]
    assert human.tolist() == [0, 0]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 5),
    st.floats(0, 5),
)
def test_weighted_losses_are_the_loss_of_equation_8(drawn, lam, machine_loss, human_loss):
    selected = np.array([delta for delta, _ in drawn])
    inclusion = np.array([pi for _, pi in drawn])
    machine, human = act_weights(selected, inclusion, lam)

    expected = lam * machine_loss + (human_loss - lam * machine_loss) * selected / inclusion
    assert machine * machine_loss + human * human_loss == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("selected", "inclusion", "lam", "message"),
    [
        ([True], [0.0], 1.0, "could not have been selected"),
        ([True], [1.5], 1.0, "between 0 and 1"),
        ([True], [np.nan], 1.0, "between 0 and 1"),
        ([True, False], [0.5], 1.0, "same length"),
        ([2], [0.5], 1.0, "true and false"),
        ([True], [0.5], 1.1, "Lambda"),
        ([True], [0.5], np.nan, "Lambda"),
    ],
)
def test_invalid_input_is_refused(selected, inclusion, lam, message):
    with pytest.raises(ValueError, match=message):
        act_weights(selected, inclusion, lam)
