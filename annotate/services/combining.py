"""Combining finished annotation runs: a vote over them, and one round of discussion among them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction

from annotate.access import connections_of
from annotate.annotators import request_for
from annotate.contents import items_in_order, label_specs
from annotate.discussion import disputed_items, items_of, opinions_about
from annotate.errors import Refusal
from annotate.examples import some_examples
from annotate.label_sets import need_label_set
from annotate.locks import keep_project, lock_project
from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.prompts import prompt_version
from annotate.selectors import calibration_accuracy, discussion_runs
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    check_limit,
    earlier_answers,
    prompted_estimate,
    record_run,
)
from jobs.models import Job
from jobs.services import job_create
from mllm.messages import Request


@dataclass(frozen=True, slots=True)
class Precedence:
    """Whose label counts where equally many are for several: the sources' ids and accuracies, the first counts most.

    `by_accuracy` is false where not every source was tried on the calibration items: then it is the order of choice.
    """

    source_ids: list[int]
    accuracies: list[float | None]
    by_accuracy: bool


def check_sources(project: Project, sources: Sequence[AnnotationRun]) -> None:
    """Raise Refusal unless the runs can be combined."""
    need_label_set(project, "they cannot be counted: there is no vote and no discussion", field="sources")
    if len(sources) < 2 or len({source.pk for source in sources}) < len(sources):
        raise Refusal("Choose two or more different runs.", field="sources")
    if any(source.project_id != project.pk for source in sources):
        raise Refusal("Choose runs of this project.", field="sources")
    if len({source.scope for source in sources}) > 1:
        raise Refusal(
            "Runs over the calibration items and runs over the others have no items in common.",
            field="sources",
        )
    if any(not source.job.is_finished for source in sources):
        raise Refusal("One of the runs is not finished yet. Wait for it, or cancel it.", field="sources")


def precedence_of(sources: Sequence[AnnotationRun]) -> Precedence:
    """The most accurate on the calibration items first; in the order given unless all were tried there."""
    accuracies = [calibration_accuracy(source) for source in sources]
    pairs = list(zip([source.pk for source in sources], accuracies, strict=True))
    by_accuracy = None not in accuracies
    if by_accuracy:
        pairs.sort(key=lambda pair: -(pair[1] or 0.0))
    return Precedence([pk for pk, _ in pairs], [accuracy for _, accuracy in pairs], by_accuracy)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Before runs are combined: of how many items how many are disputed, and whose label would count in a tie."""

    items: int
    disputed: int
    precedence: Precedence

    @property
    def share(self) -> float | None:
        """The share of the items on which all agree, in [0, 1]; None without items."""
        return 1 - self.disputed / self.items if self.items else None


def agreement_of(project: Project, sources: Sequence[AnnotationRun]) -> Agreement:
    """How far the runs agree. Raises Refusal for runs that cannot be combined."""
    check_sources(project, sources)
    ids = [source.pk for source in sources]
    return Agreement(len(items_of(ids)), len(disputed_items(ids)), precedence_of(sources))


@transaction.atomic
def vote_create(*, project: Project, user: User, sources: Sequence[AnnotationRun]) -> AnnotationRun:
    """Start the vote of finished runs, in order of choice, over every item that any of them has a result for.

    The vote of all runs of a discussion belongs to it.
    """
    keep_project(project.pk)
    check_sources(project, sources)
    ids = [source.pk for source in sources]
    items = items_of(ids)
    if not items:
        raise Refusal("The runs have no results that could be counted.", field="sources")
    precedence = precedence_of(sources)
    parameters: dict[str, Any] = {
        "sources": ids,
        "precedence": precedence.source_ids,
        "accuracies": precedence.accuracies,
        "ties_by_accuracy": precedence.by_accuracy,
    }
    if discussion := _discussion_of_all(project, sources):
        parameters["discussion"] = discussion
    run = AnnotationRun.objects.create(
        project=project,
        scope=sources[0].scope,
        kind=ModelRun.Kind.VOTED,
        job=job_create(kind="vote", subjects=items, in_flight=1),
        seed=project.seed,
        created_by=user,
        parameters=parameters,
    )
    run.sources.set(ids)
    record_run(project, run, user, "started", new={"items": len(items), "votes_of": len(ids)})
    return run


def _discussion_of_all(project: Project, sources: Sequence[AnnotationRun]) -> str:
    """The discussion whose runs these are, all of them and no other; "" where they are not."""
    discussion = str(sources[0].parameters.get("discussion", ""))
    if not discussion:
        return ""
    runs = discussion_runs(project, discussion)
    discussing = {run.pk for run in runs if run.kind == ModelRun.Kind.PROMPTED}
    return discussion if discussing == {source.pk for source in sources} else ""


def check_discussion(project: Project, user: User, sources: Sequence[AnnotationRun]) -> None:
    """Raise Refusal unless the runs' models can discuss at this user's cost."""
    check_sources(project, sources)
    if any(source.kind != ModelRun.Kind.PROMPTED for source in sources):
        raise Refusal(
            "Only models can discuss. Trained classifiers and votes can be voted with.", field="sources"
        )
    if any("discussion" in source.parameters for source in sources):
        raise Refusal(
            "One of the runs comes from a discussion already, and there is one round. Vote instead.",
            field="sources",
        )
    usable = set(connections_of(user).values_list("pk", flat=True))
    for source in sources:
        if source.connection_id not in usable:
            raise Refusal(
                f"The connection of {source.who} was deleted or belongs to somebody else, so it cannot be asked again.",
                field="sources",
            )


