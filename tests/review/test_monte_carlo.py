"""What holds on average, over 2,000 seeded draws or rounds each.

Every comparison allows four standard errors. The seeds are fixed, so a test that passes goes on passing.
"""

import numpy as np
import pytest

from review.certificate import accuracy_interval
from review.sampling import RULES, draw, inclusion_probabilities
from review.weights import act_weights

DRAWS = 2000


def many_draws(error_prob, budget, rule, *, seed):
    """π and δ of each of `DRAWS` draws, both of shape (DRAWS, N)."""
    rng = np.random.default_rng(seed)
    inclusion = np.empty((DRAWS, len(error_prob)))
    selected = np.empty((DRAWS, len(error_prob)), dtype=bool)
    for number in range(DRAWS):
        inclusion[number], _ = inclusion_probabilities(error_prob, budget, rule, rng=rng)
        selected[number] = draw(inclusion[number], rng=rng)
    return inclusion, selected


def suspicions(kind, n=60):
    """Error probabilities as criticizers give them."""
    rng = np.random.default_rng(5)
    return {
        "spread": rng.random(n).round(3),
        "mostly sure": np.where(rng.random(n) < 0.2, 0.95, 0.02) + rng.random(n) * 0.03,
        "coarse": rng.choice([0.0, 0.25, 0.5, 1.0], n),
        "all equal": np.full(n, 0.3),
        "few": np.array([0.9, 0.7, 0.3, 0.2, 0.1]),
    }[kind]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["spread", "mostly sure", "coarse", "all equal", "few"])
def test_items_are_selected_as_often_as_their_inclusion_probability_says(rule, kind):
    error_prob = suspicions(kind)
    budget = len(error_prob) // 5

    # A count of few is skewed: an item with π = 0.0003 is beyond four standard errors at one seed in some hundreds.
    inclusion, selected = many_draws(error_prob, budget, rule, seed=2)

    assert (selected.sum(axis=1) <= budget).all()
    chance = inclusion.mean(axis=0)
    standard_error = np.sqrt((inclusion * (1 - inclusion)).mean(axis=0) / DRAWS)
    assert np.all(np.abs(selected.mean(axis=0) - chance) <= 4 * standard_error + 1e-12)


@pytest.mark.parametrize("kind", ["coarse", "all equal"])
def test_tied_items_share_the_places_at_the_cut_equally(kind):
    error_prob, budget = suspicions(kind), 20
    _, parameters = inclusion_probabilities(error_prob, budget, "threshold")
    tied = error_prob == parameters["tau"]

    _, selected = many_draws(error_prob, budget, "threshold", seed=2)

    chance = np.where(tied, parameters["tied_prob"], error_prob > parameters["tau"])
    assert 0 < parameters["tied_prob"] < 1
    standard_error = np.sqrt(chance * (1 - chance) / DRAWS)
    assert np.all(np.abs(selected.mean(axis=0) - chance) <= 4 * standard_error + 1e-12)


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.needs_probabilities])
@pytest.mark.parametrize("seed", range(5))
def test_the_act_loss_is_on_average_the_loss_on_human_labels(rule, seed):
    rng = np.random.default_rng(seed)
    n = 60
    error_prob = rng.uniform(0.05, 1, n)
    machine_loss, human_loss = rng.exponential(1, n), rng.exponential(1, n)
    lam = rng.uniform(0, 1)

    inclusion, selected = many_draws(error_prob, 15, rule, seed=seed)
    machine, human = act_weights(selected.ravel(), inclusion.ravel(), lam)

    weighted = machine.reshape(DRAWS, n) * machine_loss + human.reshape(DRAWS, n) * human_loss
    losses = weighted.mean(axis=1)
    assert losses.std() > 0.01
    assert abs(losses.mean() - human_loss.mean()) < 4 * losses.std(ddof=1) / np.sqrt(DRAWS)


def test_with_the_threshold_rule_the_act_loss_is_the_loss_on_final_labels():
    rng = np.random.default_rng(3)
    n = 60
    machine_loss, human_loss = rng.exponential(1, n), rng.exponential(1, n)

    inclusion, selected = many_draws(suspicions("spread"), 15, "threshold", seed=3)
    machine, human = act_weights(selected.ravel(), inclusion.ravel())

    weighted = machine.reshape(DRAWS, n) * machine_loss + human.reshape(DRAWS, n) * human_loss
    assert weighted == pytest.approx(np.where(selected, human_loss, machine_loss))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("items", "budget", "audited", "error_rate"),
    [
        (500, 50, 60, 0.1),
        (500, 50, 60, 0.01),
        (2000, 400, 100, 0.3),
        (2000, 100, 300, 0.03),
        (120, 20, 90, 0.15),
        (300, 250, 10, 0.5),
    ],
)
def test_the_certificate_covers_the_truth_as_often_as_it_says(rule, items, budget, audited, error_rate):
    """Whole rounds: draw, correct what is selected, audit the rest at random, and state the final accuracy."""
    rng = np.random.default_rng(items + audited)
    error_prob = rng.beta(1, 1 / error_rate - 1, items)
    is_error = rng.random((DRAWS, items)) < error_prob
    _, selected = many_draws(error_prob, budget, rule, seed=items)

    wrong = (is_error & ~selected).sum(axis=1)
    found = rng.hypergeometric(wrong, items - budget - wrong, audited)

    intervals = {
        seen: accuracy_interval(seen, audited, items - budget, reviewed=budget)
        for seen in np.unique(found).tolist()
    }
    low, high = np.array([intervals[seen] for seen in found.tolist()]).T
    truth = 1 - wrong / items
    covered = (low - 1e-12 <= truth) & (truth <= high + 1e-12)
    assert covered.mean() >= 0.94
    assert (high - low).mean() < 1
