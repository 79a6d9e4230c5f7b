"""Starting annotation runs: choosing who answers, what it will cost, and what it may cost."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Avg, QuerySet

from annotate.annotators import request_for
from annotate.connections import default_answer_format, price_of
from annotate.contents import items_in_order, label_specs
from annotate.errors import Refusal
from annotate.examples import content_of, example_parameters, some_examples
from annotate.extracted import SPAN_PROMPT_VERSIONS
from annotate.extracting import extracting_request_for
from annotate.history import record
from annotate.label_sets import need_label_set
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, Connection, Item, ModelRun, Project, User
from annotate.prompts import (
    LABEL_STRATEGIES,
    PROMPT_VERSIONS,
    STEPS,
    STRATEGIES,
    Example,
    LabelSpec,
    prompt_version,
)
from annotate.task_types import TaskType
from annotate.writing import writing_request_for
from annotate.written import WRITTEN_PROMPT_VERSIONS
from jobs.services import JobStateError, job_cancel, job_create, job_pause, job_resume, job_retry
from mllm.adapters.batches import LONGEST_WAIT_HOURS, PRICE_SHARE
from mllm.errors import CallError
from mllm.messages import Request
from mllm.prices import token_cost
from mllm.registry import PROVIDERS
from mllm.tokens import estimate_tokens

MAX_TRAINING_ITEMS = 20_000
_SAMPLED_FOR_ESTIMATE = 20
# Before anything was measured: what an answer usually takes, by strategy. Pages call it an estimate.
_USUAL_OUTPUT_TOKENS = {"naive": 12, "cot": 160, STEPS: 240}
_USUAL_SECONDS = {"naive": 1.5, "cot": 5.0, STEPS: 7.0}
# Output tokens and seconds of an answer, where answers are written, and where they are spans.
_USUALLY_WRITTEN = {"naive": (150.0, 4.0), "cot": (350.0, 8.0)}
_USUALLY_EXTRACTED = {"naive": (20.0, 1.5), "cot": (160.0, 5.0)}
_TRAINED_ITEMS_A_SECOND = 1000
# What the version of a prompt with options has, and one without has not.
_OPTION = "+"
CANDIDATE_FOLDS = 10
# The most items in a fold are left out, and the classifier needs 10 (`annotate.trained.MIN_LABELLED`) of the rest.
MIN_CANDIDATE_ITEMS = 12
_NOT_TRAINED = "no classifier can be trained on them: choose a model"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Who is to answer: a model behind a connection with a prompt strategy, or the trained classifier.

    `confidence` also asks an annotator how sure it is; `examples` is how many labelled items it sees with each item.
    `by_batch` hands the calls in together: answered within a day, for half the price.
    """

    kind: str
    connection: Connection | None = None
    model: str = ""
    strategy: str = "cot"
    answer_format: str = ""
    top_logprobs: int = 0
    max_tokens: int | None = None
    confidence: bool = False
    examples: int = 0
    by_batch: bool = False

    @property
    def is_trained(self) -> bool:
        return self.kind == ModelRun.Kind.TRAINED


TRAINED = ModelChoice(kind=ModelRun.Kind.TRAINED, strategy="")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take. `cost` is None without a price; `measured` when it rests on an earlier run like it.

    By batch `seconds` is the longest wait that the provider allows itself; mostly it is much shorter.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    seconds: float
    measured: bool = False
    by_batch: bool = False

    @property
    def cost_per_call(self) -> Decimal:
        return (self.cost or Decimal(0)) / max(1, self.calls)


