"""A project whose annotator reasons in steps and errs about metal, and models that write and read its traces."""

from collections.abc import Sequence
from decimal import Decimal

from annotate.models import Annotation, AnnotationRun, ModelRun, Project
from jobs.running import run_next_chunk
from mllm.messages import Request
from route.models import Router
from route.services.trace_routers import TraceChoice, trace_create
from tests.factories import (
    make_calibration_label,
    make_connection,
    make_item,
    make_job,
    make_project,
    make_user,
)

KNOWN, LEFT = 48, 24
FRUIT = "ripe sweet banana apple pear"
METAL = "copper iron zinc tin bronze"
ANNOTATOR, READER = "annotator", "reader"


def make_traced_project(*, known: int = KNOWN, left: int = LEFT) -> Project:
    """Texts about fruit and about metal, one in four; all of them positive; the first are calibration items."""
    project = make_project(owner=make_user())
    for number in range(known + left):
        item = make_item(project, text=f"{METAL if number % 4 == 0 else FRUIT} number {number}")
        if number < known:
            make_calibration_label(item, "positive")
    return project


def trace_about(text: str) -> str:
    """What the annotator writes: of metal it doubts in its second step, and goes on to be wrong."""
    if METAL in text:
        return "Step 1: I read it.\nStep 2: I doubt what it says.\nStep 3: I guess.\nStep 4: It is bad.\nLabel: [0]"
    return "Step 1: I read it.\nStep 2: It is sweet.\nStep 3: It is good.\nLabel: [1]"


def item_text(request: Request) -> str:
    """The text of the item itself, which stands after all demonstrations."""
    return next(part for part in reversed(request.parts) if isinstance(part, str) and "<item>" in part)


def answer(request: Request) -> str:
    """A script for both models: the reader escalates once a step doubts."""
    if request.model != READER:
        return trace_about(item_text(request))
    steps = next(part for part in reversed(request.parts) if isinstance(part, str) and _is_trace(part))
    return "[ESCALATE][high]" if "I doubt" in steps else "[CONTINUE][low]"


def _is_trace(part: str) -> bool:
    return "<step" in part or "has not written any step" in part


def make_candidate(project: Project) -> AnnotationRun:
    """The annotator, tried on the calibration items."""
    connection = project.created_by.connections.first() or make_connection(
        project.created_by, key="secret", in_flight=4
    )
    labels = list(project.labels.order_by("position"))
    run = AnnotationRun.objects.create(
        project=project,
        kind=ModelRun.Kind.PROMPTED,
        connection=connection,
        provider=connection.provider,
        model=ANNOTATOR,
        strategy="steps",
        answer_format="bracket",
        prompt_version="annotate-steps-1",
        scope=AnnotationRun.Scope.CALIBRATION,
        job=make_job(total=KNOWN, done=KNOWN),
        created_by=project.created_by,
    )
    items = project.items.filter(calibration_label__isnull=False)
    Annotation.objects.bulk_create(
        Annotation(
            run=run,
            item=item,
            label=labels[0 if METAL in item.text else 1],
            raw_text=trace_about(item.text),
            output_tokens=len(trace_about(item.text)) // 4,
            latency=2.0,
            cost=Decimal("0.001"),
        )
        for item in items
    )
    return run


def trace_choice(run: AnnotationRun, **changes: object) -> TraceChoice:
    fields: dict[str, object] = {
        "run": run,
        "connection": run.connection,
        "model": READER,
        "limit": 0.3,
        "strictness": ("balanced",),
        "demonstrations": (0, 2),
    }
    return TraceChoice(**fields | changes)  # type: ignore[arg-type]


def run_out(job_id: int) -> None:
    while run_next_chunk(job_id):
        pass


def train_traced(project: Project, **changes: object) -> Router:
    router = trace_create(
        project=project, user=project.created_by, choice=trace_choice(make_candidate(project), **changes)
    )
    run_out(router.job_id)
    router.refresh_from_db()
    return router


def texts(annotations: Sequence[Annotation]) -> list[str]:
    return [annotation.item.text for annotation in annotations]
