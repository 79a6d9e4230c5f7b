import json

import pytest

from annotate.errors import Refusal
from annotate.services.runs import TRAINED, ModelChoice
from criticize.models import Criticism
from criticize.selectors import error_prob_histogram
from criticize.services import criticism_estimate, criticism_run_create, criticism_run_retry
from criticize.strategies import STRATEGIES
from jobs.models import Job
from jobs.running import run_to_end
from mllm.errors import CallError, Failure
from mllm.messages import Reply
from review.drawing import population, select
from review.sampling import RULES
from tests.conftest import Provider
from tests.factories import make_connection, make_items
from tests.written_answers import GUIDELINES, make_written_project, make_written_run

pytestmark = pytest.mark.django_db

ANSWER = "It rained, said Dr. Who. It was Monday. [3][0.9]"


def answered(task_type, answers=(ANSWER,)):
    project = make_written_project(task_type)
    items = make_items(project, len(answers))
    return make_written_run(project, dict(zip(items, answers, strict=True)))


def choose(annotation_run, **choice):
    options = {"model": "other", "strategy": "naive", "answer_format": "bracket", **choice}
    return ModelChoice(kind="prompted", connection=make_connection(annotation_run.created_by), **options)


def start(annotation_run, **choice):
    return criticism_run_create(
        annotation_run=annotation_run,
        user=annotation_run.created_by,
        choice=choose(annotation_run, **choice),
    )


def work_on(run):
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    return run.job


class TestQuality:
    def test_what_is_stored_is_suspicion_and_no_error_probability(self, provider: Provider):
        adapter = provider(["[It is fine.][0.875]"])
        run = start(answered("rated_answer"), strategy="cot")

        assert work_on(run).state == Job.State.DONE
        criticism = run.criticisms.get()
        assert (criticism.error_prob, criticism.priority, criticism.facts) == (None, 0.125, None)
        assert criticism.reasoning == "It is fine."
        assert GUIDELINES in adapter.requests[0].system
        assert ANSWER in str(adapter.requests[0].parts[1])
        assert run.prompt_version == "quality-cot-1"

    def test_it_is_a_weight_for_every_rule(self, provider: Provider):
        annotation_run = answered("rated_answer", [f"Answer {number}." for number in range(20)])
        provider(lambda request: f"[{int(request.parts[1].split()[2].strip('.')) / 20:.3f}]")
        run = start(annotation_run)
        work_on(run)

        assert not run.ranks_only
        items = population(run)
        for rule in RULES:
            selection = select(items, rule=rule, budget=5, seed=42)
            assert selection.selected.sum() == 5
        threshold = select(items, rule="threshold", budget=5, seed=42)
        assert list(items.priorities[threshold.selected]) == pytest.approx([1, 0.95, 0.9, 0.85, 0.8])

    def test_a_structured_rating_is_read(self, provider: Provider):
        provider([json.dumps({"reasoning": "Hm.", "quality": 1})])
        run = start(answered("rated_answer"), strategy="cot", answer_format="structured")
        work_on(run)

        assert run.criticisms.get().priority == 0


class TestFacts:
    def test_each_statement_has_its_place_and_probability_and_the_worst_one_counts(self, provider: Provider):
        adapter = provider(["[1][0.020]\n[2][0.874]\n[3][0.310]"])
        run = start(answered("written_facts"))

        assert work_on(run).state == Job.State.DONE
        criticism = run.criticisms.get()
        assert [(ANSWER[fact["start"] : fact["end"]], fact["error_prob"]) for fact in criticism.facts] == [
            ("It rained, said Dr. Who.", 0.02),
            ("It was Monday.", 0.874),
            ("[3][0.9]", 0.31),
        ]
        assert criticism.error_prob == criticism.priority == 0.874
        assert '<fact number="2">It was Monday.</fact>' in str(adapter.requests[0].parts[1])
        assert run.prompt_version == "facts-naive-1"
        assert sum(error_prob_histogram(run) or []) == 1

    def test_reasoning_comes_before_the_lines(self, provider: Provider):
        provider(["Monday is not in the text: [2][0.99].\n\n[1][0.020]\n[2][0.874]\n[3][0.310]"])
        run = start(answered("written_facts"), strategy="cot")
        work_on(run)

        assert run.criticisms.get().reasoning == "Monday is not in the text: [2][0.99]."


