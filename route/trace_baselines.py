"""What the trace-aware router is compared with: other ways to choose which items go to people.

Every baseline gives a boolean array, (n,), with at most B = ⌊ρ·n⌋ items escalated, so that
`route.replay.routing_metrics` makes one table of all. ρ is `limit`. Those that ask a router model take what it decided
or scored; nothing here calls a model.
"""

import numpy as np
import numpy.typing as npt

from route.replay import deployment_order, escalation_budget
from route.risk import checked_errors
from route.router_prompts import RISK_LEVELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# In the order of the table.
BASELINES = (
    "AI only",
    "one-shot on the full trace",
    "no trace",
    "trace only",
    "trace + retrieval",
    "similarity rule",
    "logistic regression",
    "MLP",
    "model-stated risk",
    "random",
)


def ai_only(n_items: int) -> BoolArray:
    """No item is escalated, (n,). Raises ValueError for a negative number of items."""
    return np.zeros(n_items, dtype=bool)


def highest_scores(scores: npt.ArrayLike, limit: float) -> BoolArray:
    """The B items with the highest scores, (n,): what a one-shot score with a threshold does.

    `scores` (n,), finite, higher is more suspicious; ties by place. Raises ValueError for other values.
    """
    return within_budget(np.ones(len(np.asarray(scores)), dtype=bool), limit, priority=scores)


def within_budget(
    decisions: npt.ArrayLike, limit: float, *, priority: npt.ArrayLike | None = None
) -> BoolArray:
    """Of the items that a router decided to escalate, the B first ones, (n,).

    `decisions` (n,) boolean or 0/1. They come by falling `priority` (n,), finite (p̂ for a router that has a
    disagreement scorer), ties by place; without it, as they are given. Raises ValueError for other values.
    """
    decided = checked_errors(decisions, len(np.asarray(decisions)))
    order = np.arange(len(decided)) if priority is None else deployment_order(priority)
    if len(order) != len(decided):
        raise ValueError(f"{len(decided)} items have decisions, but {len(order)} have priorities.")
    escalated = np.zeros(len(decided), dtype=bool)
    escalated[order[decided[order]][: escalation_budget(limit, len(decided))]] = True
    return escalated


def least_similar(similarity: npt.ArrayLike, limit: float) -> BoolArray:
    """The B items whose text and image (or item and label) agree least, (n,): the rule that needs no training.

    `similarity` (n,), finite. Raises ValueError for other values.
    """
    return highest_scores(-np.asarray(similarity, dtype=float), limit)


def highest_risk_levels(levels: npt.ArrayLike, limit: float) -> BoolArray:
    """The B items of which a router model said the highest risk, (n,), asked once about each.

    `levels` (n,) of the words in `RISK_LEVELS`; anything else counts as no answer and comes last. Ties by place.
    """
    said = np.array([RISK_LEVELS.get(str(level), 0) for level in np.asarray(levels).tolist()], dtype=float)
    return highest_scores(said, limit)


def random_items(n_escalated: int, n_items: int, *, rng: np.random.Generator) -> BoolArray:
    """So many items at random, (n,): chance at the rate of a router. Raises ValueError for more than there are."""
    if not 0 <= n_escalated <= n_items:
        raise ValueError(f"Of {n_items} items, {n_escalated} cannot be escalated.")
    return np.isin(np.arange(n_items), rng.permutation(n_items)[:n_escalated])


def baseline_escalations(
    limit: float,
    disagreement: npt.ArrayLike,
    *,
    n_escalated: int,
    rng: np.random.Generator,
    full_trace: npt.ArrayLike | None = None,
    no_trace: npt.ArrayLike | None = None,
    trace_only: npt.ArrayLike | None = None,
    trace_and_retrieval: npt.ArrayLike | None = None,
    similarity: npt.ArrayLike | None = None,
    logistic: npt.ArrayLike | None = None,
    stated_risk: npt.ArrayLike | None = None,
) -> dict[str, BoolArray]:
    """What each baseline escalates, (n,), by name, in the order of `BASELINES`; those not given are left out.

    `disagreement` is p̂, (n,); by it the decisions of the ablations "one-shot on the full trace" and "no trace" come
    first, as for the router itself, and it is the baseline "MLP". `trace_only` and `trace_and_retrieval` are decisions
    made step by step (escalated at any) by routers without a disagreement scorer: they come as the items do.
    `full_trace` and `no_trace` are decisions of a router model asked once, with all steps or none. `n_escalated` is
    how many items the router escalated. Raises ValueError for wrong shapes or values.
    """
    n_items = len(np.asarray(disagreement))
    given = {
        "AI only": ai_only(n_items),
        "one-shot on the full trace": _if_given(full_trace, limit, disagreement),
        "no trace": _if_given(no_trace, limit, disagreement),
        "trace only": _if_given(trace_only, limit, None),
        "trace + retrieval": _if_given(trace_and_retrieval, limit, None),
        "similarity rule": None if similarity is None else least_similar(similarity, limit),
        "logistic regression": None if logistic is None else highest_scores(logistic, limit),
        "MLP": highest_scores(disagreement, limit),
        "model-stated risk": None if stated_risk is None else highest_risk_levels(stated_risk, limit),
        "random": random_items(n_escalated, n_items, rng=rng),
    }
    found = {name: escalated for name, escalated in given.items() if escalated is not None}
    if wrong := [name for name, escalated in found.items() if len(escalated) != n_items]:
        raise ValueError(f"There are {n_items} items, but not as many answers for: {', '.join(wrong)}.")
    return found


def _if_given(
    decisions: npt.ArrayLike | None, limit: float, priority: npt.ArrayLike | None
) -> BoolArray | None:
    return None if decisions is None else within_budget(decisions, limit, priority=priority)
