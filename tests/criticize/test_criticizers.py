import json
import math
from collections.abc import Callable
from decimal import Decimal

import pytest

from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelPrice, Project
from annotate.parsing import ANSWER_FORMATS
from annotate.services.runs import TRAINED, ModelChoice
from criticize.criticizers import PromptedCriticism
from criticize.methods import METHODS
from criticize.models import CriticismRun
from criticize.services import criticism_run_create, criticism_run_retry
from criticize.strategies import STRATEGIES
from jobs.calling import Outcome
from jobs.models import Job
from jobs.running import run_to_end
from jobs.services import job_resume
from mllm import retry
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from review.services.rounds import round_create
from tests.conftest import Provider
from tests.criticize.replies import pieces_of, reply_of, tokens_of, written
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


class TestEveryStrategy:
    """From the request to a review round, through the scripted provider."""

    VALUES = {
        "naive": ["0.125", "0.750", "0.300", "high"],
        "cot": ["0.125", "0.750", "0.300", "high"],
        "devil": ["0.125", "0.750", "0.300", "high"],
        "mc": ["1", "5", "5", "6"],
        "naive_logit": ["no", "yes", "no", "maybe"],
        "cot_logit": ["no", "yes", "no", "maybe"],
        "cot_ppl": ["no", "yes", "no", "maybe"],
    }

    def script(self, run: AnnotationRun, strategy: str, answer_format: str) -> Callable[[Request], Reply]:
        """One answer an item, in order of items; the last one is none."""
        texts = list(run.project.items.order_by("id").values_list("text", flat=True))

        def answer(request: Request) -> Reply:
            (number,) = [n for n, text in enumerate(texts) if text in text_of(request)]
            value = self.VALUES[strategy][number]
            text = written(strategy, answer_format, value, f"Reason {number}.")
            p_yes = (0.1, 0.9, 0.4, 0.5)[number]
            return reply_of(
                text,
                tokens=tokens_of(
                    pieces_of(text), logprob=-0.1 * (number + 1), alternatives={"yes": p_yes, "no": 1 - p_yes}
                ),
            )

        return answer

    @pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
    @pytest.mark.parametrize("strategy", list(STRATEGIES))
    def test_answers_become_priorities_and_a_round_is_drawn_of_them(
        self, strategy: str, answer_format: str, provider: Provider
    ):
        annotation_run = annotated(4)
        adapter = provider(self.script(annotation_run, strategy, answer_format))

        run = start(annotation_run, strategy=strategy, answer_format=answer_format)
        job = work_on(run)

        rows = list(run.criticisms.order_by("annotation__item_id"))
        assert (job.done, job.failed) == (4, 1)
        assert [bool(row.failure) for row in rows] == [False, False, False, True]
        assert {request.top_logprobs for request in adapter.requests} == {STRATEGIES[strategy].top_logprobs}
        assert run.prompt_version == METHODS[strategy].version
        if STRATEGIES[strategy].ranks_only:
            assert [row.error_prob for row in rows] == [None] * 4
        else:
            assert [row.error_prob for row in rows] == [row.priority for row in rows]
        if STRATEGIES[strategy].reasons:
            assert [row.reasoning for row in rows[:3]] == [f"Reason {n}." for n in range(3)]
        expected = {
            "mc": [1.0, 5.0, 5.0],
            "cot_ppl": [-math.exp(-0.1), math.exp(-0.2), -math.exp(-0.3)],
            "naive_logit": [0.1, 0.9, 0.4],
            "cot_logit": [0.1, 0.9, 0.4],
        }.get(strategy, [0.125, 0.75, 0.3])
        assert [row.priority for row in rows[:3]] == pytest.approx(expected)

        round = round_create(run=run, user=run.created_by, count=2)
        order = list(round.tasks.order_by("rank").values_list("item_id", flat=True))
        items = [row.annotation.item_id for row in rows]
        # No answer is the most suspicious; then the highest priority; ties of levels are broken at random.
        assert order[0] == items[3]
        assert order[1] in ((items[1], items[2]) if strategy == "mc" else (items[1],))

        for rule in ("normalize", "exponential"):
            if STRATEGIES[strategy].ranks_only:
                with pytest.raises(Refusal, match="only ranks"):
                    round_create(run=run, user=run.created_by, count=2, rule=rule)
            else:
                drawn = round_create(run=run, user=run.created_by, count=2, rule=rule)
                assert drawn.tasks.count() <= 2

    def test_ties_of_levels_are_broken_by_the_draws_seed(self, provider: Provider):
        annotation_run = annotated(12)
        provider(lambda request: "[Plain.][4]")
        run = start(annotation_run, strategy="mc")
        work_on(run)

        drawn = [
            set(
                round_create(run=run, user=run.created_by, count=4, seed=seed).tasks.values_list(
                    "item_id", flat=True
                )
            )
            for seed in (1, 1, 2, 3)
        ]

        assert [len(each) for each in drawn] == [4] * 4
        assert drawn[0] == drawn[1]
        assert len({frozenset(each) for each in drawn}) > 1

    def test_the_order_in_which_answers_arrive_changes_nothing(self, provider: Provider):
        annotation_run = annotated(4)
        replies = self.script(annotation_run, "cot_ppl", "bracket")
        work = PromptedCriticism()
        found = []
        for reverse in (False, True):
            provider(replies)
            run = start(annotation_run, strategy="cot_ppl")
            annotations = list(annotation_run.annotations.order_by("item_id").values_list("pk", flat=True))
            outcomes = [
                Outcome(pk, reply=replies(request))
                for pk, request in work.requests(run.job, annotations)
                if isinstance(request, Request)
            ]
            work.write(run.job, outcomes[::-1] if reverse else outcomes)
            found.append(dict(run.criticisms.values_list("annotation_id", "priority")))

        assert len(found[0]) == 4
        assert found[0] == found[1]

    def test_what_a_probability_was_computed_from_is_kept(self, provider: Provider):
        annotation_run = annotated(1)
        provider(self.script(annotation_run, "naive_logit", "bracket"))
        run = start(annotation_run, strategy="naive_logit")
        work_on(run)

        kept = run.criticisms.get().logprobs
        assert kept is not None
        assert [entry[0] for entry in kept] == ["[", "no", "]"]
        assert kept[1][1] == pytest.approx(-0.1)
        assert {token: math.exp(logprob) for token, logprob in kept[1][2]} == pytest.approx(
            {"yes": 0.1, "no": 0.9}
        )

    def test_an_annotation_without_reasoning_is_a_named_failure_of_its_own(self, provider: Provider):
        annotation_run = annotated(2)
        first = annotation_run.annotations.order_by("item_id")[0]
        annotation_run.annotations.filter(pk=first.pk).update(reasoning="")
        adapter = provider(lambda request: "[It may be meant otherwise.][0.5]")

        run = start(annotation_run, strategy="devil")
        job = work_on(run)

        row = run.criticisms.get(annotation=first)
        assert (job.state, job.done, job.failed, len(adapter.requests)) == ("done", 2, 1, 1)
        assert row.failure == Failure.BAD_REQUEST
        assert "no reasoning for this label" in row.message
        assert "It reads like one." in text_of(adapter.requests[0])

    def test_a_model_without_log_probabilities_is_named_so(self, provider: Provider):
        provider(lambda request: Reply("[yes]", "Thinking.", "m", "stop", 9, 3, 0, (), 0.0))

        run = start(annotated(1), strategy="naive_logit")
        work_on(run)

        row = run.criticisms.get()
        assert (row.failure, row.reasoning) == (Failure.UNPARSEABLE, "Thinking.")
        assert row.message.startswith("The model gave no log-probabilities.")


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

    def entries(self, text: str, top: dict[str, float]) -> list[dict[str, object]]:
        """As OpenAI writes the log-probabilities of an answer."""
        return [
            {
                "token": piece,
                "bytes": list(piece.encode()),
                "logprob": -0.25,
                "top_logprobs": [
                    {"token": spelling, "bytes": list(spelling.encode()), "logprob": math.log(p)}
                    for spelling, p in (top if piece.strip() in top else {piece: 0.8}).items()
                ],
            }
            for piece in pieces_of(text)
        ]

    @pytest.mark.parametrize(
        ("strategy", "text", "error_prob", "priority"),
        [
            ("naive_logit", '{"answer": "no"}', 0.25, 0.25),
            ("cot_logit", '{"reasoning": "Ironie 😀: yes, no.", "answer": "no"}', 0.25, 0.25),
            ("cot_ppl", '{"reasoning": "Ironie 😀: yes, no.", "answer": "no"}', None, -math.exp(-0.25)),
        ],
    )
    def test_log_probabilities_of_a_compatible_server(
        self, strategy, text, error_prob, priority, wire: Wire, monkeypatch
    ):
        monkeypatch.setattr(retry, "DEFAULT_POLICY", retry.NO_RETRY)
        annotation_run = annotated(1)
        logprobs = {"content": self.entries(text, {"yes": 0.15, "Yes": 0.05, "no": 0.5, " NO": 0.1})}
        choice = {"message": {"content": text}, "logprobs": logprobs, "finish_reason": "stop"}
        refusal = {"error": {"message": "top_logprobs must be at most 5", "param": "top_logprobs"}}
        wire.answer(
            *([as_json(refusal, 400)] if strategy != "cot_ppl" else []), as_json({"choices": [choice]})
        )
        connection = make_connection(annotation_run.created_by, base_url=f"{wire.url}/v1")

        run = start(annotation_run, connection=connection, strategy=strategy, answer_format="structured")
        work_on(run)

        row = run.criticisms.get()
        assert row.failure == "", row.message
        assert row.error_prob == (None if error_prob is None else pytest.approx(error_prob))
        assert row.priority == pytest.approx(priority)
        body = wire.seen[-1].body
        assert body["logprobs"] is True
        assert body["top_logprobs"] == (1 if strategy == "cot_ppl" else 5)
        assert body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == [
            "yes",
            "no",
        ]


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
