"""What an audit of a round would be drawn from, and what each size of it would say."""

from dataclasses import dataclass

import numpy as np

from annotate.errors import Refusal
from review.certificate import USUAL_ERROR_SHARE, AuditSize, audit_size, audit_sizes
from review.certification import Audit, audited_by_people, audits_of, drawn_items, reviewed_items
from review.models import ReviewRound


@dataclass(frozen=True)
class AuditPlan:
    """The next audit of a round: `population` item ids in order, and the audits of it that this one extends.

    `reviewed` other items of the draw have a person's label. While nothing else of the round changes, an audit extends
    the one before: it takes the next items of the same seeded permutation, and both together are again a simple random
    sample. After other changes it starts anew, from what no person has labelled by then.
    """

    population: np.ndarray
    reviewed: int
    extended: list[Audit]

    @property
    def items(self) -> int:
        return len(self.population)

    @property
    def done(self) -> int:
        """Items that the extended audits took."""
        return sum(len(audit.item_ids) for audit in self.extended)

    @property
    def left(self) -> int:
        return self.items - self.done

    @property
    def sizes(self) -> list[AuditSize]:
        """What the usual sizes say, if as many unreviewed labels are wrong as usual."""
        return audit_sizes(self.items, reviewed=self.reviewed)

    @property
    def error_share(self) -> float:
        return USUAL_ERROR_SHARE

    def size(self, count: int) -> AuditSize:
        """What `count` more items say, with those of the extended audits. Raises Refusal."""
        self.check(count)
        return audit_size(self.done + count, self.items, reviewed=self.reviewed)

    def check(self, count: int) -> None:
        """Raise Refusal unless as many items can be audited."""
        if count < 1:
            raise Refusal("An audit needs at least one item.", field="count")
        if not self.left:
            raise Refusal(
                "Every item of the round was reviewed or audited: nothing is left to audit.", field="count"
            )
        if count > self.left:
            raise Refusal(f"At most {self.left:,} items can be audited.", field="count")


def audit_plan(round: ReviewRound) -> AuditPlan:
    """What the round's next audit would be drawn from."""
    items = drawn_items(round)
    unreviewed = np.setdiff1d(items, reviewed_items(round), assume_unique=True)
    earlier = audits_of(round)
    chain: list[Audit] = []
    population = np.setdiff1d(unreviewed, audited_by_people(earlier))
    if earlier:
        root = earlier[-1].root
        newest = [audit for audit in earlier if audit.root == root]
        before = [audit for audit in earlier if audit.root != root]
        same = np.setdiff1d(unreviewed, audited_by_people(before))
        if newest[0].draw_number == round.draw_number and np.array_equal(same, newest[0].population()):
            population, chain = same, newest
    return AuditPlan(population, len(items) - len(population), chain)
