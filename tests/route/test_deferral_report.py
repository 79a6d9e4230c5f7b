"""What the report of a rejector chooses by itself."""

from dataclasses import replace

import numpy as np
import pytest

from route.deferral_report import Data, losses_of_asked, report_of


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


def sure_and_unsure(n: int = 40) -> Data:
    """Three agents; the default is wrong where it is unsure, on every second item, and the others never are."""
    unsure = np.arange(n) % 2 == 1
    wrong = np.column_stack([unsure, np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)])
    return Data(
        features=unsure[:, None].astype(float),
        wrong=wrong,
        head_wrong=wrong[:, None, :],
        alpha=np.ones(3),
        beta=np.array([0.1, 0.2, 0.3]),
        prices=np.array([1.0, 2.0, 3.0]),
        confidences=np.column_stack([np.where(unsure, 0.2, 0.9), np.full(n, 0.95), np.full(n, 0.95)]),
        answers=np.column_stack([unsure, np.zeros(n), np.zeros(n)]).astype(np.int64),
    )


def test_who_asks_several_agents_pays_for_every_one_of_them() -> None:
    report = report_of(sure_and_unsure(), ["cheap", "middle", "dear"], nu=1.0, hidden=(), seed=0)

    rows = {row.name: row for row in report.rows}
    # The default where it is sure; where it is not, it was asked before the second one answered.
    cascade = rows["Confidence cascade"]
    assert cascade.loss == pytest.approx((0.1 + 0.3) / 2)
    assert cascade.price == pytest.approx((1 + 3) / 2)
    assert cascade.accuracy == 1.0
    vote = rows["Majority vote of all"]
    assert vote.loss == pytest.approx(0.6)
    assert vote.price == pytest.approx(6)
    assert rows["Rejector"].loss == pytest.approx((0.1 + 0.2) / 2)


def test_a_rejector_that_is_worse_than_one_agent_alone_says_so() -> None:
    good = report_of(sure_and_unsure(), ["cheap", "middle", "dear"], nu=1.0, hidden=(), seed=0)
    # Whom the rejector does not take, of who is never wrong and costs nothing.
    free = replace(
        good, rows=[replace(row, loss=0.0 if row.name == "dear alone" else row.loss) for row in good.rows]
    )

    assert good.said() == []
    assert free.said() == [
        "dear alone comes to a deferral loss of 0.000, this router to 0.150, on items that it did not learn from. Give "
        "all items to that agent, or label more calibration items and train again."
    ]


def test_an_answer_about_a_span_costs_beta_for_each_of_its_ends() -> None:
    data = sure_and_unsure(4)
    spans = replace(data, head_wrong=np.repeat(data.head_wrong, 2, axis=1))
    asked = np.array([[True, False, False], [True, True, False]] * 2)

    losses = losses_of_asked(spans, np.array([0, 1, 0, 1]), asked)

    assert losses == pytest.approx([0.2, 0.6, 0.2, 0.6])
