"""Settings are chosen as Eq. 2 says, and routing is measured as section 4.1 defines."""

import pytest

from route.replay import (
    Replay,
    choose_setting,
    deployment_order,
    escalation_budget,
    is_polled,
    replay,
    routing_metrics,
    stopping_step,
)


def test_a_worked_replay():
    # Four items: an error escalated after 1 of 4 steps, an error missed, a correct one escalated after 2 of 2, a
    # correct one left alone.
    assert replay([1, 1, 0, 0], [1, 0, 2, 0], [4, 3, 2, 5]) == Replay(0.25, 0.5, (0.25 + 1 + 1 + 1) / 4)


def test_a_trace_without_steps_counts_as_read_to_the_end():
    assert replay([True], [0], [0]) == Replay(1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], [], []), "at least one item"),
        (([0.5], [0], [1]), "true and false"),
        (([1], [2], [1]), "does not have"),
        (([1], [-1], [1]), "whole number"),
        (([1], [1.5], [2]), "whole number"),
        (([1, 0], [1], [2]), "2 items"),
    ],
)
def test_replays_of_wrong_values_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        replay(*arguments)


def test_the_fewest_missed_errors_within_the_limit_win():
    replays = [Replay(0.0, 0.5, 0.5), Replay(0.2, 0.1, 0.9), Replay(0.1, 0.3, 0.9)]

    assert choose_setting(replays, 0.3) == 2
    assert choose_setting(replays, 0.1 + 0.2) == 2
    assert choose_setting(replays, 0.2) == 1
    assert choose_setting(replays, 1) == 0


def test_ties_go_to_the_smaller_effort():
    assert choose_setting([Replay(0.1, 0.2, 0.9), Replay(0.1, 0.3, 0.6)], 0.3) == 1
    assert choose_setting([Replay(0.1, 0.3, 0.6), Replay(0.1, 0.2, 0.6)], 0.3) == 1


def test_no_setting_within_the_limit_is_said():
    assert choose_setting([Replay(0.0, 0.4, 0.5)], 0.3) is None
    assert choose_setting([], 0.3) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_setting([], 1.1)


def test_polling_asks_after_every_so_many_steps_and_after_the_last():
    assert [step for step in range(1, 8) if is_polled(step, 2, is_last=step == 7)] == [2, 4, 6, 7]
    assert [step for step in range(1, 4) if is_polled(step, 4, is_last=step == 3)] == [3]
    with pytest.raises(ValueError, match="from 1"):
        is_polled(1, 0, is_last=False)


def test_only_polled_steps_can_stop_a_trace():
    answers = [True, False, True, True, False]

    assert [stopping_step(answers, interval) for interval in (1, 2, 4)] == [1, 4, 4]
    assert stopping_step([False, False, True], 2) == 3
    assert stopping_step([], 1) == 0


def test_the_budget_is_a_floor_without_rounding_surprises():
    assert escalation_budget(0.3, 9) == 2
    assert escalation_budget(0.29, 100) == 29
    assert escalation_budget(1, 7) == 7
    assert escalation_budget(0.5, 0) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        escalation_budget(-0.1, 3)


def test_worked_routing_metrics():
    metrics = routing_metrics(
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        judge_tokens=[10, 20, 100, 30, 40],
        full_tokens=[100, 100, 100, 60, 40],
        router_tokens=[1, 2, 3, 4, 5],
    )

    assert metrics.accuracy == pytest.approx(4 / 5)
    assert metrics.escalation_rate == pytest.approx(3 / 5)
    assert metrics.recall == pytest.approx(2 / 3)
    assert metrics.false_escalation_rate == pytest.approx(1 / 2)
    assert metrics.precision == pytest.approx(2 / 3)
    assert (metrics.judge_tokens, metrics.router_tokens) == (200, 15)
    assert metrics.judge_tokens_saved == pytest.approx(1 - 200 / 400)


def test_shares_of_nothing_are_none():
    metrics = routing_metrics([0, 0], [0, 0])

    assert (metrics.accuracy, metrics.recall, metrics.precision, metrics.judge_tokens) == (
        1,
        None,
        None,
        None,
    )
    assert routing_metrics([1], [1]).false_escalation_rate is None


def test_tokens_saved_need_both_figures():
    with pytest.raises(ValueError, match="both"):
        routing_metrics([0], [0], judge_tokens=[3])


def test_time_and_estimates_are_counted():
    metrics = routing_metrics(
        [0, 1], [0, 1], is_estimated=[0, 1], seconds=[2.5, 0.5], full_seconds=[2.0, 4.0]
    )

    assert (metrics.seconds, metrics.n_estimated) == (3.0, 1)
    assert metrics.seconds_saved == pytest.approx(0.5)
    assert routing_metrics([0], [0]).seconds is None
    with pytest.raises(ValueError, match="both"):
        routing_metrics([0], [0], seconds=[1.0])
    with pytest.raises(ValueError, match="at least 0"):
        routing_metrics([0], [0], seconds=[1.0], full_seconds=[-1.0])


def test_items_are_deployed_by_falling_disagreement():
    assert deployment_order([0.2, 0.9, 0.2, 0.5]).tolist() == [1, 3, 0, 2]
    with pytest.raises(ValueError, match="finite"):
        deployment_order([0.2, float("nan")])
