"""Judge routers that read traces step by step: on logged traces to choose among settings, and after routing.

A setting ψ is the wording, demonstrations and polling of a router. Symbols of the paper: δ is `is_error` (the
annotator's label differs from the human one), τ is `stopped_at` (the step, counted from 1, after which the router
escalates; 0 where it never does), T is `n_steps`, ρ is `limit` (the highest share of items that may be escalated).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

POLLING_INTERVALS = (1, 2, 4)
RETRIEVAL_STYLES = ("nearest", "balanced")

# Shares such as 0.1 + 0.2 stand for 0.3.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Replay:
    """What a setting does on logged traces; all three are shares in [0, 1] of the items, lower is better.

    `missed_errors` mean of δ·1{not escalated}, `escalation_rate` mean of 1{escalated}, `effort` mean of τ/T, with 1
    for an item that is not escalated.
    """

    missed_errors: float
    escalation_rate: float
    effort: float


@dataclass(frozen=True, slots=True)
class RoutingMetrics:
    """What routing does to n items, the human label being the truth for all of them.

    `accuracy` of the labels after routing, where an escalated item has its human label; `escalation_rate`; `recall`:
    share of the errors that were escalated; `false_escalation_rate`: share of the correct labels that were
    escalated; `precision`: share of the escalated items that were errors. A share of nothing is None. `judge_tokens`,
    `router_tokens` and `seconds` are sums; `judge_tokens_saved` and `seconds_saved` are the shares saved against
    annotating every item to the end, negative where routing took more. They are None where nothing was given of them.
    `n_estimated` is of how many items the tokens are an estimate, because a stopped stream did not tell them.
    """

    accuracy: float
    escalation_rate: float
    recall: float | None
    false_escalation_rate: float | None
    precision: float | None
    judge_tokens: int | None = None
    judge_tokens_saved: float | None = None
    router_tokens: int | None = None
    seconds: float | None = None
    seconds_saved: float | None = None
    n_estimated: int = 0


def escalation_budget(limit: float, n_items: int) -> int:
    """B = ⌊ρ·n⌋ (algorithm 1). Raises ValueError unless ρ is in [0, 1] and n ≥ 0."""
    _check_limit(limit)
    if n_items < 0:
        raise ValueError("The number of items cannot be negative.")
    return math.floor(limit * n_items + _ROUNDING)


def deployment_order(disagreement: npt.ArrayLike) -> IntArray:
    """Places of the items by falling p̂ (algorithm 1), (n,); ties by place.

    `disagreement` (n,), finite. Raises ValueError for anything else.
    """
    scores = np.asarray(disagreement, dtype=float)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError("Items are ordered by one finite number for each.")
    return np.argsort(-scores, kind="stable")


def is_polled(step: int, interval: int, *, is_last: bool) -> bool:
    """Whether the router is asked after this step (from 1): after every Δ-th step and after the last one.

    Raises ValueError unless `step` and `interval` are positive.
    """
    if step < 1 or interval < 1:
        raise ValueError("Steps and polling intervals are counted from 1.")
    return is_last or step % interval == 0


def stopping_step(escalates: Sequence[bool], interval: int) -> int:
    """τ: the first polled step whose answer is to escalate, 0 when there is none (NA in the paper).

    `escalates` holds what the router says after each of the T steps; only the polled ones are looked at.
    """
    n_steps = len(escalates)
    for step, escalate in enumerate(escalates, start=1):
        if escalate and is_polled(step, interval, is_last=step == n_steps):
            return step
    return 0


def replay(is_error: npt.ArrayLike, stopped_at: npt.ArrayLike, n_steps: npt.ArrayLike) -> Replay:
    """The three figures by which a setting is chosen (section 3, step 2).

    All of shape (n,): `is_error` boolean or 0/1, 0 ≤ `stopped_at` ≤ `n_steps` whole numbers. A trace without steps
    cannot be escalated and counts with an effort of 1. Raises ValueError for anything else, or without items.
    """
    errors = _flags(is_error, "is_error")
    stops, steps = _counts(stopped_at, "stopped_at", len(errors)), _counts(n_steps, "n_steps", len(errors))
    if (stops > steps).any():
        raise ValueError("A trace cannot be stopped after a step that it does not have.")
    escalated = stops > 0
    shares_read = np.ones(len(errors))
    shares_read[escalated] = stops[escalated] / steps[escalated]
    return Replay(
        missed_errors=int((errors & ~escalated).sum()) / len(errors),
        escalation_rate=int(escalated.sum()) / len(errors),
        effort=float(shares_read.mean()),
    )


def choose_setting(replays: Sequence[Replay], limit: float) -> int | None:
    """Position of the best setting (Eq. 2): the fewest missed errors among those that escalate at most ρ.

    Ties go to the smaller effort, then to the smaller escalation rate, then to the earlier setting. None when no
    setting keeps to ρ: nothing is chosen silently. Raises ValueError unless ρ is in [0, 1].
    """
    _check_limit(limit)
    allowed = [i for i, one in enumerate(replays) if one.escalation_rate <= limit + _ROUNDING]
    return min(
        allowed,
        key=lambda i: (replays[i].missed_errors, replays[i].effort, replays[i].escalation_rate, i),
        default=None,
    )


def routing_metrics(
    is_error: npt.ArrayLike,
    escalated: npt.ArrayLike,
    *,
    judge_tokens: npt.ArrayLike | None = None,
    full_tokens: npt.ArrayLike | None = None,
    router_tokens: npt.ArrayLike | None = None,
    is_estimated: npt.ArrayLike | None = None,
    seconds: npt.ArrayLike | None = None,
    full_seconds: npt.ArrayLike | None = None,
) -> RoutingMetrics:
    """The figures of section 4.1. All arguments have shape (n,).

    `is_error` says of the annotator's label, completed or as it would have been, whether it differs from the human
    one. `judge_tokens` are what was generated, `full_tokens` what annotating to the end takes; both or neither.
    `is_estimated` says whose tokens are an estimate. `seconds` is how long an item took, with the router's answers,
    `full_seconds` how long annotating it to the end takes; both or neither. Raises ValueError for other shapes or
    values, or without items.
    """
    errors = _flags(is_error, "is_error")
    sent = _flags(escalated, "escalated")
    if len(sent) != len(errors):
        raise ValueError(
            "Every item needs to be said of whether it is an error and whether it was escalated."
        )
    if (judge_tokens is None) != (full_tokens is None):
        raise ValueError("Tokens saved need both what was generated and what annotating to the end takes.")
    judge, full, router = (
        None if tokens is None else int(_counts(tokens, "tokens", len(errors)).sum())
        for tokens in (judge_tokens, full_tokens, router_tokens)
    )
    if (seconds is None) != (full_seconds is None):
        raise ValueError(
            "Time saved needs both how long items took and how long annotating to the end takes."
        )
    spent, full_spent = (
        None if times is None else float(_times(times, len(errors)).sum())
        for times in (seconds, full_seconds)
    )
    estimated = 0 if is_estimated is None else int(_flags(is_estimated, "is_estimated").sum())
    return RoutingMetrics(
        accuracy=1 - int((errors & ~sent).sum()) / len(errors),
        escalation_rate=int(sent.sum()) / len(errors),
        recall=_share(errors & sent, errors),
        false_escalation_rate=_share(~errors & sent, ~errors),
        precision=_share(errors & sent, sent),
        judge_tokens=judge,
        judge_tokens_saved=None if judge is None or not full else 1 - judge / full,
        router_tokens=router,
        seconds=spent,
        seconds_saved=None if spent is None or not full_spent else 1 - spent / full_spent,
        n_estimated=estimated,
    )


def _check_limit(limit: float) -> None:
    if not 0 <= limit <= 1:
        raise ValueError("The highest share of items to escalate must lie between 0 and 1.")


def _share(part: BoolArray, whole: BoolArray) -> float | None:
    return int(part.sum()) / int(whole.sum()) if whole.any() else None


def _flags(values: npt.ArrayLike, name: str) -> BoolArray:
    flags = np.asarray(values)
    if flags.ndim != 1 or not len(flags):
        raise ValueError(f"{name} needs one value for each of at least one item.")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"{name} must hold true and false (or 1 and 0) only.")
    return flags.astype(bool)


def _counts(values: npt.ArrayLike, name: str, n_items: int) -> IntArray:
    counts = np.asarray(values)
    if counts.shape != (n_items,) or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(f"{name} needs one whole number of at least 0 for each of the {n_items} items.")
    return counts.astype(np.intp)


def _times(values: npt.ArrayLike, n_items: int) -> npt.NDArray[np.float64]:
    times = np.asarray(values, dtype=float)
    if times.shape != (n_items,) or not np.isfinite(times).all() or (times < 0).any():
        raise ValueError(f"Seconds need one number of at least 0 for each of the {n_items} items.")
    return times
