"""The benchmarks on real items: their pieces, on a few real items and on made ones where the result is known."""

import numpy as np
import pytest

from benchmarks.routing_real import annotators, deferral, meta, traces
from benchmarks.routing_real.annotators import Annotator, dealt, digits, mean_and_error, trained
from benchmarks.traces import ONE_SHOT
from route.escalation import MemoryBudget
from route.meta_baselines import BASELINE_KINDS
from route.trace import steps_of
from route.trace_baselines import BASELINES


def test_items_are_dealt_once_each_and_anew_by_seed():
    parts = dealt(100, (10, 20), seed=1)

    assert [len(part) for part in parts] == [10, 20, 70]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert not np.array_equal(parts[0], dealt(100, (10, 20), seed=2)[0])
    with pytest.raises(ValueError, match="Of 30 items 30 are asked for"):
        dealt(30, (10, 20), seed=1)


def test_the_error_of_a_mean_is_the_standard_error():
    mean, error = mean_and_error([1.0, 2.0, 3.0, 6.0])

    assert mean == 3.0
    assert error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)


def test_an_annotator_that_never_met_a_label_finds_it_impossible():
    annotator = Annotator(np.array(["a", "c"]), np.array([[0.2, 0.8], [0.6, 0.4]]))

    assert annotator.answers.tolist() == ["c", "a"]
    assert annotator.confidences.tolist() == [0.8, 0.6]
    assert annotator.probability_of(np.array(["b", "c"])).tolist() == [0.0, 0.4]


def test_specialists_are_good_at_their_own_part_and_people_at_all():
    items = digits()
    default, specialists, _, test = dealt(len(items), (300, 600, 500), seed=0)

    said = deferral.answered(items, default, specialists)

    first = items.is_first_part[test]
    wrong = said.wrong[test]
    assert wrong[first, 1].mean() < 0.1 < wrong[first, 0].mean() < wrong[~first, 1].mean() == 1
    assert wrong[~first, 2].mean() < 0.1 < wrong[first, 2].mean() == 1
    assert not wrong[:, 3].any()
    assert (said.confidences[:, 3] == 1).all()


def test_a_cascade_pays_for_all_whom_it_asks():
    rng = np.random.default_rng(0)
    wrong = np.hstack([rng.random((50, 3)) < 0.9, np.zeros((50, 1), dtype=bool)])
    unsure = np.hstack([np.full((50, 3), 0.01), np.ones((50, 1))])
    said = deferral.Answered(wrong, unsure, np.zeros((50, 3), dtype=np.intp))

    # Models that are nearly always wrong and never sure: people answer, after everybody was asked and paid.
    loss = deferral.cascade_loss(said, np.arange(25), np.arange(25, 50), deferral.consultation(0.05))

    assert loss == pytest.approx(0.05 + 0.05 + deferral.PEOPLE_COST)


def test_what_a_rejector_must_be_below_is_noticed():
    names = [*deferral.MUST_HOLD, *map(deferral.random_name, deferral.MUST_HOLD), *deferral.agent_names()]
    good = dict.fromkeys(names, 0.5) | dict.fromkeys(deferral.MUST_HOLD, 0.2)
    columns = [dict(good) for _ in deferral.CONSULTATION_COSTS]

    assert deferral.shortfalls(columns) == []
    columns[1]["people alone"] = 0.2
    assert len(deferral.shortfalls(columns)) == len(deferral.MUST_HOLD)
    columns[1] = good | {"rejector, ν = 2": 0.5, deferral.random_name("rejector, ν = 2"): 0.5}
    assert any("random, same shares (ν = 2)" in sentence for sentence in deferral.shortfalls(columns))


def test_real_rejectors_beat_chance_and_each_agent_alone(monkeypatch):
    monkeypatch.setattr(deferral, "PENALTIES", (10.0,))
    items = digits()
    default, specialists, learn, test = dealt(len(items), (300, 600, 800), seed=0)
    said = deferral.answered(items, default, specialists)

    losses = deferral.losses_at(items.vectors, said, learn, test, 0.05, seed=0)

    below = min(losses[name] for name in deferral.agent_names())
    for name in deferral.MUST_HOLD:
        assert losses["the cheapest right answer, in hindsight"] < losses[name] < below
        assert losses[name] < losses[deferral.random_name(name)]


