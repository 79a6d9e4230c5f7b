"""The whole job without a browser: upload, calibrate, annotate, criticize, draw, and review from a gold column."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.files import File

from annotate.errors import Refusal
from annotate.label_sets import without_labels
from annotate.models import AnnotationRun, Connection, Item, ModelRun, Project, Upload, User
from annotate.prompts import STRATEGIES
from annotate.services.calibration import calibration_from_gold
from annotate.services.connections import connection_save
from annotate.services.projects import project_create
from annotate.services.runs import TRAINED, ModelChoice, annotation_run_create, items_to_annotate
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from annotate.task_types import get_task_type
from criticize.judging import JUDGE_STRATEGIES
from criticize.models import CriticismRun
from criticize.selectors import aqg_at, criticism_quality
from criticize.services import criticism_run_create
from criticize.strategies import RANK, get_strategy
from criticize.strategies import STRATEGIES as CRITICIZER_STRATEGIES
from jobs.models import Job
from mllm.registry import PROVIDERS
from review.accuracy import measured_final, measured_machine
from review.answers import judged_by_people
from review.data_card import CARD, README, card_json, readme
from review.models import Correction, Export, ReviewRound, ReviewTask
from review.sampling import RULES, choose_budget
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create


@dataclass(frozen=True, slots=True)
class Result:
    """What the pipeline measured, over the items outside the calibration sample."""

    machine_accuracy: float | None
    final_accuracy: float | None
    machine_f1: float | None  # of answers that are spans, whose accuracy is the share of exact matches
    final_f1: float | None
    aqg: float | None
    abs: float | None
    errors: int | None
    errors_found: int | None
    reviews: int
    budget: int
    items: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    seconds: float


def model_choice(
    text: str, user: User, *, in_flight: int, strategies: Collection[str] = STRATEGIES
) -> ModelChoice:
    """`trained`, `CONNECTION/MODEL[:strategy]`, or `PROVIDER@URL/MODEL[:strategy]`. Raises Refusal."""
    if text == "trained":
        return TRAINED
    rest, strategy = _strategy(text, strategies)
    if "@" in rest.partition("/")[0]:
        provider, _, address = rest.partition("@")
        base_url, model = _address(address)
        connection = _connection_at(user, provider, base_url, in_flight)
    else:
        name, _, model = rest.partition("/")
        found = Connection.objects.filter(owner=user, name=name).first()
        if found is None:
            raise Refusal(
                f"{user} has no connection named “{name}”. Make one in the browser, or write PROVIDER@URL/MODEL."
            )
        connection = found
    if not model:
        raise Refusal(f"“{text}” names no model. Write CONNECTION/MODEL, for example openai/gpt-4o-mini.")
    return ModelChoice(kind=ModelRun.Kind.PROMPTED, connection=connection, model=model, strategy=strategy)


def budget_of(text: str) -> tuple[int | None, float | None]:
    """(count, share), one of them None: `500` is a count, `0.1` a share. Raises Refusal."""
    try:
        count, share = (None, float(text)) if "." in text else (int(text), None)
    except ValueError:
        count = share = None
    if (count is None or count < 1) and (share is None or not 0 < share <= 1):
        raise Refusal(
            f"The budget is a share of the items, such as 0.1, or a count, such as 500; not “{text}”."
        )
    return count, share


def _strategy(text: str, strategies: Collection[str]) -> tuple[str, str]:
    # Names of models have colons too.
    rest, separator, strategy = text.rpartition(":")
    return (rest, strategy) if separator and strategy in strategies else (text, "cot")


def _address(address: str) -> tuple[str, str]:
    """(base URL, model). The URL ends with /v1 where it has that; else at the last slash."""
    before, version, model = address.partition("/v1/")
    if version:
        return f"{before}/v1", model
    base_url, _, model = address.rpartition("/")
    return base_url, model


def _connection_at(user: User, provider: str, base_url: str, in_flight: int) -> Connection:
    """A connection of the user's for this address, made once; its key comes from the provider's usual variable."""
    if provider not in PROVIDERS:
        raise Refusal(f"There is no provider named “{provider}”. Choose one of: {', '.join(PROVIDERS)}.")
    name = f"{provider}@{base_url}"[:80]
    connection = Connection.objects.filter(owner=user, name=name).first() or Connection(owner=user)
    own_address = bool(base_url)
    return connection_save(
        connection=connection,
        name=name,
        provider=provider,
        base_url=base_url,
        key_variable="" if own_address else PROVIDERS[provider].key_variable,
        in_flight=in_flight,
    )


@dataclass(frozen=True)
class Pipeline:
    """One run of the whole job. `wait` returns when a job is finished; `say` tells how far it is."""

    user: User
    wait: Callable[[Job], None]
    say: Callable[[str], None]

    def upload(self, project: Project, data: Path, *, gold: str | None) -> Upload:
        """Import the file; `gold` names its gold column, and no other column is taken for gold."""
        self.say(f"Reading {data.name}")
        with data.open("rb") as file:
            upload = upload_receive(project=project, user=self.user, file=File(file, name=data.name))
        mapping = replace(upload_preview(upload).mapping, gold=gold, folder_as_gold=gold == "folder")
        if gold == "folder":
            mapping = replace(mapping, gold=None)
        elif gold in (mapping.text, mapping.id, mapping.question, mapping.image) and gold is not None:
            raise Refusal(f"The column “{gold}” is already used for something else than the gold label.")
        upload = upload_import(upload=upload, mapping=mapping, add_labels=not project.labels.exists())
        self._finish(upload.job)
        upload.refresh_from_db()
        if upload.rejected:
            self.say(f"{upload.rejected} rows were rejected; the first: {upload.rejected_rows.first()}")
        return upload

    def annotate(self, project: Project, choice: ModelChoice, spend_limit: Decimal | None) -> AnnotationRun:
        run = annotation_run_create(project=project, user=self.user, choice=choice, spend_limit=spend_limit)
        self.say(f"Annotating {run.job.total} items: {run.who}")
        self._finish(run.job)
        return run

    def criticize(self, run: AnnotationRun, choice: ModelChoice, spend_limit: Decimal | None) -> CriticismRun:
        criticism = criticism_run_create(
            annotation_run=run, user=self.user, choice=choice, spend_limit=spend_limit
        )
        self.say(f"Criticizing {criticism.job.total} annotations: {criticism.who}")
        self._finish(criticism.job)
        return criticism

    def review_from_gold(self, round: ReviewRound) -> int:
        """Answer the round's tasks from the gold column; returns how many it could answer."""
        answered = 0
        while tasks := tasks_claim(round=round, user=self.user, count=10):
            for task in tasks:
                answer = _answer_from_gold(task.item)
                task_submit(task=task, user=self.user, answer=answer)
                answered += answer.action == Correction.Action.LABEL
        return answered

    def export(self, round: ReviewRound, folder: Path) -> None:
        """Write the wide and the long export in every format into the folder, texts exactly as they are.

        Their data card lies beside them: that of the wide table, which the long one is made from.
        """
        folder.mkdir(parents=True, exist_ok=True)
        cards: dict[str, dict[str, Any]] = {}
        for layout in Export.TO_TRAIN_ON:
            for format in Export.TABLES:
                export = export_create(
                    round=round, user=self.user, layout=layout, format=format, escape_formulas=False
                )
                self._finish(export.job)
                export.refresh_from_db()
                shutil.copyfile(export.file.path, folder / f"{layout}.{format}")
                cards[layout] = export.card
        card = cards[Export.Layout.WIDE]
        configs = {str(layout): f"{layout}.{Export.Format.PARQUET}" for layout in Export.TO_TRAIN_ON}
        card["export"]["file"] = configs[Export.Layout.WIDE]
        (folder / README).write_text(readme(card, configs), encoding="utf-8")
        (folder / CARD).write_text(card_json(card), encoding="utf-8")

    def _finish(self, job: Job | None) -> None:
        assert job is not None  # noqa: S101 (started just before)
        self.wait(job)
        job.refresh_from_db()
        if job.state != Job.State.DONE:
            raise Refusal(job.reason or f"The {job.kind} job ended as {job.state}.")


