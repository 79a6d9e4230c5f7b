"""Starting annotation runs: choosing who answers, what it will cost, and what it may cost."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Avg

from annotate.annotators import request_for
from annotate.connections import default_answer_format, price_of
from annotate.contents import items_in_order, label_specs
from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, Connection, ModelRun, Project, User
from annotate.prompts import PROMPT_VERSIONS, STRATEGIES
from jobs.services import job_create, job_retry
from mllm.errors import CallError
from mllm.messages import Request
from mllm.prices import token_cost
from mllm.tokens import estimate_tokens

MAX_TRAINING_ITEMS = 20_000
_SAMPLED_FOR_ESTIMATE = 20
# Before anything was measured: what an answer usually takes, by strategy. Pages call it an estimate.
_USUAL_OUTPUT_TOKENS = {"naive": 12, "cot": 160}
_USUAL_SECONDS = {"naive": 1.5, "cot": 5.0}
_TRAINED_ITEMS_A_SECOND = 1000


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Who is to answer: a model behind a connection with a prompt strategy, or the trained classifier.

    `confidence` also asks an annotator how sure it is; `examples` is how many labelled items it is shown with each item.
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

    @property
    def is_trained(self) -> bool:
        return self.kind == ModelRun.Kind.TRAINED


TRAINED = ModelChoice(kind=ModelRun.Kind.TRAINED, strategy="")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take. `cost` is None without a price; `measured` when it rests on an earlier run like it."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    seconds: float
    measured: bool = False

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


def run_fields(choice: ModelChoice, prompt_versions: dict[str, str] | Any) -> dict[str, Any]:
    """The `ModelRun` fields of a choice."""
    if choice.is_trained:
        return {"kind": choice.kind, "strategy": ""}
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    parameters: dict[str, Any] = {"top_logprobs": choice.top_logprobs}
    if choice.max_tokens:
        parameters["max_tokens"] = choice.max_tokens
    return {
        "kind": choice.kind,
        "connection": choice.connection,
        "provider": choice.connection.provider,
        "model": choice.model.strip(),
        "strategy": choice.strategy,
        "answer_format": choice.answer_format or default_answer_format(choice.connection),
        "prompt_version": prompt_versions[choice.strategy],
        "parameters": parameters,
    }


def items_to_annotate(project: Project, scope: str = AnnotationRun.Scope.PROJECT) -> list[int]:
    """Ids, in order, of the calibration items, or of all the others."""
    is_calibration = scope == AnnotationRun.Scope.CALIBRATION
    items = project.items.filter(calibration_label__isnull=not is_calibration)
    return list(items.order_by("id").values_list("pk", flat=True))


def annotation_estimate(
    *, project: Project, choice: ModelChoice, scope: str = AnnotationRun.Scope.PROJECT
) -> Estimate:
    """What annotating the project's items, or its calibration items alone, would take."""
    check_choice(choice)
    ids = items_to_annotate(project, scope)
    calls = len(ids)
    if choice.is_trained:
        return trained_estimate(calls)
    _, specs = label_specs(project)
    run = AnnotationRun(project=project, scope=scope, **run_fields(choice, PROMPT_VERSIONS))
    return prompted_estimate(
        choice,
        calls=calls,
        subjects=ids,
        request=lambda sampled: [request_for(run, project, specs, item) for item in items_in_order(sampled)],
        earlier=Annotation.objects.filter(
            run__provider=run.provider, run__model=run.model, run__strategy=run.strategy, run__project=project
        ),
    )


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
        earlier.filter(failure="")
        .order_by("-id")[:200]
        .aggregate(input=Avg("input_tokens"), output=Avg("output_tokens"), latency=Avg("latency"))
    )
    known = measured["output"] is not None
    if known:
        input_tokens, output_tokens, seconds = measured["input"], measured["output"], measured["latency"]
    price = price_of(choice.connection.provider, choice.model)
    total_input, total_output = round(calls * input_tokens), round(calls * output_tokens)
    return Estimate(
        calls=calls,
        input_tokens=total_input,
        output_tokens=total_output,
        cost=None if price is None else token_cost(price, total_input, total_output),
        seconds=calls * seconds / choice.connection.in_flight,
        measured=known,
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
) -> AnnotationRun:
    """Start annotating every item that is not a calibration item; or, as a candidate, the calibration items alone."""
    check_choice(choice)
    check_limit(choice, spend_limit)
    if project.labels.count() < 2:
        raise Refusal("The project needs at least two labels before items can be annotated.")
    items = items_to_annotate(project, scope)
    if not items and scope == AnnotationRun.Scope.CALIBRATION:
        raise Refusal("There are no calibration items to try it on. Make a calibration set first.")
    if not items:
        raise Refusal("There are no items to annotate yet. Upload some first.")
    fields = run_fields(choice, PROMPT_VERSIONS)
    if choice.is_trained:
        fields["parameters"] = training_parameters(project)
        job = job_create(kind="trained_annotation", subjects=items, in_flight=1)
    else:
        assert choice.connection is not None  # noqa: S101 (check_choice was here)
        estimate = annotation_estimate(project=project, choice=choice, scope=scope)
        job = job_create(
            kind="annotation",
            subjects=items,
            in_flight=choice.connection.in_flight,
            connection_key=choice.connection.key_of_jobs,
            spend_limit=spend_limit,
            expected_call_cost=estimate.cost_per_call,
        )
    return AnnotationRun.objects.create(
        project=project, scope=scope, job=job, seed=project.seed, created_by=user, **fields
    )


def training_parameters(project: Project) -> dict[str, Any]:
    """The calibration items that a trained classifier learns from, fixed when the run starts."""
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


def annotation_run_retry(*, run: AnnotationRun) -> None:
    """Ask again for the items whose annotation failed, and for no other."""
    failed = run.annotations.exclude(failure="").order_by("item_id").values_list("item_id", flat=True)
    job_retry(run.job, list(failed))
