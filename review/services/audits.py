"""Drawing audits: a random sample of what a round left unreviewed, to be labelled blind."""

import numpy as np
from django.db import transaction

from annotate.errors import Refusal
from annotate.models import Annotation, User
from review.audits import AuditPlan, audit_plan
from review.certification import audits_of, is_settled, open_counts
from review.drawing import Turn, enqueue
from review.models import DrawBlock, ReviewRound
from review.round_history import record_created
from review.services.deadlocks import again_after_deadlock
from review.setup import RoundSetup

# A stream of its own: with the round's seed the audit must not follow the round's draw.
_STREAM = 2
_USUAL = RoundSetup()


@again_after_deadlock
@transaction.atomic
def audit_round_create(
    *,
    round: ReviewRound,
    user: User,
    count: int,
    seed: int | None = None,
    setup: RoundSetup = _USUAL,
) -> ReviewRound:
    """Queue `count` random items of the round that no person has labelled, to be labelled blind. Raises Refusal.

    While nothing else of the round changes, a further audit takes the next items of the same seeded permutation:
    both together are then again a simple random sample, and count as one. After other changes it starts anew.
    """
    if round.kind != ReviewRound.Kind.REVIEW:
        raise Refusal("Only a review round can be audited.", field="round")
    setup = setup.checked(ReviewRound.Kind.AUDIT, is_written=not round.project.task.is_checkable)
    # Two audits drawn at once would share items. Not the key: a conflict that comes up now refers to the round.
    round = ReviewRound.objects.select_for_update(of=("self",), no_key=True).get(pk=round.pk)
    if not is_settled(round):
        raise Refusal(
            "Finish or close the round first: answers still to come would change what is audited.",
            field="round",
        )
    for audit_id, left in open_counts(audits_of(round)).items():
        if left:
            raise Refusal(
                f"Audit round {audit_id} has {left:,} items left. Finish it before you draw another.",
                field="round",
            )
    plan = audit_plan(round)
    plan.check(count)
    seed = _seed(round, plan, seed)
    order = np.random.default_rng([seed, _STREAM]).permutation(plan.population)
    return _store(round, user, plan, order[plan.done : plan.done + count], seed, setup)


def _seed(round: ReviewRound, plan: AuditPlan, seed: int | None) -> int:
    if not plan.extended:
        return round.project.seed if seed is None else seed
    first = plan.extended[0].round
    if seed is not None and seed != first.seed:
        raise Refusal(
            f"This audit extends round {first.pk}, so it goes on with its seed, {first.seed}.", field="seed"
        )
    return first.seed


def _store(
    round: ReviewRound, user: User, plan: AuditPlan, chosen: np.ndarray, seed: int, setup: RoundSetup
) -> ReviewRound:
    """Keep the draw as every draw is kept, and make a task of each chosen item, in random order."""
    population = plan.population
    audit = ReviewRound.objects.create(
        project=round.project,
        kind=ReviewRound.Kind.AUDIT,
        audited=round,
        criticism_run=round.criticism_run,
        budget=len(chosen),
        parameters={
            "extends": plan.extended[0].round.pk if plan.extended else None,
            "draw_number": round.draw_number,
            "items": round.population,
        },
        seed=seed,
        population=len(population),
        created_by=user,
        **setup.fields(),
    )
    record_created(audit, user)
    selected = np.isin(population, chosen, assume_unique=True)
    unknown = np.full(len(population), np.nan)
    share = np.full(len(population), len(chosen) / len(population))
    for number, start in enumerate(range(0, len(population), DrawBlock.SIZE)):
        part = slice(start, start + DrawBlock.SIZE)
        DrawBlock.objects.create(
            round=audit,
            number=number,
            item_ids=population[part].astype("<i8").tobytes(),
            error_probs=unknown[part].astype("<f8").tobytes(),
            priorities=unknown[part].astype("<f8").tobytes(),
            inclusion_probs=share[part].astype("<f8").tobytes(),
            selected=selected[part].astype(np.bool_).tobytes(),
        )
    annotations = _annotations(round, chosen)
    enqueue(audit, [Turn(int(item_id), annotations.get(int(item_id))) for item_id in chosen])
    return audit


def _annotations(round: ReviewRound, item_ids: np.ndarray) -> dict[int, int]:
    """By item id: the id of the annotation that the audit judges. No reviewer sees it in a blind round."""
    run = round.criticism_run
    assert run is not None  # noqa: S101 (every review round has one)
    found: dict[int, int] = {}
    for start in range(0, len(item_ids), 500):
        part = [int(item_id) for item_id in item_ids[start : start + 500]]
        rows = Annotation.objects.filter(run=run.annotation_run_id, item_id__in=part)
        found.update(rows.values_list("item_id", "pk"))
    return found
