import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotate.models import AnnotationRun, Item, Project
from annotate.selectors import machine_accuracy
from criticize.models import CriticismRun
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from review.models import ReviewRound, ReviewTask
from review.selectors import final_accuracy
from tests.conftest import Provider
from tests.criticize.replies import reply_of, said
from tests.factories import make_connection, make_user

pytestmark = pytest.mark.django_db(transaction=True)

# What scripts rely on.
KEYS = [
    *("machine_accuracy", "final_accuracy", "machine_f1", "final_f1", "aqg", "abs"),
    *("errors", "errors_found", "reviews", "budget"),
    *("items", "calls", "input_tokens", "output_tokens", "cost", "seconds"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """60 texts, every fourth of which says the opposite of its gold label."""
    path = tmp_path / "days.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "mood"])
        for number in range(60):
            mood = ("good", "bad")[number % 2]
            said = mood if number % 4 else {"good": "bad", "bad": "good"}[mood]
            writer.writerow([f"day-{number}", f"A {said} day, the {number}th of the year", mood])
    return path


def pipeline(data: Path, **options: Any) -> list[str]:
    """The lines that the command prints."""
    output = StringIO()
    call_command(
        "pipeline",
        **{
            "data": data,
            "task": "text_classification",
            "gold": "mood",
            "calibration": 20,
            "budget": "0.25",
            "user": make_user("olga").username,
            **options,
        },
        stdout=output,
        stderr=StringIO(),
    )
    return output.getvalue().splitlines()


def test_the_trained_pair_is_measured_outside_the_calibration_sample(data: Path, tmp_path: Path) -> None:
    lines = pipeline(data, json=True, out=tmp_path / "results")

    result = json.loads(lines[-1])
    round = ReviewRound.objects.get()
    right, judged = machine_accuracy(round.criticism_run.annotation_run)  # type: ignore[union-attr]
    assert list(result) == KEYS
    assert (result["items"], result["budget"], result["reviews"]) == (40, 10, 10)
    assert result["machine_accuracy"] == right / judged
    assert result["final_accuracy"] == (right + result["errors_found"]) / 40
    assert final_accuracy(round) == (right + result["errors_found"], 40)
    assert result["errors"] == 40 - right
    assert result["aqg"] == pytest.approx(result["errors_found"] / result["errors"])
    assert result["calls"] == result["cost"] == 0
    names = {f"{layout}.{kind}" for layout in ("wide", "long") for kind in ("csv", "jsonl", "parquet")}
    assert {path.name for path in (tmp_path / "results").iterdir()} == names | {
        "metrics.json",
        "README.md",
        "data_card.json",
    }
    card = json.loads((tmp_path / "results" / "data_card.json").read_text("utf-8"))
    assert (card["reviews"]["answered"], card["export"]["rows"], card["certificate"]) == (10, 60, None)
    readme = (tmp_path / "results" / "README.md").read_text("utf-8")
    assert 'path: "wide.parquet"' in readme
    assert 'path: "long.parquet"' in readme


def test_the_exports_weigh_every_item_once(data: Path, tmp_path: Path) -> None:
    pipeline(data, out=tmp_path)

    with (tmp_path / "wide.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    moods = dict(Item.objects.values_list("external_id", "gold__name"))
    assert len(rows) == 60
    for row in rows:
        assert float(row["machine_weight"]) + float(row["human_weight"]) == 1
        if row["label_source"] == "human":
            assert row["final_label"] == moods[row["external_id"]]


def test_a_model_is_asked_and_the_gold_column_is_never_shown_to_it(data: Path, provider: Provider) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "[It says so.][0]"

    provider(answer)
    lines = pipeline(
        data, annotator="openai@http://127.0.0.1:9/v1/small:cot", criticizer="trained", json=True
    )

    assert json.loads(lines[-1])["calls"] == len(asked) == 40
    assert not any("mood" in str(request) for request in asked)


def test_without_gold_the_reviews_wait(data: Path, provider: Provider) -> None:
    provider(lambda request: "[It says so.][0]")
    user = make_user("nora")
    make_connection(user, name="mine", base_url="http://127.0.0.1:9/v1")

    lines = pipeline(
        data,
        gold=None,
        labels="good,bad",
        annotator="mine/small",
        criticizer="mine/small",
        budget="5",
        user="nora",
    )

    assert lines[-1].startswith("5 reviews wait in the browser")
    assert set(ReviewTask.objects.values_list("state", flat=True)) == {ReviewTask.State.WAITING}


@pytest.mark.parametrize("budget", ["many", "0", "-3", "0.0", "1.5", "nan.", "1e-1", ""])
def test_a_budget_that_is_none_is_refused_before_anything_is_paid_for(data: Path, budget: str) -> None:
    with pytest.raises(CommandError, match="a share of the items, such as"):
        pipeline(data, budget=budget)

    assert not Project.objects.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"budget": "100000"}, "The budget of 100000 reviews is more than the"),
        ({"budget": "0.000001"}, "is less than one review"),
        (
            {"rule": "normalize", "criticizer": "openai@http://127.0.0.1:9/v1/x:mc"},
            "mc only ranks items: use the rule threshold",
        ),
    ],
)
def test_what_could_not_be_drawn_is_refused_before_anything_is_paid_for(
    data: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        pipeline(data, **options)

    assert not AnnotationRun.objects.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gold": "temper"}, "The file has no column “temper” for the gold label"),
        ({"annotator": "nobody/small"}, "no connection named “nobody”"),
        ({"annotator": "oracle@http://127.0.0.1:9/v1/x"}, "There is no provider named “oracle”"),
        ({"labels": "good,good"}, "is listed twice"),
        ({"gold": None}, "give --gold"),
    ],
)
def test_bad_options_are_answered_with_a_sentence(data: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        pipeline(data, **options)


def test_a_wrong_key_ends_it_with_what_the_provider_said(data: Path, provider: Provider) -> None:
    provider(lambda request: CallError(Failure.AUTHENTICATION, "The key was not accepted.", fatal=True))

    with pytest.raises(CommandError, match=r"The key was not accepted\."):
        pipeline(data, annotator="openai@http://127.0.0.1:9/v1/small")


@pytest.mark.parametrize(
    ("strategy", "value"),
    [*((name, "0.5") for name in ("naive", "cot", "devil")), ("mc", "4")]
    + [(name, "yes") for name in ("naive_logit", "cot_logit", "cot_ppl")],
)
def test_every_criticizer_strategy_can_be_named(
    strategy: str, value: str, data: Path, provider: Provider
) -> None:
    def answer(request: Request) -> Reply:
        if request.model == "small":
            return reply_of("[It sounds so.][0]")
        return said(strategy, "bracket", value)

    provider(answer)
    make_connection(make_user("rita"), name="lab", base_url="http://127.0.0.1:9/v1")

    pipeline(data, annotator="lab/small", criticizer=f"lab/llama3:8b:{strategy}", user="rita")

    run = CriticismRun.objects.get()
    assert (run.model, run.strategy, run.job.done, run.job.failed) == ("llama3:8b", strategy, 40, 0)
    assert run.annotation_run.strategy == "cot"


def test_a_strategy_of_criticizers_is_none_of_annotators(data: Path, provider: Provider) -> None:
    provider(lambda request: "[It sounds so.][0]")
    make_connection(make_user("rita"), name="lab", base_url="http://127.0.0.1:9/v1")

    pipeline(data, annotator="lab/small:mc", criticizer="lab/small", user="rita")

    assert AnnotationRun.objects.get().model == "small:mc"
