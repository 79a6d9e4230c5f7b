"""Starting judge runs: which items a model compares two annotators' answers to, and what that takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Case, F, OuterRef, QuerySet, Subquery, TextField, When

from annotate.errors import Refusal
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, Project, User
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    check_abilities,
    check_choice,
    check_limit,
    prompted_estimate,
    record_run,
    run_fields,
)
from jobs.services import job_create, job_retry
from mllm.errors import CallError
from mllm.messages import Request
from review.answers import answer_key
from route.agents import runs_of_annotator
from route.comparing import requests_about
from route.comparison_prompts import COMPARISON_PROMPT_VERSIONS, usual_answer
from route.comparisons import MIN_UNLIKE, comparisons_of
from route.evidence import MIN_KNOWN, known_answers
from route.models import JudgeRun, Preference


@dataclass(frozen=True, slots=True)
class Pairs:
    """The items, in order, that both annotators answered and no person has: with different and with equal answers.

    `cheap_runs` and `premium_runs` are the runs that hold the answers, the one whose answer counts first.
    """

    differing: list[int]
    equal: list[int]
    cheap_runs: list[int]
    premium_runs: list[int]

    def __len__(self) -> int:
        return len(self.differing) + len(self.equal)


def pairs_of(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> Pairs:
    """What there is to compare. Items whose right answer is known need no judge."""
    cheap_runs, premium_runs = runs_of_annotator(cheap), runs_of_annotator(premium)
    known = known_answers(project).answers
    by_cheap, by_premium = _answers(cheap_runs), _answers(premium_runs)
    shared = sorted(pk for pk in by_cheap.keys() & by_premium.keys() if pk not in known)
    differing = [pk for pk in shared if by_cheap[pk] != by_premium[pk]]
    equal = [pk for pk in shared if by_cheap[pk] == by_premium[pk]]
    return Pairs(differing, equal, cheap_runs, premium_runs)


def _answers(run_ids: Sequence[int]) -> dict[int, tuple[int | None, str]]:
    """By item: the answer of the first run that gave one, so that equal ones are equal."""
    found: dict[int, tuple[int | None, str]] = {}
    for pk in reversed(run_ids):
        rows = Annotation.objects.filter(run=pk, failure="")
        fields = rows.values_list("item_id", "label_id", "answer", "start")
        for item_id, label_id, answer, start in fields.iterator(chunk_size=10_000):
            found[item_id] = answer_key(label_id, answer, start)
    return found


def check_pair(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> None:
    """Raise Refusal unless these two runs are of two annotators of the project, and finished."""
    if cheap.project_id != project.pk or premium.project_id != project.pk:
        raise Refusal("Choose runs of this project.", field="cheap")
    if premium.pk in runs_of_annotator(cheap):
        raise Refusal("The two are the same annotator. Choose two different ones.", field="premium")
    for field, run in (("cheap", cheap), ("premium", premium)):
        if not run.job.is_finished:
            raise Refusal(f"{run.who} is not finished yet. Wait for it, or cancel it.", field=field)


def need_pairs(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> Pairs:
    """What there is to compare. Raises Refusal where that is nothing."""
    pairs = pairs_of(project, cheap, premium)
    if not len(pairs):
        raise Refusal(
            "There is no item that both annotators have answered and no person has. Let both annotate the "
            "project's items, or a part of them, first.",
            field="premium",
        )
    if not pairs.differing:
        raise Refusal(
            f"The two annotators give the same answer to all {len(pairs):,} items that both have answered, so there is "
            "nothing to choose between them: take the cheaper one.",
            field="premium",
        )
    return pairs


def check_judge_choice(project: Project, choice: ModelChoice) -> None:
    """Raise Refusal unless the choice can compare answers of the project."""
    check_choice(choice)
    if choice.is_trained:
        raise Refusal("A model compares answers; a trained classifier cannot.", field="kind")
    check_abilities(project, choice)


@dataclass(frozen=True, slots=True)
class GoldCount:
    """What a router among the annotators, of whom there are `annotators`, could learn from people's answers so far.

    `known` items have one and an answer of every annotator; on `unlike` of them some are right and others wrong.
    `one_sided`: that of two the same one is right nearly everywhere, in a sentence; "" where it is not.
    """

    known: int
    known_needed: int
    unlike: int
    unlike_needed: int
    annotators: int = 2
    one_sided: str = ""

    @property
    def warning(self) -> str:
        """What is missing for a router, and what to do about it; "" where nothing is."""
        both, differ, what = ("both", "one annotator is right and the other wrong", "this comparison")
        if self.annotators > 2:
            both, differ, what = (
                "all these",
                "some annotators are right and others wrong",
                "the comparisons",
            )
        if self.known < self.known_needed:
            return (
                f"{self.known:,} item{'s have' if self.known != 1 else ' has'} a person's answer and one of "
                f"{both} annotators; a router needs {self.known_needed:,} of them to learn how far the judge can be "
                f"trusted. Label {self.known_needed - self.known:,} more calibration items and try {both} annotators "
                f"on them, or {what} cannot be used."
            )
        if self.unlike < self.unlike_needed:
            return (
                f"On {self.unlike:,} of {self.known:,} items with a person's answer {differ}; a router needs "
                f"{self.unlike_needed:,} such items. Label more calibration items, or {what} cannot be used."
            )
        return self.one_sided


def gold_count(*, project: Project, agents: Sequence[AnnotationRun]) -> GoldCount:
    """How much gold there is for two annotators or more, against what training a router needs."""
    known = comparisons_of(project, agents, [], seed=project.seed)
    return GoldCount(len(known.evidence), MIN_KNOWN, known.unlike, MIN_UNLIKE, len(agents), known.one_sided())


def preferences_with_answers(run: JudgeRun) -> QuerySet[Preference]:
    """The run's preferences with `cheap_answer` and `premium_answer` in words; None where an answer is gone."""
    return run.preferences.select_related("item").annotate(
        cheap_answer=_answer_in_words(run.parameters.get("cheap_runs", [run.cheap_id])),
        premium_answer=_answer_in_words(run.parameters.get("premium_runs", [run.premium_id])),
    )


