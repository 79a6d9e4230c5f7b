"""The vote of several annotators about an item."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice", bound=int)


def majority(votes: Sequence[Choice | None]) -> tuple[Choice | None, float]:
    """What most voters chose, and their share of the votes that were cast, in (0, 1].

    The votes are in order of precedence: of choices with equally many votes, that of the voter who comes first wins.
    None abstains. Without a vote the choice is None and the share 0.
    """
    cast = [vote for vote in votes if vote is not None]
    if not cast:
        return None, 0.0
    # Counting keeps the order in which choices first occur, and so does max among equals.
    counts = Counter(cast)
    winner = max(counts, key=lambda choice: counts[choice])
    return winner, counts[winner] / len(cast)
