"""What log-probabilities say: how sure a criticizer was of its yes or no, and how fluent its reasoning was.

Tokens are those of a whole reply, which may hold more than its text: a separate channel's reasoning before it, a mark
of its end after it. Probabilities are natural logarithms. Where nothing can be said, ValueError says why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from criticize.parsing import plain_word
from mllm.messages import TokenLogprob

NO_LOGPROBS = "The model gave no log-probabilities. Choose a strategy that needs none, or another model."
NOT_OF_THE_TEXT = "The log-probabilities that came with the answer do not belong to its text."
NO_ALTERNATIVES = "The model gave no alternatives to its answer, so how sure it was of it is not known."
NEITHER = "Neither yes nor no is among the answers that the model considered."
NO_REASONING = "The answer holds no reasoning with log-probabilities, so it has no perplexity."

# A token that was too improbable to tell (OpenAI writes −9999) counts as this, so that a perplexity stays finite.
LEAST_LOGPROB = -100.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where each token of a reply lies in its text.

    `spans` count the characters that `kept` holds before and after the token; they lie outside the text for tokens
    that are no part of it.
    """

    tokens: tuple[TokenLogprob, ...]
    spans: tuple[tuple[int, int], ...]
    text: str
    only_ascii: bool

    def token_at(self, index: int) -> int:
        """Number of the token that holds the text's character at `index`. Raises ValueError where none does."""
        at = self._place(index)
        for number, (start, end) in enumerate(self.spans):
            if start <= at < end:
                return number
        raise ValueError(NOT_OF_THE_TEXT)

    def tokens_within(self, start: int, end: int) -> list[TokenLogprob]:
        """The tokens between two indices of the text, white space around them aside. One across a border is outside."""
        low, high = self._place(start), self._place(end)
        within = []
        for token, (first, last) in zip(self.tokens, self.spans, strict=True):
            written = _kept(token.token, self.only_ascii)
            if written.strip():
                first += len(written) - len(written.lstrip())
                last -= len(written) - len(written.rstrip())
            # A token without a character of its own belongs where it stands: it is a part of the character after it.
            starts_inside = first < high or (self.only_ascii and first == last == high)
            if low <= first and starts_inside and last <= high:
                within.append(token)
        return within

    def _place(self, index: int) -> int:
        return len(_kept(self.text[:index], self.only_ascii))


def align(tokens: Sequence[TokenLogprob], text: str) -> Alignment:
    """Where the tokens lie in `text`: the last place where they spell it.

    Servers that write a replacement character for a part of a character are matched by their ASCII characters alone.
    Raises ValueError without tokens, and when they do not spell the text.
    """
    if not tokens:
        raise ValueError(NO_LOGPROBS)
    for only_ascii in (False, True):
        written = [_kept(token.token, only_ascii) for token in tokens]
        wanted = _kept(text, only_ascii)
        start = "".join(written).rfind(wanted) if wanted else -1
        if start < 0:
            continue
        spans, at = [], -start
        for part in written:
            spans.append((at, at + len(part)))
            at += len(part)
        return Alignment(tuple(tokens), tuple(spans), text, only_ascii)
    raise ValueError(NOT_OF_THE_TEXT)


def yes_share(token: TokenLogprob) -> float:
    """P(yes) / (P(yes) + P(no)) at the token that answers (Eq. 6), in [0, 1].

    Each is summed over the alternatives that spell it, with or without spaces, quotes and brackets, in any case. The
    beginning of a word ("Y", "N", "ye") may begin other words too, so it counts only where the answer itself was
    spelled in such pieces. Raises ValueError where neither word is among the alternatives, and where there are none.
    """
    alternatives = list(token.top)
    if token.token not in {spelling for spelling, _ in alternatives}:
        alternatives.append((token.token, token.logprob))
    if len(alternatives) < 2:
        raise ValueError(NO_ALTERNATIVES)
    in_pieces = plain_word(token.token) not in ("yes", "no")
    yes, no = (
        sum(
            math.exp(min(logprob, 0.0))
            for spelling, logprob in alternatives
            if _spells(spelling, word, in_pieces)
        )
        for word in ("yes", "no")
    )
    if yes + no == 0:
        raise ValueError(NEITHER)
    return yes / (yes + no)


def perplexity(tokens: Sequence[TokenLogprob]) -> float:
    """exp(−mean log-probability) of the tokens: finite, at least 1. Raises ValueError without any."""
    if not tokens:
        raise ValueError(NO_REASONING)
    return math.exp(-math.fsum(_bounded(token.logprob) for token in tokens) / len(tokens))


def _bounded(logprob: float) -> float:
    # Some servers round to just above 0.
    return min(0.0, max(logprob, LEAST_LOGPROB))


def _spells(spelling: str, word: str, in_pieces: bool) -> bool:
    said = plain_word(spelling)
    return said == word or (in_pieces and said != "" and word.startswith(said))


def _kept(text: str, only_ascii: bool) -> str:
    return "".join(sign for sign in text if sign.isascii()) if only_ascii else text