def check_choice(choice: ModelChoice, strategies: Collection[str] = STRATEGIES) -> None:
    """Raise Refusal unless the choice can be run with one of these strategies."""
    if choice.is_trained:
        return
    if choice.kind != ModelRun.Kind.PROMPTED:
        raise Refusal("Choose a model or the trained classifier.", field="kind")
    if choice.connection is None:
        raise Refusal("Choose a connection.", field="connection")
    if not choice.model.strip():
        raise Refusal("Name the model.", field="model")
    if choice.strategy not in strategies:
        raise Refusal(f"The strategy is one of: {', '.join(strategies)}.", field="strategy")
    provider = PROVIDERS[choice.connection.provider]
    if choice.by_batch and not provider.capabilities.batches:
        raise Refusal(f"{provider.label} takes no batches. Make the calls at once.", field="by_batch")


def check_task(project: Project, choice: ModelChoice, scope: str = AnnotationRun.Scope.PROJECT) -> None:
    """Raise Refusal for what only projects with a label set can do."""
    if choice.is_trained:
        need_label_set(project, _NOT_TRAINED, field="kind")
    elif choice.strategy == STEPS:
        need_label_set(project, "answers cannot be given in numbered steps", field="strategy")
        if choice.answer_format == "structured":
            raise Refusal("Numbered steps end with the label in brackets.", field="answer_format")
        if choice.confidence:
            raise Refusal(
                "An annotator that numbers its steps states no confidence. Choose another strategy.",
                field="confidence",
            )
    if scope == AnnotationRun.Scope.CALIBRATION and not project.task.is_span:
        need_label_set(project, "models cannot be tried on calibration labels")
    if choice.confidence:
        need_label_set(project, "an annotator has no label to state its confidence in", field="confidence")
    if choice.examples:
        need_label_set(project, "there are no labelled items to show as examples", field="examples")


def check_abilities(project: Project, choice: ModelChoice) -> None:
    """Raise Refusal for what the choice's provider cannot do."""
    if choice.connection is None:
        return
    provider = PROVIDERS[choice.connection.provider]
    if project.task.needs_image and not provider.capabilities.images:
        raise Refusal(
            f"{provider.label} takes no images, and this task's items have one.", field="connection"
        )
    if choice.top_logprobs and not provider.capabilities.logprobs:
        raise Refusal(f"{provider.label} gives no log-probabilities.", field="top_logprobs")
    if choice.answer_format == "structured" and not provider.capabilities.structured_output:
        raise Refusal(f"{provider.label} cannot enforce a JSON schema.", field="answer_format")


def prompt_versions(project: Project) -> Mapping[str, str]:
    """Version by strategy of what annotators of the project are asked."""
    if project.task.is_span:
        return SPAN_PROMPT_VERSIONS
    return WRITTEN_PROMPT_VERSIONS if project.task.is_written else PROMPT_VERSIONS


def kind_of_job(task: TaskType) -> str:
    """The job in which a model answers items of the task."""
    return {"label": "annotation", "text": "written_annotation", "span": "span_annotation"}[task.answers]


def run_fields(choice: ModelChoice, prompt_versions: dict[str, str] | Any) -> dict[str, Any]:
    """The `ModelRun` fields of a choice."""
    if choice.is_trained:
        return {"kind": choice.kind, "strategy": ""}
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    parameters: dict[str, Any] = {"top_logprobs": choice.top_logprobs}
    answer_format = choice.answer_format or default_answer_format(choice.connection)
    if choice.max_tokens:
        parameters["max_tokens"] = choice.max_tokens
    return {
        "kind": choice.kind,
        "connection": choice.connection,
        "provider": choice.connection.provider,
        "model": choice.model.strip(),
        "strategy": choice.strategy,
        "answer_format": "bracket" if choice.strategy == STEPS else answer_format,
        "prompt_version": prompt_versions[choice.strategy],
        "parameters": parameters,
    }


def annotation_fields(project: Project, choice: ModelChoice, scope: str) -> dict[str, Any]:
    """The `AnnotationRun` fields of a choice. Raises Refusal for examples or a classifier that there is no set for."""
    fields = run_fields(choice, prompt_versions(project))
    if choice.is_trained:
        is_candidate = scope == AnnotationRun.Scope.CALIBRATION
        fields["parameters"] = candidate_parameters(project) if is_candidate else training_parameters(project)
        return fields
    if choice.confidence or choice.examples:
        fields["prompt_version"] = prompt_version(
            choice.strategy, confidence=choice.confidence, examples=bool(choice.examples)
        )
        fields["parameters"] |= example_parameters(project, choice.examples)
        fields["parameters"]["confidence"] = choice.confidence
    return fields


