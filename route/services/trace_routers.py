"""Starting to train trace-aware routers: whose traces they read, which model reads them, and what that takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import QuerySet

from annotate.access import connections_of
from annotate.connections import default_answer_format
from annotate.contents import items_in_order
from annotate.errors import Refusal
from annotate.history import record
from annotate.label_sets import need_label_set
from annotate.models import AnnotationRun, Connection, ModelRun, Project, User
from annotate.prompts import STEPS
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    check_abilities,
    check_choice,
    check_limit,
    prompted_estimate,
)
from annotate.vectors import PLAIN, VectorChoice
from jobs.models import Chunk, Job
from jobs.services import JobStateError, job_create
from mllm.messages import Request
from route.models import Agent, Router, RouterQuery, parts_of_prefix
from route.replay import POLLING_INTERVALS, RETRIEVAL_STYLES
from route.router_prompts import ROUTER_PROMPT_VERSION, STRICTNESS
from route.router_vectors import vectors_said
from route.services.routers import check_vectors, training_cancel, training_pause, training_resume
from route.trace_data import DEV, KnownTraces, Trace, split_known, store_known, traces_of
from route.trace_queries import Asking, Variant
from route.trace_replay import SPLITTING, add_chunks, prefixes_of

# How development items are chosen: at random, or as whole topics, those farthest from the others.
SPLITS = ("random", "topics")
MOST_DEMONSTRATIONS = 16
MOST_KNOWN = 5_000  # items that a router is learned from; of more, a seeded sample
MOST_VARIANTS = 24
# Output tokens and seconds of an answer of the router's model.
_USUAL = (12.0, 1.5)


@dataclass(frozen=True, slots=True)
class TraceChoice:
    """How a trace-aware router is to be trained.

    `run` is a finished run whose annotator reasons in numbered steps and answered calibration items; `connection` and
    `model` are the router's. `limit` is ρ. `split` is one of `SPLITS`. `no_trace` asks once more an item and variant,
    without any step, for the baseline of that name. Every combination of the others is tried.
    """

    run: AnnotationRun
    connection: Connection | None
    model: str
    limit: float = 0.3
    strictness: Sequence[str] = STRICTNESS
    demonstrations: Sequence[int] = (0, 4)
    styles: Sequence[str] = ("balanced",)
    intervals: Sequence[int] = POLLING_INTERVALS
    answer_format: str = ""
    vectors: VectorChoice = PLAIN
    split: str = "random"
    no_trace: bool = True
    name: str = ""
    seed: int | None = None

    def model_choice(self) -> ModelChoice:
        """The router's model as other services take a choice of a model."""
        return ModelChoice(
            ModelRun.Kind.PROMPTED,
            self.connection,
            self.model,
            strategy="naive",
            answer_format=self.answer_format,
        )

    def variants(self) -> list[Variant]:
        """What is tried, without the intervals: those are replayed from the same answers."""
        found: dict[Variant, None] = {}
        for strictness in STRICTNESS:
            for m in sorted(set(self.demonstrations)):
                for style in RETRIEVAL_STYLES:
                    if strictness in self.strictness and style in self.styles:
                        # Without demonstrations there is nothing to retrieve.
                        found[Variant(strictness, m, style if m else self.styles[0])] = None
        return list(found)


def offered_traced(project: Project) -> list[AnnotationRun]:
    """Finished runs of annotators that number their steps, newest first."""
    return [run for run in _traced(project) if run.job.is_finished]


def traced_under_way(project: Project) -> AnnotationRun | None:
    """The newest run of such an annotator that is not finished yet."""
    return next((run for run in _traced(project) if not run.job.is_finished), None)