def reply(text, finish_reason):
    return Reply(
        text=text,
        reasoning="",
        model="other",
        finish_reason=finish_reason,
        input_tokens=10,
        output_tokens=5,
        cached_tokens=0,
        logprobs=(),
        latency=0.0,
    )


@pytest.mark.parametrize(
    ("task_type", "text", "finish_reason", "message"),
    [
        ("rated_answer", "It is good.", "stop", "holds no rating"),
        ("rated_answer", "[1.5]", "stop", "holds no rating"),
        ("rated_answer", "[I think [0.9", "length", "cut off at its token limit"),
        ("written_facts", "[1][0.1]\n[2][0.1]", "stop", "each of the 3 statements"),
        ("written_facts", "[1][0.1]\n[1][0.1]\n[3][0.1]", "stop", "each of the 3 statements"),
        ("written_facts", "[1][0.1]\n[2][0.1]\n[3][0.1]\n[4][0.1]", "stop", "each of the 3 statements"),
        ("written_facts", "[1][0.1]\n[2][0.1]\n[3][0.1", "length", "cut off at its token limit"),
    ],
)
def test_what_cannot_be_read_is_a_failure_that_can_be_asked_again(
    task_type, text, finish_reason, message, provider: Provider
):
    provider([reply(text, finish_reason)])
    run = start(answered(task_type))
    job = work_on(run)
    criticism = run.criticisms.get()

    assert (job.failed, criticism.failure) == (1, "unparseable")
    assert (criticism.error_prob, criticism.priority, criticism.facts) == (None, None, None)
    assert message in criticism.message

    provider(["[0.5]" if task_type == "rated_answer" else "[1][0.5]\n[2][0.1]\n[3][0.1]"])
    criticism_run_retry(run=run)
    work_on(run)
    assert run.criticisms.get().priority == 0.5


@pytest.mark.parametrize("task_type", ["rated_answer", "written_facts"])
def test_failed_answers_and_failed_calls_are_left_for_people(task_type, provider: Provider):
    annotation_run = answered(task_type, [ANSWER, ""])
    provider([CallError(Failure.REFUSED, "The model declined.")])
    run = start(annotation_run)
    work_on(run)

    assert Criticism.objects.get().failure == "refused"
    assert list(population(run).suspicion) == [1.0, 1.0]


@pytest.mark.parametrize("task_type", ["rated_answer", "written_facts"])
@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"naive", "cot"}))
def test_strategies_for_labels_are_refused_with_a_sentence(task_type, strategy):
    annotation_run = answered(task_type)

    with pytest.raises(Refusal, match=f"no label set, so {strategy} cannot judge them") as refusal:
        start(annotation_run, strategy=strategy)
    assert refusal.value.field == "strategy"


def test_the_trained_criticizer_is_refused_with_a_sentence():
    annotation_run = answered("rated_answer")

    for refused in (
        lambda: criticism_run_create(
            annotation_run=annotation_run, user=annotation_run.created_by, choice=TRAINED
        ),
        lambda: criticism_estimate(annotation_run=annotation_run, choice=TRAINED),
    ):
        with pytest.raises(Refusal, match="no classifier can be trained on them"):
            refused()


@pytest.mark.parametrize("task_type", ["rated_answer", "written_facts"])
def test_an_estimate_counts_the_answer_too(task_type):
    short, long = answered(task_type, ["It rained."]), answered(task_type, ["It rained. " * 200])
    tokens = [
        criticism_estimate(annotation_run=run, choice=choose(run)).input_tokens for run in (short, long)
    ]

    assert tokens[1] > tokens[0] + 300
