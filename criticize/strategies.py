"""The criticizer strategies (paper, section 4.2, tables 1 and 2): what each needs, what its answers are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PROBABILITY, QUALITY, RANK = "probability", "quality", "rank"


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way of criticizing.

    `scale` says what an answer is: `PROBABILITY`, an error probability; `QUALITY`, a score in [0, 1] of which
    1 − quality orders items; or `RANK`, an order and nothing more, which only the threshold rule can use.
    """

    name: str
    label: str
    description: str
    scale: str = PROBABILITY
    needs_logprobs: bool = False
    needs_reasoning: bool = False
    reasons: bool = True


_ALL = (
    Strategy(
        "cot",
        "Think, then give a probability",
        "Reasons step by step, then says how probable it is that the label is wrong. The usual choice.",
    ),
    Strategy(
        "naive",
        "Give a probability",
        "Says at once how probable it is that the label is wrong. Cheaper, and finds fewer errors.",
        reasons=False,
    ),
    Strategy(
        "mc",
        "Choose a level of doubt",
        "Reasons, then chooses one of five levels from certainly right to certainly wrong. Orders the items only.",
        scale=RANK,
    ),
    Strategy(
        "devil",
        "Argue against the annotator",
        "Reads the annotator's own reasoning and attacks it. Needs labels made with reasoning (cot).",
        needs_reasoning=True,
    ),
    Strategy(
        "naive_logit",
        "Say yes or no, by log-probability",
        "Asks whether the label is wrong; the error probability is that of the answered token.",
        needs_logprobs=True,
        reasons=False,
    ),
    Strategy(
        "cot_logit",
        "Think, then yes or no, by log-probability",
        "Reasons first; the error probability is that of the yes or no that follows.",
        needs_logprobs=True,
    ),
    Strategy(
        "cot_ppl",
        "Think, then yes or no, by perplexity",
        "Reasons first; how fluent the reasoning is tells how firm the yes or no is. Orders the items only.",
        scale=RANK,
        needs_logprobs=True,
    ),
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({strategy.name: strategy for strategy in _ALL})


def get_strategy(name: str) -> Strategy:
    """The strategy with this name. Raises ValueError with the known names when there is none."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise ValueError(f"Unknown strategy {name!r}; known are {', '.join(STRATEGIES)}.") from None