def discussion_estimate(*, project: Project, user: User, sources: Sequence[AnnotationRun]) -> Estimate:
    """What asking every annotator again about every disputed item would take, all annotators together."""
    check_discussion(project, user, sources)
    items = disputed_items([source.pk for source in sources])
    if not items:
        raise Refusal("The annotators agree on every item, so there is nothing to discuss.", field="sources")
    runs = [_discussing(project, sources, source, discussion="estimate") for source in sources]
    return together([_estimate(project, run, items) for run in runs])


def together(estimates: Sequence[Estimate]) -> Estimate:
    """One after the other; without a price where one has none."""
    costs = [each.cost for each in estimates]
    return Estimate(
        calls=sum(each.calls for each in estimates),
        input_tokens=sum(each.input_tokens for each in estimates),
        output_tokens=sum(each.output_tokens for each in estimates),
        cost=None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0)),
        seconds=sum(each.seconds for each in estimates),
        measured=all(each.measured for each in estimates),
    )


@transaction.atomic
def discussion_create(
    *,
    project: Project,
    user: User,
    sources: Sequence[AnnotationRun],
    spend_limit: Decimal | None = None,
) -> list[AnnotationRun]:
    """Start a discussing run for each of the runs; when all are done, their vote starts by itself.

    `spend_limit` is US$ for each of the runs.
    """
    keep_project(project.pk)
    check_discussion(project, user, sources)
    ids = [source.pk for source in sources]
    disputed = disputed_items(ids)
    if not disputed:
        raise Refusal("The annotators agree on every item, so there is nothing to discuss.", field="sources")
    for source in sources:
        check_limit(choice_of_run(source), spend_limit)
    items = items_of(ids)
    discussion = uuid.uuid4().hex
    runs = []
    for source in sources:
        assert source.connection is not None  # noqa: S101 (check_discussion was here)
        run = _discussing(project, sources, source, discussion=discussion)
        run.created_by = user
        run.job = job_create(
            kind="discussion",
            subjects=items,
            in_flight=source.connection.in_flight,
            connection_key=source.connection.key_of_jobs,
            spend_limit=spend_limit,
            expected_call_cost=_estimate(project, run, disputed).cost_per_call,
        )
        run.save()
        run.sources.set(ids)
        runs.append(run)
    return runs


def _discussing(
    project: Project, sources: Sequence[AnnotationRun], source: AnnotationRun, *, discussion: str
) -> AnnotationRun:
    """The run, not saved, in which the source's annotator answers again, with the options and examples it had."""
    parameters = source.parameters | {
        "sources": [each.pk for each in sources],
        "source": source.pk,
        "discussion": discussion,
    }
    return AnnotationRun(
        project=project,
        scope=source.scope,
        kind=source.kind,
        connection=source.connection,
        provider=source.provider,
        model=source.model,
        strategy=source.strategy,
        answer_format=source.answer_format,
        prompt_version=prompt_version(
            source.strategy,
            confidence=source.parameters.get("confidence", False),
            examples=bool(source.parameters.get("examples")),
            discussion=True,
        ),
        parameters=parameters,
        seed=project.seed,
    )


def _estimate(project: Project, run: AnnotationRun, items: Sequence[int]) -> Estimate:
    _, specs = label_specs(project)
    examples = some_examples(project, run.parameters) if run.parameters.get("examples") else None

    def requests(sampled: Sequence[int]) -> list[Request]:
        opinions = opinions_about(run, sampled)
        return [
            request_for(run, project, specs, item, examples=examples, opinions=opinions[item.pk])
            for item in items_in_order(sampled)
        ]

    return prompted_estimate(
        choice_of_run(run), calls=len(items), subjects=items, request=requests, earlier=earlier_answers(run)
    )


def choice_of_run(run: AnnotationRun) -> ModelChoice:
    """The choice that a prompted run was started with."""
    return ModelChoice(
        kind=run.kind,
        connection=run.connection,
        model=run.model,
        strategy=run.strategy,
        answer_format=run.answer_format,
        top_logprobs=run.parameters.get("top_logprobs", 0),
        max_tokens=run.parameters.get("max_tokens"),
        confidence=run.parameters.get("confidence", False),
        examples=run.parameters.get("examples", 0),
    )


def vote_on_discussion(run: AnnotationRun) -> None:
    """Start the vote of the run's discussion if all of its runs are done and nobody has started it yet."""
    # Runs that end at the same moment wait for each other here, and the last one sees all of them done.
    lock_project(run.project_id)
    project = run.project
    discussion = run.parameters["discussion"]
    runs = discussion_runs(project, discussion)
    by_source = {each.parameters["source"]: each for each in runs if each.kind == ModelRun.Kind.PROMPTED}
    is_voted = len(by_source) < len(runs)
    if is_voted or any(each.job.state != Job.State.DONE for each in runs):
        return
    ordered = [by_source[source_id] for source_id in run.parameters["sources"]]
    vote_create(project=project, user=run.created_by, sources=ordered)