def earlier_answers(run: AnnotationRun) -> QuerySet[Annotation]:
    """Answers of earlier calls like the run's: of its model and strategy, and asked with the same options."""
    answers = Annotation.objects.filter(
        run__provider=run.provider, run__model=run.model, run__strategy=run.strategy, run__project=run.project
    )
    if _OPTION in run.prompt_version:
        examples = run.parameters.get("examples", 0)
        answers = answers.filter(run__prompt_version=run.prompt_version)
        return answers.filter(run__parameters__examples=examples) if examples else answers
    return answers.exclude(run__prompt_version__contains=_OPTION)


def items_to_annotate(project: Project, scope: str = AnnotationRun.Scope.PROJECT) -> list[int]:
    """Ids, in order, of the calibration items, or of all the others."""
    is_calibration = scope == AnnotationRun.Scope.CALIBRATION
    items = project.items.filter(calibration_label__isnull=not is_calibration)
    return list(items.order_by("id").values_list("pk", flat=True))


def annotation_estimate(
    *,
    project: Project,
    choice: ModelChoice,
    scope: str = AnnotationRun.Scope.PROJECT,
    items: Sequence[int] | None = None,
) -> Estimate:
    """What annotating the project's items, its calibration items alone, or these `items` would take."""
    check_choice(choice, LABEL_STRATEGIES)
    check_task(project, choice, scope)
    check_abilities(project, choice)
    ids = items_to_annotate(project, scope) if items is None else items
    calls = len(ids)
    if choice.is_trained:
        return trained_estimate(calls)
    _, specs = label_specs(project)
    run = AnnotationRun(project=project, scope=scope, **annotation_fields(project, choice, scope))
    examples = some_examples(project, run.parameters) if choice.examples else None
    return prompted_estimate(
        choice,
        calls=calls,
        subjects=ids,
        request=lambda sampled: [_request(run, specs, item, examples) for item in items_in_order(sampled)],
        usual=_usual(project.task, choice.strategy),
        earlier=earlier_answers(run),
    )


def _request(
    run: AnnotationRun, specs: Sequence[LabelSpec], item: Item, examples: Sequence[Example] | None
) -> Request:
    if run.project.task.is_span:
        return extracting_request_for(run, run.project, item)
    if run.project.task.is_written:
        return writing_request_for(run, run.project, item)
    return request_for(run, run.project, specs, item, examples=examples)


def _usual(task: TaskType, strategy: str) -> tuple[float, float] | None:
    """(output tokens, seconds) of an answer where nothing was measured; None: as of a label."""
    if task.is_span:
        return _USUALLY_EXTRACTED[strategy]
    return _USUALLY_WRITTEN[strategy] if task.is_written else None


def trained_estimate(calls: int) -> Estimate:
    return Estimate(calls, 0, 0, Decimal(0), 2 + calls / _TRAINED_ITEMS_A_SECOND)


