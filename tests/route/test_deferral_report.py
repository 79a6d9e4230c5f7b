"""What the report of a rejector chooses by itself."""

import numpy as np
import pytest

from route.deferral_report import Data, report_of


def noise(n: int = 90, width: int = 40) -> Data:
    """Vectors that say nothing of who is wrong: the default in a quarter of the items, the other in half of them."""
    rng = np.random.default_rng(3)
    wrong = np.column_stack([rng.random(n) < 0.25, rng.random(n) < 0.5])
    return Data(
        features=rng.normal(size=(n, width)),
        wrong=wrong,
        head_wrong=wrong[:, None, :],
        alpha=np.ones(2),
        beta=np.zeros(2),
        prices=np.zeros(2),
        confidences=np.full((n, 2), np.nan),
        answers=np.zeros((n, 2), dtype=np.int64),
    )


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_where_vectors_say_nothing_the_weights_are_held_down_and_the_better_agent_answers(
    hidden: tuple[int, ...],
) -> None:
    data = noise()

    report = report_of(data, ["default", "other"], nu=1.0, hidden=hidden, seed=0)

    assert report.penalty > 1
    assert (report.scores.argmax(axis=1) == 0).mean() > 0.6
