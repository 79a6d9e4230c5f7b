import json
from decimal import Decimal

import pytest

from annotate.models import AnnotationRun, ModelPrice, Project
from annotate.services.runs import TRAINED, ModelChoice
from criticize.models import CriticismRun
from criticize.services import criticism_run_create, criticism_run_retry
from jobs.models import Job
from jobs.running import run_to_end
from jobs.services import job_resume
from mllm import retry
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from tests.conftest import Provider
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_item,
    make_items,
    make_project,
)
from tests.mllm.wire import Wire, as_json

pytestmark = pytest.mark.django_db


def start(annotation_run: AnnotationRun, **choice: object) -> CriticismRun:
    options = {"model": "critic", "strategy": "naive", "answer_format": "bracket", **choice}
    connection = options.pop("connection", None) or make_connection(annotation_run.created_by, in_flight=4)
    return criticism_run_create(
        annotation_run=annotation_run,
        user=annotation_run.created_by,
        choice=ModelChoice(kind="prompted", connection=connection, **options),  # type: ignore[arg-type]
    )


def work_on(run: CriticismRun) -> Job:
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    return run.job


def text_of(request: Request) -> str:
    return " ".join(part for part in request.parts if isinstance(part, str))


def annotated(count: int = 4) -> AnnotationRun:
    project = make_project()
    make_items(project, count, gold="positive")
    return make_annotation_run(project)


class TestAnswers:
    def test_the_probability_and_everything_said_are_kept(self, provider: Provider):
        annotation_run = annotated(1)
        provider(lambda request: Reply("[Doubtful.][0.374]", "", "critic-2", "stop", 100, 8, 0, (), 0.0))
        ModelPrice.objects.create(provider="openai", model="critic", input=1, output=10)

        run = start(annotation_run, strategy="cot")
        job = work_on(run)

        row = run.criticisms.get()
        assert (row.error_prob, row.reasoning, row.failure) == (0.374, "Doubtful.", "")
        assert (row.raw_text, row.model_returned, row.cost) == (
            "[Doubtful.][0.374]",
            "critic-2",
            Decimal("0.00018"),
        )
        assert (job.done, job.failed, job.cost, job.input_tokens, job.output_tokens) == (
            1,
            0,
            row.cost,
            100,
            8,
        )

    def test_structured_answers(self, provider: Provider):
        provider(lambda request: json.dumps({"error_probability": 0.25}))

        run = start(annotated(), answer_format="structured")
        work_on(run)

        assert {row.error_prob for row in run.criticisms.all()} == {0.25}

    @pytest.mark.parametrize("said", ["", "[1.2]", "[-0.1]", "fine", "[nan]", "\x00\ud83d"])
    def test_what_is_no_probability_is_unparseable(self, said, provider: Provider):
        provider(lambda request: said)

        run = start(annotated())
        job = work_on(run)

        assert (job.state, job.done, job.failed) == ("done", 4, 4)
        row = run.criticisms.all()[0]
        assert (row.error_prob, row.failure) == (None, Failure.UNPARSEABLE)
        assert row.message == "The answer holds no probability between 0 and 1."

    def test_each_annotation_with_a_label_is_criticized_once_with_its_own_label(self, provider: Provider):
        project = make_project()
        items = make_items(project, 4)
        answers = dict(zip(items, ["positive", "negative", "", "negative"], strict=True))
        adapter = provider(lambda request: "[0.5]")

        run = start(make_annotation_run(project, answers))
        work_on(run)

        assert set(run.criticisms.values_list("annotation__item_id", flat=True)) == {
            item.pk for item, label in answers.items() if label
        }
        for request in adapter.requests:
            (item,) = [item for item in items if item.text in text_of(request)]
            assert answers[item] in text_of(request)

    def test_neither_gold_nor_the_annotators_reasoning_is_shown(self, provider: Provider):
        project = make_project(labels=["negative", "positive", "neutral"])
        make_item(project, gold="neutral", text="Nice.")
        annotation_run = make_annotation_run(project)
        annotation_run.annotations.update(reasoning="SECRET REASONS")
        adapter = provider(lambda request: "[0.5]")

        work_on(start(annotation_run))

        (request,) = adapter.requests
        assert "SECRET" not in request.system + text_of(request)
        assert "neutral" not in text_of(request)