def _traced(project: Project) -> QuerySet[AnnotationRun]:
    runs = project.annotation_runs.filter(strategy=STEPS, kind=ModelRun.Kind.PROMPTED)
    runs = runs.exclude(scope=AnnotationRun.Scope.PART).filter(traced=None)
    return runs.select_related("job", "project", "connection")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What training would ask: the items by use, the traces of the development items, and the prefixes.

    Where topics are held out the items are split by the job, which has their vectors: the items here are as many as are
    to be expected. `no_trace` are the prefixes without a step, asked or not.
    """

    known: KnownTraces
    traces: dict[int, Trace]
    subjects: list[int]
    no_trace: list[int]


@dataclass(frozen=True, slots=True)
class TraceEstimate(Estimate):
    """What training will take. The baseline “no trace” is of so many calls and US$, in the sum where it is chosen.

    `is_rough`: topics are held out, and how many items they hold is known only once the items have vectors.
    """

    no_trace_calls: int = 0
    no_trace_cost: Decimal | None = None
    is_rough: bool = False


def _prepare(project: Project, user: User, choice: TraceChoice) -> Prepared:
    _check(project, user, choice)
    seed = project.seed if choice.seed is None else choice.seed
    try:
        known = split_known(project, choice.run, seed=seed, most=MOST_KNOWN)
    except ValueError as error:
        raise Refusal(str(error), field="run") from error
    if choice.split == "topics":
        _check_topics(known)
    # Which items the topics hold is known to the job only, which looks again.
    (known.unsplit() if choice.split == "topics" else known).check_choosable(choice.limit, choice.run.who)
    traces = traces_of(choice.run, known.of(DEV)[0])
    asked = prefixes_of(known, traces, len(choice.variants()), no_trace=True)
    no_trace = [subject for subject in asked if not parts_of_prefix(subject)[2]]
    steps = [subject for subject in asked if parts_of_prefix(subject)[2]]
    if not steps:
        raise Refusal(
            "The annotator's answers hold no steps, so there is nothing to read along.", field="run"
        )
    return Prepared(known, traces, asked if choice.no_trace else steps, no_trace)


def _check_topics(known: KnownTraces) -> None:
    # scikit-learn takes a second to import: only who holds topics out pays.
    from route.splits import MIN_FOR_TOPICS

    if len(known.item_ids) < MIN_FOR_TOPICS:
        raise Refusal(
            f"{len(known.item_ids)} known items are too few to hold topics out; at least {MIN_FOR_TOPICS} are needed. "
            "Label more calibration items, or split them at random.",
            field="split",
        )


def _check(project: Project, user: User, choice: TraceChoice) -> None:
    need_label_set(project, "a router that reads along needs an annotator that chooses a label", field="run")
    if choice.run.project_id != project.pk:
        raise Refusal("Choose a run of this project.", field="run")
    if choice.run.strategy != STEPS or choice.run.kind != ModelRun.Kind.PROMPTED:
        raise Refusal(
            "This annotator does not number its steps. Try one on the calibration items with the strategy “steps”.",
            field="run",
        )
    if not choice.run.job.is_finished:
        raise Refusal(f"{choice.run.who} is not finished yet. Wait for it, or cancel it.", field="run")
    if not 0 < choice.limit <= 1:
        raise Refusal("The share that may go to people must be above 0, and at most 1.", field="limit")
    if not set(choice.strictness) <= set(STRICTNESS) or not choice.strictness:
        raise Refusal(f"Choose at least one wording of: {', '.join(STRICTNESS)}.", field="strictness")
    if not set(choice.styles) <= set(RETRIEVAL_STYLES) or not choice.styles:
        raise Refusal(f"Choose at least one retrieval of: {', '.join(RETRIEVAL_STYLES)}.", field="styles")
    if not set(choice.intervals) <= set(POLLING_INTERVALS) or not choice.intervals:
        raise Refusal("The router is asked after every 1, 2 or 4 steps.", field="intervals")
    if not choice.demonstrations or not all(0 <= m <= MOST_DEMONSTRATIONS for m in choice.demonstrations):
        raise Refusal(f"Show 0 to {MOST_DEMONSTRATIONS} demonstrations.", field="demonstrations")
    if choice.split not in SPLITS:
        raise Refusal(f"Development items are split off by one of: {', '.join(SPLITS)}.", field="split")
    if len(choice.variants()) > MOST_VARIANTS:
        raise Refusal(
            f"That is too much to try: choose at most {MOST_VARIANTS} variants.", field="demonstrations"
        )
    check_choice(choice.model_choice())
    check_abilities(project, choice.model_choice())
    if choice.connection is not None and not connections_of(user).filter(pk=choice.connection.pk).exists():
        raise Refusal("Choose one of your connections.", field="connection")
    check_vectors(project, user, choice.vectors)


def trace_estimate(*, project: Project, user: User, choice: TraceChoice) -> TraceEstimate:
    """Calls, tokens, price and time of choosing the setting. Raises Refusal."""
    prepared = _prepare(project, user, choice)
    router = _unsaved(project, user, choice)
    return _estimate(router, choice, prepared)


def _estimate(router: Router, choice: TraceChoice, prepared: Prepared) -> TraceEstimate:
    asking = Asking(router, known=prepared.known, annotator=choice.run)
    variants = choice.variants()

    def requests(subjects: Sequence[int]) -> list[Request]:
        found = []
        for subject in subjects:
            item_id, variant, step = parts_of_prefix(subject)
            for item in items_in_order([item_id]):
                steps = prepared.traces[item_id].steps[:step]
                found.append(asking.request(variants[variant], item, steps, None))
        return found

    def estimate(subjects: Sequence[int]) -> Estimate:
        return prompted_estimate(
            choice.model_choice(),
            calls=len(subjects),
            subjects=subjects,
            request=requests,
            earlier=RouterQuery.objects.none(),
            usual=_USUAL,
        )

    without = estimate(prepared.no_trace)
    return TraceEstimate(
        **asdict(estimate(prepared.subjects)),
        no_trace_calls=without.calls,
        no_trace_cost=without.cost,
        is_rough=choice.split == "topics",
    )


def _unsaved(project: Project, user: User, choice: TraceChoice) -> Router:
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    return Router(
        project=project,
        kind=Router.Kind.TRACE,
        name=(choice.name or "Reading along").strip()[:120],
        vectors=vectors_said(choice.vectors),
        parameters={
            "connection": choice.connection.pk,
            "provider": choice.connection.provider,
            "model": choice.model.strip(),
            "answer_format": choice.answer_format or default_answer_format(choice.connection),
            "prompt_version": ROUTER_PROMPT_VERSION,
            "limit": choice.limit,
            "variants": [variant.as_dict() for variant in choice.variants()],
            "intervals": sorted(set(choice.intervals)),
            "split": choice.split,
            "no_trace": choice.no_trace,
        },
        seed=project.seed if choice.seed is None else choice.seed,
        created_by=user,
    )


@transaction.atomic
def trace_create(
    *, project: Project, user: User, choice: TraceChoice, spend_limit: Decimal | None = None
) -> Router:
    """Start to train a router that reads along: ask about the development traces, then choose. Raises Refusal."""
    prepared = _prepare(project, user, choice)
    check_limit(choice.model_choice(), spend_limit)
    router = _unsaved(project, user, choice)
    estimate = _estimate(router, choice, prepared)
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    router.job = job_create(
        kind="trace_replay",
        subjects=[],
        in_flight=choice.connection.in_flight,
        connection_key=choice.connection.key_of_jobs,
        spend_limit=spend_limit,
        expected_call_cost=estimate.cost_per_call,
    )
    known = prepared.known
    if choice.split == "topics":
        known = known.unsplit()
        Chunk.objects.create(job=router.job, number=0, subjects=[SPLITTING])
        Job.objects.filter(pk=router.job.pk).update(total=len(prepared.subjects))
    else:
        add_chunks(router.job, prepared.subjects)
    router.save()
    store_known(router, known)
    router.save(update_fields=["scores"])
    Agent.objects.create(router=router, position=0, name=choice.run.who, run=choice.run)
    record(
        project,
        user,
        "router training started",
        subject=router.name,
        subject_id=router.pk,
        new={
            "kind": router.kind,
            "annotator": choice.run.who,
            "model": router.parameters["model"],
            "limit": choice.limit,
            "split": choice.split,
            "calls": len(prepared.subjects),
            "spend_limit": None if spend_limit is None else f"${spend_limit}",
        },
    )
    return router


_DONE = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}


@transaction.atomic
def trace_router_act(*, router: Router, user: User, action: str, spend_limit: Decimal | None = None) -> None:
    """Pause, resume (with `spend_limit`) or cancel the training. Raises JobStateError."""
    match action:
        case "pause":
            training_pause(router)
        case "resume":
            training_resume(router, spend_limit=spend_limit)
        case "cancel":
            training_cancel(router)
        case _:
            raise JobStateError(f"A router cannot {action}.")
    new = None if spend_limit is None else {"spend_limit": f"${spend_limit}"}
    record(
        router.project,
        user,
        f"router training {_DONE[action]}",
        subject=router.name,
        subject_id=router.pk,
        new=new,
    )
