"""The criticizer strategies (paper, section 4.2, tables 1 and 2): what each needs, what its answers are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PROBABILITY, RANK = "probability", "rank"


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way of criticizing.

    `scale` says what an answer is: `PROBABILITY`, an error probability (of a rated answer 1 − its quality), or `RANK`,
    an order and nothing more, which only the threshold rule can use.
    `top_logprobs` is how many alternatives it wants to see at each answered token; 0 where it reads the text alone.
    `usual_tokens` and `usual_seconds` are what an answer takes where nothing was measured yet.
    """

    name: str
    label: str
    description: str
    scale: str = PROBABILITY
    top_logprobs: int = 0
    needs_reasoning: bool = False
    reasons: bool = True
    usual_tokens: int = 160
    usual_seconds: float = 5.0

    @property
    def needs_logprobs(self) -> bool:
        return self.top_logprobs > 0

    @property
    def ranks_only(self) -> bool:
        return self.scale == RANK


# The most that OpenAI and most compatible servers allow. Yes and no have many spellings, and all of them count.
_SPELLINGS = 20

_ALL = (
    Strategy(
        "cot",
        "Think, then give a probability",
        "Reasons step by step, then says how probable it is that the answer is wrong. The usual choice.",
    ),
    Strategy(
        "naive",
        "Give a probability",
        "Says at once how probable it is that the answer is wrong. Cheaper, and finds fewer errors.",
        reasons=False,
        usual_tokens=12,
        usual_seconds=1.5,
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
        "Reads the annotator's own reasoning and attacks it. Needs answers made with reasoning (cot).",
        needs_reasoning=True,
        usual_tokens=200,
        usual_seconds=6.0,
    ),
    Strategy(
        "naive_logit",
        "Say yes or no, by log-probability",
        "Says yes or no to whether the answer is wrong; how sure it was of that word is the error probability.",
        top_logprobs=_SPELLINGS,
        reasons=False,
        usual_tokens=8,
        usual_seconds=1.5,
    ),
    Strategy(
        "cot_logit",
        "Think, then yes or no, by log-probability",
        "Reasons first; how sure it was of the yes or no that follows is the error probability.",
        top_logprobs=_SPELLINGS,
    ),
    Strategy(
        "cot_ppl",
        "Think, then yes or no, by perplexity",
        "Reasons first; how fluent the reasoning is tells how firm the yes or no is. Orders the items only.",
        scale=RANK,
        top_logprobs=1,
    ),
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({strategy.name: strategy for strategy in _ALL})


# As the API offers them: name, and what it does.
CHOICES = [(strategy.name, strategy.description) for strategy in _ALL]


def get_strategy(name: str) -> Strategy:
    """The strategy with this name. Raises ValueError with the known names when there is none."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise ValueError(f"Unknown strategy {name!r}; known are {', '.join(STRATEGIES)}.") from None
