"""How a round is worked on: what its reviewers see, how many people answer an item, and known items among them."""

from dataclasses import asdict, dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from annotate.errors import Refusal
from review.models import ReviewRound

MOST_OVERLAP = 9
MOST_GOLD_RATE = 0.5
MOST_GOLD_MINIMUM = 1000


@dataclass(frozen=True, slots=True)
class RoundSetup:
    """What a round's reviewers see (`display`), who answers items again, and the known items mixed in.

    `overlap` people answer each item of a random `overlap_share` of the items. Of what a reviewer is handed,
    `gold_rate` are items whose label is known; whoever is below `gold_threshold` on them is paused, once
    `gold_minimum` of them are answered. None of that counts against the round's budget, which is a number of items.
    """

    display: str = ReviewRound.Display.CRITICISM
    overlap: int = 1
    overlap_share: float = 0.0
    gold_rate: float = 0.0
    gold_threshold: float | None = None
    gold_minimum: int = 10

    @classmethod
    def of(cls, round: ReviewRound) -> "RoundSetup":
        """That of a round there is."""
        return cls(
            display=round.display,
            overlap=round.overlap,
            overlap_share=round.overlap_share,
            gold_rate=round.gold_rate,
            gold_threshold=round.gold_threshold,
            gold_minimum=round.gold_minimum,
        )

    def checked(self, kind: str, *, is_written: bool = False) -> "RoundSetup":
        """This setup as a round of the kind has it: calibration and audit rounds are blind. Raises Refusal.

        `is_written`: the project's answers are composed, so that there are no known items.
        """
        self._check_display(kind)
        self._check_overlap()
        self._check_gold(is_written)
        return self if kind == ReviewRound.Kind.REVIEW else replace(self, display=ReviewRound.Display.BLIND)

    def _check_display(self, kind: str) -> None:
        display = ReviewRound.Display
        if self.display not in display.values:
            raise Refusal(f"What reviewers see is one of: {', '.join(display.values)}.", field="display")
        # The first is what a setup has that says nothing about it.
        if kind != ReviewRound.Kind.REVIEW and self.display not in (display.CRITICISM, display.BLIND):
            raise Refusal(
                "Calibration and audit rounds are always blind: what people say there must not lean on the machine.",
                field="display",
            )

    def _check_overlap(self) -> None:
        if not 1 <= self.overlap <= MOST_OVERLAP:
            raise Refusal(f"An item is answered by 1 to {MOST_OVERLAP} people.", field="overlap")
        if not 0 <= self.overlap_share <= 1:
            raise Refusal(
                "The share of the items that several people answer lies between 0 and 1; 10% is 0.1.",
                field="overlap_share",
            )
        if self.overlap > 1 and self.overlap_share == 0:
            raise Refusal(
                f"Say for what share of the items {self.overlap} people answer each: above 0, at most 1.",
                field="overlap_share",
            )
        if self.overlap == 1 and self.overlap_share > 0:
            raise Refusal(
                f"Say how many people answer each of these items: 2 to {MOST_OVERLAP}.", field="overlap"
            )

    def _check_gold(self, is_written: bool) -> None:
        if not 0 <= self.gold_rate <= MOST_GOLD_RATE:
            raise Refusal(
                f"The share of known items lies between 0 and {MOST_GOLD_RATE}; 5% is 0.05.",
                field="gold_rate",
            )
        if self.gold_rate > 0 and is_written:
            raise Refusal(
                "There are no known items in a project whose answers are written. Leave their share at 0.",
                field="gold_rate",
            )
        if self.gold_threshold is not None:
            if not 0 < self.gold_threshold <= 1:
                raise Refusal(
                    "The accuracy below which a reviewer is paused lies above 0 and is at most 1; 80% is 0.8.",
                    field="gold_threshold",
                )
            if self.gold_rate == 0:
                raise Refusal(
                    "Nobody's accuracy is known without known items: set their share, or leave the threshold empty.",
                    field="gold_threshold",
                )
        if not 1 <= self.gold_minimum <= MOST_GOLD_MINIMUM:
            raise Refusal(
                f"A reviewer answers from 1 to {MOST_GOLD_MINIMUM:,} known items before being paused.",
                field="gold_minimum",
            )

    def overlapping(self, items: int) -> int:
        """Of so many items, how many are answered by several people."""
        if self.overlap == 1:
            return 0
        return int((Decimal(repr(self.overlap_share)) * items).to_integral_value(ROUND_HALF_UP))

    def further_readings(self, items: int) -> int:
        """Answers beyond the first that a round of so many items asks for, on top of its budget."""
        return (self.overlap - 1) * self.overlapping(items)

    def fields(self) -> dict[str, Any]:
        """As a round keeps them."""
        return asdict(self)