def prompted_estimate(
    choice: ModelChoice,
    *,
    calls: int,
    subjects: Sequence[int],
    request: Callable[[Sequence[int]], list[Request]],
    earlier: Any,
    usual: tuple[float, float] | None = None,
) -> Estimate:
    """Tokens, price and time of `calls` calls, from a few of their requests and from earlier answers, if any.

    `usual` is (output tokens, seconds) of an answer where nothing was measured; None: those of the strategy here.
    """
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    rng = np.random.default_rng(0)
    sampled = [subjects[i] for i in sorted(rng.permutation(len(subjects))[:_SAMPLED_FOR_ESTIMATE])]
    requests: list[Request] = []
    problem: CallError | None = None
    for subject in sampled:
        try:
            requests += request([subject])
        except CallError as error:  # one item's unreadable image is no reason against the run
            problem = error
    if problem is not None and not requests:
        raise Refusal(problem.message) from problem
    input_tokens = float(np.mean([estimate_tokens(each) for each in requests])) if requests else 0.0
    output_tokens, seconds = usual or (
        float(_USUAL_OUTPUT_TOKENS[choice.strategy]),
        _USUAL_SECONDS[choice.strategy],
    )
    measured = (
        earlier.filter(failure="", attempts__gt=0)
        .order_by("-id")[:200]
        .aggregate(input=Avg("input_tokens"), output=Avg("output_tokens"), latency=Avg("latency"))
    )
    known = measured["output"] is not None
    if known:
        input_tokens, output_tokens, seconds = measured["input"], measured["output"], measured["latency"]
    price = price_of(choice.connection.provider, choice.model)
    share = Decimal(str(PRICE_SHARE)) if choice.by_batch else Decimal(1)
    total_input, total_output = round(calls * input_tokens), round(calls * output_tokens)
    return Estimate(
        calls=calls,
        input_tokens=total_input,
        output_tokens=total_output,
        cost=None if price is None else token_cost(price, total_input, total_output) * share,
        seconds=3600.0 * LONGEST_WAIT_HOURS
        if choice.by_batch
        else calls * seconds / choice.connection.in_flight,
        measured=known,
        by_batch=choice.by_batch,
    )


def check_limit(choice: ModelChoice, spend_limit: Decimal | None) -> None:
    """Raise Refusal for a limit that could not be kept."""
    if spend_limit is None or choice.is_trained:
        return
    if spend_limit <= 0:
        raise Refusal("The spend limit must be more than 0.", field="spend_limit")
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    if price_of(choice.connection.provider, choice.model) is None:
        raise Refusal(
            f"There is no price for {choice.model}, so a spend limit could not be kept. Enter its price first.",
            field="spend_limit",
        )


@transaction.atomic
def annotation_run_create(
    *,
    project: Project,
    user: User,
    choice: ModelChoice,
    scope: str = AnnotationRun.Scope.PROJECT,
    spend_limit: Decimal | None = None,
    items: Sequence[int] | None = None,
) -> AnnotationRun:
    """Start annotating every item that is not a calibration item; or, as a candidate, the calibration items alone.

    With the scope `part` these `items`, in order of id.
    """
    keep_project(project.pk)
    check_choice(choice, LABEL_STRATEGIES)
    check_task(project, choice, scope)
    check_abilities(project, choice)
    check_limit(choice, spend_limit)
    if not project.task.is_written and project.labels.count() < 2:
        raise Refusal("The project needs at least two labels before items can be annotated.")
    items = list(items_to_annotate(project, scope) if items is None else items)
    if not items and scope == AnnotationRun.Scope.CALIBRATION:
        raise Refusal("There are no calibration items to try it on. Make a calibration set first.")
    if not items:
        raise Refusal("There are no items to annotate yet. Upload some first.")
    fields = annotation_fields(project, choice, scope)
    if choice.is_trained:
        job = job_create(kind="trained_annotation", subjects=items, in_flight=1)
    else:
        assert choice.connection is not None  # noqa: S101 (check_choice was here)
        estimate = annotation_estimate(project=project, choice=choice, scope=scope, items=items)
        job = job_create(
            kind=kind_of_job(project.task),
            subjects=items,
            in_flight=choice.connection.in_flight,
            connection_key=choice.connection.key_of_jobs,
            spend_limit=spend_limit,
            expected_call_cost=estimate.cost_per_call,
            by_batch=choice.by_batch,
        )
    run = AnnotationRun.objects.create(
        project=project, scope=scope, job=job, seed=project.seed, created_by=user, **fields
    )
    record_run(project, run, user, "started", new={"items": len(items), "spend_limit": _dollars(spend_limit)})
    return run


