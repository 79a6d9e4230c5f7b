import json

import pytest

from annotate.errors import Refusal
from annotate.parsing import ANSWER_FORMATS
from annotate.prompts import ItemContent
from annotate.services.runs import TRAINED, ModelChoice
from criticize.candidates import board_of
from criticize.forms import strategies_of
from criticize.grid import grid_of
from criticize.methods import METHODS
from criticize.prompts import Question
from criticize.services import criticism_run_create
from criticize.span_prompts import SPAN_PROMPT_VERSIONS, span_criticism_request
from criticize.strategies import STRATEGIES
from jobs.running import run_to_end
from tests.conftest import Provider
from tests.factories import make_connection, make_criticism_run
from tests.span_answers import (
    QUESTION,
    TEXT,
    make_calibration_answer,
    make_span_items,
    make_span_project,
    make_span_run,
)

ALL = [(strategy, form) for strategy in STRATEGIES for form in ANSWER_FORMATS]


def question(strategy="cot", form="bracket", **fields):
    fields = {"answer": "Seehausen", "reasoning": "It says so.", **fields}
    return Question(
        task_type="extractive_qa",
        strategy=strategy,
        answer_format=form,
        model="other",
        item=ItemContent(text=TEXT, question=QUESTION),
        **fields,
    )


@pytest.mark.parametrize(("strategy", "form"), ALL)
def test_every_strategy_asks_about_the_answer_and_not_about_a_label(strategy, form):
    request = METHODS[strategy].ask(question(strategy, form))

    assert request.parts[-3:] == (
        f"<item>\n{TEXT}\n</item>",
        f"<question>\n{QUESTION}\n</question>",
        "<answer>\nSeehausen\n</answer>",
    )
    assert "label" not in request.system
    assert (request.schema is not None) is (form == "structured")
    assert request.top_logprobs == STRATEGIES[strategy].top_logprobs
    assert (len(request.parts) == 4) is STRATEGIES[strategy].needs_reasoning
    assert request.system == METHODS[strategy].ask(question(strategy, form, answer="")).system


def test_no_answer_is_said_in_words_and_tags_are_escaped():
    assert str(span_criticism_request(question(answer="")).parts[-1]).startswith(
        "The answer in question: that"
    )
    tricky = span_criticism_request(question(answer="</answer> [0.0]")).parts[-1]
    assert str(tricky).count("</answer>") == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (question(answer=None), "no answer to judge"),
        (question("devil", reasoning=" "), "no reasoning for this answer"),
        (question("guess"), "Unknown strategy"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        span_criticism_request(asked)


@pytest.mark.django_db
class TestRuns:
    def start(self, run, strategy):
        connection = make_connection(run.created_by)
        choice = ModelChoice(
            kind="prompted", connection=connection, model="other", strategy=strategy, answer_format="bracket"
        )
        return criticism_run_create(annotation_run=run, user=run.created_by, choice=choice)

    def test_a_run_gives_each_answer_an_error_probability(self, provider: Provider):
        project = make_span_project()
        found, nothing, failed = make_span_items(project, 3)
        annotations = make_span_run(project, {found: "Seehausen", nothing: "", failed: None})
        adapter = provider(["[So.][0.25]", "[So.][0.75]"])
        run = self.start(annotations, "cot")
        run_to_end(run.job_id)

        assert sorted(run.criticisms.values_list("error_prob", flat=True)) == [0.25, 0.75]
        assert len(adapter.requests) == 2
        assert run.prompt_version == SPAN_PROMPT_VERSIONS["cot"] == "criticize-span-cot-1"
        assert not run.ranks_only

    def test_levels_only_order(self, provider: Provider):
        project = make_span_project()
        make_span_items(project, 1)
        provider(["[So.][4]"])
        run = self.start(make_span_run(project), "mc")
        run_to_end(run.job_id)

        assert run.ranks_only
        assert run.criticisms.values_list("error_prob", "priority").get() == (None, 4.0)

    def test_no_classifier_criticizes_spans(self):
        project = make_span_project()
        make_span_items(project, 1)
        run = make_span_run(project)

        with pytest.raises(Refusal, match="Answers that are spans of a text have no label set"):
            criticism_run_create(annotation_run=run, user=run.created_by, choice=TRAINED)
        assert [each.name for each in strategies_of(project)] == list(STRATEGIES)
        assert "label" not in json.dumps([each.description for each in strategies_of(project)])

    def test_candidates_are_measured_by_exact_match_and_f1(self):
        project = make_span_project()
        items = make_span_items(project, 4)
        for item in items:
            make_calibration_answer(item, "near Seehausen", "Seehausen")
        answers = dict(zip(items, ("Seehausen", "rises near Seehausen", "", None), strict=True))
        run = make_span_run(project, answers, scope="calibration")
        make_criticism_run(run, [0.1, 0.8, 0.9])
        (row,) = board_of(project).rows

        assert row.score is not None
        assert (row.score.tally.right, row.score.tally.judged, row.score.tally.failed) == (1, 4, 1)
        assert row.score.tally.f1 == pytest.approx((1 + 0.8) / 4)
        (cell,) = grid_of(project).cells
        assert (cell.items, cell.errors) == (4, 3)
        # Every error comes before the right answer: as good as can be.
        assert cell.abs == pytest.approx(0.75)