def _answer_in_words(run_ids: Sequence[int]) -> Subquery:
    """The first answer to the row's item that these runs hold, in their order."""
    place = Case(*(When(run=pk, then=number) for number, pk in enumerate(run_ids)), default=len(run_ids))
    answers = Annotation.objects.filter(run__in=run_ids, item=OuterRef("item"), failure="").order_by(place)
    words = Case(
        When(label__isnull=False, then=F("label__name")), default=F("answer"), output_field=TextField()
    )
    return Subquery(answers.annotate(words=words).values("words")[:1])


def judge_run_estimate(
    *, project: Project, cheap: AnnotationRun, premium: AnnotationRun, choice: ModelChoice
) -> Estimate:
    """What comparing the two annotators' differing answers would take. Raises Refusal."""
    check_judge_choice(project, choice)
    check_pair(project, cheap, premium)
    return _estimate(project, choice, need_pairs(project, cheap, premium))


def _estimate(project: Project, choice: ModelChoice, pairs: Pairs) -> Estimate:
    run = JudgeRun(project=project, seed=project.seed, **_fields(choice, pairs))
    return prompted_estimate(
        choice,
        calls=len(pairs.differing),
        subjects=pairs.differing,
        request=lambda sampled: _requests(run, sampled),
        earlier=Preference.objects.filter(
            run__project=project, run__provider=run.provider, run__model=run.model, run__strategy=run.strategy
        ),
        usual=usual_answer(choice.strategy),
    )


def _requests(run: JudgeRun, item_ids: Sequence[int]) -> list[Request]:
    """Raises CallError for an item that cannot be asked about."""
    found = []
    for _, request in requests_about(run, item_ids):
        if isinstance(request, CallError):
            raise request
        found.append(request)
    return found


def _fields(choice: ModelChoice, pairs: Pairs) -> dict[str, Any]:
    fields = run_fields(choice, COMPARISON_PROMPT_VERSIONS)
    fields["parameters"] |= {"cheap_runs": pairs.cheap_runs, "premium_runs": pairs.premium_runs}
    return fields


@transaction.atomic
def judge_run_create(
    *,
    project: Project,
    user: User,
    cheap: AnnotationRun,
    premium: AnnotationRun,
    choice: ModelChoice,
    spend_limit: Decimal | None = None,
) -> JudgeRun:
    """Start comparing. Equal answers are kept at once as preferring neither, at no cost. Raises Refusal."""
    keep_project(project.pk)
    check_judge_choice(project, choice)
    check_limit(choice, spend_limit)
    check_pair(project, cheap, premium)
    pairs = need_pairs(project, cheap, premium)
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    job = job_create(
        kind="comparison",
        subjects=pairs.differing,
        in_flight=choice.connection.in_flight,
        connection_key=choice.connection.key_of_jobs,
        spend_limit=spend_limit,
        expected_call_cost=_estimate(project, choice, pairs).cost_per_call,
        by_batch=choice.by_batch,
    )
    run = JudgeRun.objects.create(
        project=project,
        cheap=cheap,
        premium=premium,
        job=job,
        seed=project.seed,
        created_by=user,
        **_fields(choice, pairs),
    )
    Preference.objects.bulk_create(
        [Preference(run=run, item_id=pk, value=0, cost=Decimal(0), attempts=0) for pk in pairs.equal],
        batch_size=1000,
    )
    record_run(
        project,
        run,
        user,
        "started",
        new={
            "comparisons": len(pairs.differing),
            "equal": len(pairs.equal),
            "spend_limit": None if spend_limit is None else f"${spend_limit}",
        },
    )
    return run


def judge_run_retry(*, run: JudgeRun) -> None:
    """Ask again about the items whose comparison failed, and about no other."""
    failed = run.preferences.exclude(failure="").order_by("item_id")
    job_retry(run.job, list(failed.values_list("item_id", flat=True)))