def _answer_from_gold(item: Item) -> Answer:
    """The item's gold label, or the first of its gold answers; a skip where it has none."""
    if item.gold is not None:
        return Answer(action=Correction.Action.LABEL, label=item.gold)
    if item.gold_answers is None:
        return Answer(action=Correction.Action.SKIP, reason="no gold label")
    if not item.gold_answers:
        return Answer(action=Correction.Action.LABEL, start=0, end=0)
    text, start = item.gold_answers[0]["text"], item.gold_answers[0]["start"]
    return Answer(action=Correction.Action.LABEL, text=text, start=start, end=start + len(text))


def measure(round: ReviewRound, *, seconds: float) -> Result:
    """The table of a finished run."""
    criticism_run = round.criticism_run
    assert criticism_run is not None  # noqa: S101 (only review rounds are measured)
    annotation_run = criticism_run.annotation_run
    quality = criticism_quality(criticism_run)
    machine, final = measured_machine(annotation_run), measured_final(round)
    answered = ReviewTask.counted.filter(round=round, state=ReviewTask.State.ANSWERED)
    found = sum(not right for _, right in judged_by_people(answered, round.project.task))
    jobs = [annotation_run.job, criticism_run.job]
    prompted = [run.job for run in (annotation_run, criticism_run) if run.kind == ModelRun.Kind.PROMPTED]
    for job in jobs:
        job.refresh_from_db()
    return Result(
        machine_accuracy=machine.share,
        final_accuracy=final.share,
        machine_f1=machine.f1.value,
        final_f1=final.f1.value,
        aqg=aqg_at(criticism_run, round.budget),
        abs=quality.abs,
        errors=quality.errors if machine.judged else None,
        errors_found=found if machine.judged else None,
        reviews=answered.count(),
        budget=round.budget,
        items=round.population,
        calls=sum(job.done for job in prompted),
        input_tokens=sum(job.input_tokens for job in jobs),
        output_tokens=sum(job.output_tokens for job in jobs),
        cost=float(sum(job.cost for job in jobs)),
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    data: Path
    task: str
    labels: tuple[str, ...]
    annotator: str
    criticizer: str
    calibration: int
    budget: str
    rule: str
    seed: int
    gold: str | None
    name: str
    in_flight: int
    spend_limit: Decimal | None


def _check_written(options: Options, annotator: ModelChoice, criticizer: ModelChoice) -> None:
    """Refuse, before anything is paid for, what only tasks with a label set have."""
    task = get_task_type(options.task)
    because = f"{without_labels(task)} have no label set, so"
    if not task.is_checkable and (options.gold is not None or options.labels):
        raise Refusal(f"{because} leave --gold and --labels out.")
    if options.labels:
        raise Refusal(f"{because} leave --labels out.")
    if annotator.is_trained or criticizer.is_trained:
        raise Refusal(
            f"{because} no classifier can be trained on them: name a model with --annotator and --criticizer."
        )
    if not task.is_checkable and criticizer.strategy not in JUDGE_STRATEGIES:
        raise Refusal(
            f"{because} {criticizer.strategy} cannot judge them: choose {' or '.join(JUDGE_STRATEGIES)}."
        )


def _check_probabilities(rule: str, criticizer: ModelChoice) -> None:
    if get_strategy(criticizer.strategy).scale == RANK:
        raise Refusal(
            f"The rule {rule} needs error probabilities, and the criticizer strategy {criticizer.strategy} only ranks "
            "items: use the rule threshold, or another strategy."
        )


def run(options: Options, pipeline: Pipeline) -> ReviewRound:
    """Take a data file to a drawn round, answered from gold where there is a gold column."""
    user = pipeline.user
    count, share = budget_of(options.budget)  # before anything is paid for
    annotator = model_choice(options.annotator, user, in_flight=options.in_flight)
    criticizer = model_choice(
        options.criticizer, user, in_flight=options.in_flight, strategies=CRITICIZER_STRATEGIES
    )
    if RULES[options.rule].needs_probabilities and not criticizer.is_trained:
        _check_probabilities(options.rule, criticizer)
    if get_task_type(options.task).is_written:
        _check_written(options, annotator, criticizer)
    if options.gold is None and (annotator.is_trained or criticizer.is_trained):
        raise Refusal(
            "The trained classifiers learn from calibration labels, and those come from the gold column here: "
            "give --gold, or label a calibration set in the browser."
        )
    project = project_create(
        user=user, name=options.name, task_type=options.task, labels=options.labels, seed=options.seed
    )
    pipeline.upload(project, options.data, gold=options.gold)
    if options.gold is not None and options.calibration:
        calibration_from_gold(project=project, count=options.calibration)
    if items := len(items_to_annotate(project)):
        choose_budget(items, count=count, share=share)  # the last thing to be refused before it is paid for
    annotations = pipeline.annotate(project, annotator, options.spend_limit)
    criticisms = pipeline.criticize(annotations, criticizer, options.spend_limit)
    round = round_create(
        run=criticisms,
        user=user,
        count=count,
        share=share,
        rule=options.rule,
        seed=options.seed,
    )
    if options.gold is not None:
        answered = pipeline.review_from_gold(round)
        pipeline.say(f"Reviewed {answered} items from the column “{options.gold}”")
    return round