class TestStops:
    def test_retry_asks_the_failed_alone_and_keeps_what_they_said(self, provider: Provider):
        annotation_run = annotated(20)
        bad = {item.text for item in annotation_run.project.items.order_by("id")[:3]}
        provider(lambda request: "nonsense" if any(text in text_of(request) for text in bad) else "[0.1]")
        run = start(annotation_run)
        assert work_on(run).failed == 3
        adapter = provider(lambda request: "[0.9]")

        criticism_run_retry(run=run)
        job = work_on(run)

        assert (job.state, job.done, job.failed, len(adapter.requests)) == ("done", 20, 0, 3)
        again = run.criticisms.filter(error_prob=0.9)
        assert [[earlier["raw_text"] for earlier in row.earlier] for row in again] == [["nonsense"]] * 3
        assert run.criticisms.filter(error_prob=0.1, earlier=[]).count() == 17

    def test_a_wrong_key_pauses_and_resume_completes(self, provider: Provider):
        provider(lambda request: CallError(Failure.AUTHENTICATION, "The key was not accepted."))
        run = start(annotated())
        job = work_on(run)
        assert (job.state, job.failure, job.done) == ("paused", "authentication", 0)
        provider(lambda request: "[0.2]")

        job_resume(job)

        assert (work_on(run).state, run.criticisms.count()) == ("done", 4)

    def test_the_spend_limit_holds(self, provider: Provider):
        ModelPrice.objects.create(provider="openai", model="critic", input=0, output=1000)
        provider(lambda request: Reply("[0.2]", "", "critic", "stop", 5, 10, 0, (), 0.0))
        annotation_run = annotated(30)
        choice = ModelChoice(
            kind="prompted",
            connection=make_connection(annotation_run.created_by),
            model="critic",
            strategy="naive",
            answer_format="bracket",
            max_tokens=10,
        )
        run = criticism_run_create(
            annotation_run=annotation_run,
            user=annotation_run.created_by,
            choice=choice,
            spend_limit=Decimal("0.1"),
        )

        job = work_on(run)

        assert (job.failure, job.done, job.cost) == ("spend_limit", 10, Decimal("0.1"))


class TestOverTheWire:
    @pytest.mark.parametrize(
        ("answer_format", "said"), [("bracket", "[0.125]"), ("structured", '{"error_probability": 0.125}')]
    )
    def test_an_image_is_criticized(self, answer_format, said, wire: Wire, monkeypatch):
        monkeypatch.setattr(retry, "DEFAULT_POLICY", retry.NO_RETRY)
        project = make_project("image_text_agreement", [])
        make_item(project, text="A teal square.")
        annotation_run = make_annotation_run(project)
        wire.answer(
            as_json({"model": "m", "choices": [{"message": {"content": said}, "finish_reason": "stop"}]})
        )
        connection = make_connection(project.created_by, base_url=f"{wire.url}/v1")

        run = start(annotation_run, connection=connection, answer_format=answer_format)
        work_on(run)

        assert run.criticisms.get().error_prob == 0.125
        body = wire.seen[0].body
        kinds = [part["type"] for part in body["messages"][-1]["content"]]
        assert "image_url" in kinds
        assert ("response_format" in body) == (answer_format == "structured")


class TestTrained:
    def project(self) -> Project:
        """Items whose gold follows from their text, 30 of them calibration items."""
        project = make_project()
        for number in range(150):
            good = number % 2 == 0
            text = f"{'lovely great kind' if good else 'awful broken rude'} thing {number}"
            gold = "positive" if good else "negative"
            item = make_item(project, text=text, gold=gold)
            if number < 30:
                make_calibration_label(item, gold)
        return project

    def test_wrong_labels_get_the_higher_probabilities(self):
        project = self.project()
        items = list(project.items.filter(calibration_label=None).order_by("id"))
        answers = {item: item.gold.name for item in items if item.gold}
        wrong = items[5:100:10]
        for item in wrong:
            answers[item] = "negative" if answers[item] == "positive" else "positive"
        annotation_run = make_annotation_run(project, answers)

        run = criticism_run_create(
            annotation_run=annotation_run, user=annotation_run.created_by, choice=TRAINED
        )
        job = work_on(run)

        assert (job.state, job.done, job.cost) == ("done", 120, Decimal(0))
        suspicious = run.criticisms.order_by("-error_prob").values_list("annotation__item_id", flat=True)
        found = set(suspicious[: len(wrong)]) & {item.pk for item in wrong}
        assert len(found) >= 8
        assert not set(run.parameters["training_item_ids"]) & set(suspicious)

    def test_the_same_seed_gives_the_same_probabilities(self):
        annotation_run = make_annotation_run(self.project())
        runs = [
            criticism_run_create(
                annotation_run=annotation_run, user=annotation_run.created_by, choice=TRAINED
            )
            for _ in range(2)
        ]
        for run in runs:
            work_on(run)

        first, second = (
            list(run.criticisms.order_by("annotation_id").values_list("error_prob")) for run in runs
        )
        assert first == second
