"""A project with a cheap annotator that errs about metal and a premium one that does not."""

from collections.abc import Mapping
from decimal import Decimal

from annotate.models import Annotation, AnnotationRun, Item, ModelRun, Project
from annotate.services.runs import ModelChoice
from jobs.running import run_next_chunk
from mllm.adapters.scripted import Line
from mllm.messages import Request
from route.models import JudgeRun, Preference
from route.services.judge_runs import judge_run_create
from tests.factories import (
    make_calibration_label,
    make_connection,
    make_item,
    make_job,
    make_project,
    make_user,
)

KNOWN, LEFT = 40, 30
FRUIT = "ripe sweet banana apple pear"
METAL = "copper iron zinc tin bronze"
CHEAP_PRICE, MIDDLE_PRICE, PREMIUM_PRICE = Decimal("0.001"), Decimal("0.002"), Decimal("0.01")


def make_metal_project() -> Project:
    """Texts about fruit and about metal in turn, all of them positive; the first are calibration items."""
    project = make_project(owner=make_user())
    for number in range(KNOWN + LEFT):
        item = make_item(project, text=f"{FRUIT if number % 2 else METAL} number {number}")
        if number < KNOWN:
            make_calibration_label(item, "positive")
    return project


def make_annotator(
    project: Project, model: str, answers: Mapping[Item, str], *, price: Decimal, scope: str
) -> AnnotationRun:
    run = AnnotationRun.objects.create(
        project=project,
        kind=ModelRun.Kind.PROMPTED,
        provider="openai",
        model=model,
        strategy="naive",
        answer_format="bracket",
        scope=scope,
        connection=project.created_by.connections.first(),
        job=make_job(total=len(answers), done=len(answers)),
        created_by=project.created_by,
    )
    labels = {label.name: label for label in project.labels.all()}
    Annotation.objects.bulk_create(
        Annotation(run=run, item=item, label=labels[name], cost=price, input_tokens=90, output_tokens=3)
        for item, name in answers.items()
    )
    return run


def make_two(project: Project, *, answered: int = LEFT) -> tuple[AnnotationRun, AnnotationRun]:
    """(cheap, premium): tried on the calibration items, and at work on `answered` of the others."""
    if not project.created_by.connections.exists():
        make_connection(project.created_by, key="sk-test")
    known = list(project.items.filter(calibration_label__isnull=False).order_by("pk"))
    others = list(project.items.filter(calibration_label__isnull=True).order_by("pk"))[:answered]
    runs = []
    for model, wrong_about, price in (
        ("cheap-model", METAL, CHEAP_PRICE),
        ("premium-model", "?", PREMIUM_PRICE),
    ):
        for scope, items in (("calibration", known), ("project", others)):
            answers = {item: "negative" if wrong_about in item.text else "positive" for item in items}
            run = make_annotator(project, model, answers, price=price, scope=scope)
        runs.append(run)
    return runs[0], runs[1]


def make_three(project: Project) -> list[AnnotationRun]:
    """The cheap and the premium annotator of `make_two`, and one between them in price that errs about fruit."""
    cheap, premium = make_two(project)
    for scope in ("calibration", "project"):
        items = project.items.filter(calibration_label__isnull=scope != "calibration").order_by("pk")
        answers = {item: "negative" if FRUIT in item.text else "positive" for item in items}
        middle = make_annotator(project, "middle-model", answers, price=MIDDLE_PRICE, scope=scope)
    return [cheap, middle, premium]


def judge_choice(project: Project) -> ModelChoice:
    return ModelChoice(
        kind="prompted",
        connection=project.created_by.connections.earliest("pk"),
        model="judge",
        strategy="naive",
        answer_format="bracket",
    )


def prefers_positive(request: Request) -> Line:
    """A judge that finds “positive” the better answer wherever it stands."""
    answers = str(request.parts[-1])
    return "[1]" if answers.index("positive") < answers.index("negative") else "[2]"


def make_judge_run(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> JudgeRun:
    """A finished one that prefers what is positive, as all items are."""
    run = JudgeRun.objects.create(
        project=project,
        cheap=cheap,
        premium=premium,
        kind=ModelRun.Kind.PROMPTED,
        provider="openai",
        model="judge",
        strategy="naive",
        job=make_job("comparison", total=LEFT, done=LEFT),
        created_by=project.created_by,
    )
    rows = (
        run.cheap.annotations.select_related("item", "label"),
        run.premium.annotations.select_related("label"),
    )
    theirs = {row.item_id: row.label and row.label.name for row in rows[1]}
    Preference.objects.bulk_create(
        Preference(
            run=run,
            item=row.item,
            value=(theirs[row.item_id] == "positive") - (str(row.label) == "positive"),
        )
        for row in rows[0].order_by("item_id")
        if row.item_id in theirs
    )
    return run


def compare(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> JudgeRun:
    """A judge run, and every chunk of it."""
    run = judge_run_create(
        project=project, user=project.created_by, cheap=cheap, premium=premium, choice=judge_choice(project)
    )
    while run_next_chunk(run.job_id):
        pass
    run.refresh_from_db()
    return run
