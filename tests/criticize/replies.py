"""Replies of criticizers, token by token, for every strategy and answer format."""

import json
import math
import re
from collections.abc import Mapping, Sequence

from criticize.parsing import plain_word
from criticize.strategies import STRATEGIES
from mllm.messages import Reply, TokenLogprob

# Key of the answer in a structured reply.
KEYS = {
    "naive": "error_probability",
    "cot": "error_probability",
    "devil": "error_probability",
    "mc": "level",
    "naive_logit": "answer",
    "cot_logit": "answer",
    "cot_ppl": "answer",
}

_TOKEN = re.compile(r"\s?\w+|\s+|[^\w\s]")

# At the token that answers: two spellings of yes, one of no, and something else.
ALTERNATIVES = {"yes": 0.5, "no": 0.2, " Yes": 0.1, "maybe": 0.1}
SHARE_OF_YES = 0.6 / 0.8


def pieces_of(text: str) -> list[str]:
    """The text cut as tokenizers do: words with the space before them, and single signs."""
    return _TOKEN.findall(text)


def tokens_of(
    pieces: Sequence[str],
    *,
    logprob: float = -0.5,
    alternatives: Mapping[str, float] | None = None,
) -> tuple[TokenLogprob, ...]:
    """A token a piece, all of the same log-probability; the last one that says yes or no has the alternatives."""
    top = tuple((spelling, math.log(p)) for spelling, p in (alternatives or {}).items())
    answers = [number for number, piece in enumerate(pieces) if plain_word(piece) in ("yes", "no")]
    return tuple(
        TokenLogprob(piece, logprob, top if answers and number == answers[-1] else ((piece, logprob),))
        for number, piece in enumerate(pieces)
    )


def written(strategy: str, answer_format: str, value: str, reasoning: str = "It may be irony.") -> str:
    """A reply in the format that was asked for; `value` as it stands in brackets."""
    reasons = STRATEGIES[strategy].reasons
    if answer_format == "bracket":
        return f"[{reasoning}][{value}]" if reasons else f"[{value}]"
    answer: dict[str, object] = {"reasoning": reasoning} if reasons else {}
    try:
        answer[KEYS[strategy]] = json.loads(value)
    except ValueError:
        answer[KEYS[strategy]] = value
    return json.dumps(answer, ensure_ascii=False)


def reply_of(
    text: str,
    *,
    tokens: Sequence[TokenLogprob] | None = None,
    reasoning: str = "",
    finish_reason: str = "stop",
) -> Reply:
    """A reply with log-probabilities, unless `tokens` are others."""
    given = tokens_of(pieces_of(text), alternatives=ALTERNATIVES) if tokens is None else tuple(tokens)
    return Reply(text, reasoning, "critic", finish_reason, 50, len(given), 0, given, 0.0)


def said(strategy: str, answer_format: str, value: str, reasoning: str = "It may be irony.") -> Reply:
    return reply_of(written(strategy, answer_format, value, reasoning))