_DONE = {"pause": "paused", "resume": "resumed", "cancel": "cancelled", "retry": "retried"}


@transaction.atomic
def run_act(
    *,
    project: Project,
    run: ModelRun,
    user: User,
    action: str,
    retry: Callable[[], None],
    spend_limit: Decimal | None = None,
) -> None:
    """Pause, resume (with `spend_limit`), cancel or retry a run of either kind. Raises JobStateError."""
    match action:
        case "pause":
            job_pause(run.job)
        case "resume":
            job_resume(run.job, spend_limit=spend_limit)
        case "cancel":
            job_cancel(run.job)
        case "retry":
            retry()
        case _:
            raise JobStateError(f"A run cannot {action}.")
    new = None if spend_limit is None else {"spend_limit": _dollars(spend_limit)}
    record_run(project, run, user, _DONE[action], new=new)


def record_run(project: Project, run: ModelRun, user: User, what: str, *, new: Any = None) -> None:
    """Keep that `user` did this to the run; `what` is a word in the past, such as "paused"."""
    subject = f"{run._meta.verbose_name} {run.pk}: {run.who}"
    record(project, user, f"{run._meta.verbose_name} {what}", subject=subject, subject_id=run.pk, new=new)


def _dollars(amount: Decimal | None) -> str | None:
    return None if amount is None else f"${amount}"


def training_parameters(project: Project) -> dict[str, Any]:
    """The calibration items that a trained classifier learns from, fixed when the run starts."""
    need_label_set(project, _NOT_TRAINED, field="kind")
    ids = list(project.calibration_labels.order_by("item_id").values_list("item_id", flat=True))
    labels = project.calibration_labels.values("label").distinct().count()
    if labels < 2:
        raise Refusal(
            "The trained annotator learns from calibration items, and needs some of at least two labels. "
            "Make a calibration set first."
        )
    if len(ids) > MAX_TRAINING_ITEMS:
        rng = np.random.default_rng(project.seed)
        ids = sorted(int(pk) for pk in rng.choice(ids, size=MAX_TRAINING_ITEMS, replace=False))
    return {"training_item_ids": ids, "training_items": len(ids)}


def candidate_parameters(project: Project) -> dict[str, Any]:
    """Those of a trained candidate: the items it learns from and the fold of each, both fixed when it starts.

    A candidate is measured on the items it learns from, so each is labelled by a classifier that saw the other folds
    alone. Items of the same label are spread over the folds, in an order drawn with the project's seed; copies of an
    item are in its fold, since their labels would give its own away.
    """
    parameters = training_parameters(project)
    ids = parameters["training_item_ids"]
    place_of = {item_id: place for place, item_id in enumerate(ids)}
    original: dict[str, int] = {}
    copied = [original.setdefault(content_of(item), place_of[item.pk]) for item in items_in_order(ids)]
    different = np.unique(copied)
    label_of = dict(project.calibration_labels.values_list("item_id", "label__position"))
    labels = np.array([label_of[ids[place]] for place in different])
    _, counts = np.unique(labels, return_counts=True)
    if len(different) < MIN_CANDIDATE_ITEMS or (counts > 1).sum() < 2:
        raise Refusal(
            f"A trained candidate is tried on items it did not learn from. That takes {MIN_CANDIDATE_ITEMS} or more "
            "different calibration items, and two labels or more that occur twice. Label more items first."
        )
    order = np.random.default_rng([project.seed, len(ids)]).permutation(len(different))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(different), dtype=np.int64)
    folds[order] = np.arange(len(different)) % CANDIDATE_FOLDS
    return parameters | {"training_folds": folds[np.searchsorted(different, copied)].tolist()}


def annotation_run_retry(*, run: AnnotationRun) -> None:
    """Ask again for the items whose annotation failed, and for no other."""
    failed = run.annotations.exclude(failure__in=["", Annotation.TO_PERSON])
    job_retry(run.job, list(failed.order_by("item_id").values_list("item_id", flat=True)))