@pytest.mark.parametrize("judge", ["fair", "partial"])
def test_a_judge_prefers_what_it_finds_likelier(judge):
    items = digits()
    cheap, premium, judging, _ = dealt(len(items), (200, 400, 400), seed=0)

    said = meta.compared(items, cheap, premium, judging, judge)

    models = [
        trained(features, items.gold, rows, items.strength)
        for features, rows in ((items.little, cheap), (items.much, premium))
    ]
    is_equal = models[0].answers == models[1].answers
    assert not said.preference[is_equal].any()
    assert set(np.unique(said.preference)) == {-1, 0, 1}
    right = [model.answers == items.gold for model in models]
    assert np.array_equal(said.gain, right[1].astype(int) - right[0])
    # One that knows little of 5 to 9 is biased more there; one that learned of all has about the same bias.
    bias = np.abs(said.preference - said.gain)
    first = items.is_first_part
    assert (bias[~first].mean() > 1.5 * bias[first].mean()) == (judge == "partial")


def test_judges_that_prefer_their_kin_are_fair_in_the_first_part_and_partly_in_the_second():
    items = digits()
    cheap, premium, judging, _ = dealt(len(items), (200, 400, 400), seed=0)

    fair, kin, ties = (
        meta.compared(items, cheap, premium, judging, judge) for judge in ("fair", "kin", "ties")
    )

    first, differ = items.is_first_part, fair.differ
    assert not fair.preference[~differ].any()
    for said in (kin, ties):
        assert np.array_equal(said.gain, fair.gain)
        assert np.array_equal(said.differ, differ)
        assert np.array_equal(said.preference[first], fair.preference[first])
    assert np.array_equal(kin.preference[~first], np.where(differ, -1, 0)[~first])
    assert np.array_equal(ties.preference[~first], np.where(differ, fair.preference, -1)[~first])


def test_a_meta_router_that_is_not_better_is_noticed():
    scores = {"dr": (0.1, 0.2), "r": (0.1, 0.2)} | dict.fromkeys(BASELINE_KINDS, (0.2, 0.1))

    assert meta.shortfalls(scores, 100) == []
    assert meta.shortfalls(scores | {"gold": (0.1, 0.1)}, 100) == [
        f"The squared error of “{learner}” is not below that of “gold”." for learner in ("dr", "r")
    ]
    assert any("pooled" in sentence for sentence in meta.shortfalls(scores | {"pooled": (0.2, 0.3)}, 100))
    assert meta.shortfalls(scores | {"oracle": (0.05, 0.3)}, 100) == []
    assert meta.shortfalls(scores | {"oracle": (0.05, 0.23)}, 1_000) == []
    assert meta.shortfalls(scores | {"oracle": (0.05, 0.24)}, 1_000) == [
        f"The area of “{learner}” is not within 15% of the oracle's." for learner in ("dr", "r")
    ]


def test_a_trace_says_who_leads_after_each_member():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])

    trace, final = traces.trace_of(["no", "yes", "yes"], probabilities, ["no", "yes"])

    steps = steps_of(trace)
    assert steps == [
        "member 1 says no (0.90); so far no at 0.90; 0 of 1 against it",
        "member 2 says yes (0.80); so far no at 0.55; 1 of 2 against it",
        "member 3 says yes (0.90); so far yes at 0.60; 1 of 3 against it",
    ]
    assert final == "yes"
    assert trace.endswith("\nLabel: [1]")
    assert [traces.doubt(step) for step in steps] == pytest.approx([0.05, 0.475, (0.4 + 1 / 3) / 2])
    with pytest.raises(ValueError, match="no step of the committee"):
        traces.doubt("something else")


@pytest.fixture
def few(monkeypatch):
    """A committee of digits, and few items to route."""
    monkeypatch.setattr(traces, "COMMITTEE", 400)
    monkeypatch.setattr(traces, "EACH_MEMBER", 100)
    monkeypatch.setattr(traces, "LABELLED", 300)
    monkeypatch.setattr(traces, "ROUTED", 200)
    return digits()


def test_the_table_has_every_baseline_and_what_must_hold_does(few, capsys):
    assert traces.print_traces(few, 1) == []

    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in (*BASELINES, traces.AFTERWARDS))
    assert printed.count("above ") >= len(ONE_SHOT)


def test_more_escalations_than_slots_are_noticed(few, monkeypatch):
    monkeypatch.setattr(MemoryBudget, "of", lambda limit, n_items: MemoryBudget(n_items))
    monkeypatch.setattr(traces.ReadingRouter, "escalates", lambda self, item, steps: True)

    assert any("B is 60" in sentence for sentence in traces.print_traces(few, 1))


def test_routers_see_what_the_product_sees():
    items = annotators.digits()

    assert items.vectors.shape == (5_000, 50)
    assert np.isfinite(items.vectors).all()
