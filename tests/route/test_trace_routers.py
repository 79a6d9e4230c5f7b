"""Training a router that reads along: what it asks, what it chooses, and what it says where nothing can be chosen."""

import errno
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import FileSystemStorage
from pytest_django.fixtures import Settings

from annotate.errors import Refusal
from annotate.models import Annotation, ModelPrice, Project
from jobs.models import Job
from jobs.running import run_next_chunk
from mllm.errors import CallError, Failure
from mllm.messages import Request
from route.models import Router, RouterQuery, parts_of_prefix, prefix_of
from route.services.trace_routers import TraceChoice, trace_create, trace_estimate, trace_router_act
from route.trace_baselines import BASELINES
from route.trace_data import DEMO, DEV, RISK, KnownTraces, known_traces
from route.trace_queries import UNREAD
from route.trace_training import Setting, setting_for
from route.training import kept_scores
from tests.conftest import Provider
from tests.route.traced import (
    KNOWN,
    LEFT,
    METAL,
    READER,
    answer,
    make_candidate,
    make_traced_project,
    run_out,
    trace_choice,
    train_traced,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_traced_project()


def test_a_prefix_is_one_number() -> None:
    for parts in ((1, 0, 1), (7, 255, 65_535), (2**40, 3, 12)):
        assert parts_of_prefix(prefix_of(*parts)) == parts


def test_training_asks_each_prefix_once_a_variant(project: Project, provider: Provider) -> None:
    reader = provider(answer)

    router = train_traced(project)

    assert router.job.state == Job.State.DONE, router.job.reason
    known = known_traces(router)
    dev, _ = known.of(DEV)
    texts = dict(project.items.values_list("pk", "text"))
    prefixes = 2 * sum(5 if METAL in texts[pk] else 4 for pk in dev)  # with the one that has no step
    assert len(reader.requests) == RouterQuery.objects.filter(router=router).count() == prefixes
    assert router.job.done == router.job.total == prefixes
    assert {*known.use.tolist()} == {RISK, DEMO, DEV}
    assert sum("<example>" in str(request.parts) for request in reader.requests) == prefixes // 2


def test_no_demonstration_is_an_item_that_is_asked_about(project: Project, provider: Provider) -> None:
    reader = provider(answer)

    router = train_traced(project)

    dev, _ = known_traces(router).of(DEV)
    shown = project.items.filter(pk__in=dev).values_list("text", flat=True)
    for request in reader.requests:
        whole = "\n".join(part for part in request.parts if isinstance(part, str))
        assert sum(f"{text}\n" in whole for text in shown) == 1


def test_the_setting_is_chosen_within_the_limit(project: Project, provider: Provider) -> None:
    provider(answer)

    router = train_traced(project)

    metrics = router.metrics
    assert router.is_trained
    chosen = metrics["settings"][metrics["chosen"]]
    assert chosen["missed_errors"] == 0
    assert 0 < chosen["escalation_rate"] <= 0.3
    assert setting_for(router, 0.3) == Setting(chosen["variant"], chosen["interval"])
    assert setting_for(router, 0.0) is None
    rows = {row["name"]: row for row in metrics["table"]}
    assert rows["Trace-aware router"]["accuracy"] == 1
    assert rows["Trace-aware router"]["judge_tokens_saved"] > 0
    assert rows["AI only"]["accuracy"] < 1
    assert {"trace only", "one-shot on the full trace", "MLP", "random", "model-stated risk"} < rows.keys()
    assert [row["name"] for row in metrics["table"]] == ["Trace-aware router", *BASELINES]
    assert rows["no trace"]["recall"] == 0  # the reader doubts nothing that it has not read
    assert rows["no trace"]["router_tokens"] > 0
    assert "nearest demonstrations" in rows["similarity rule"]["note"]
    assert rows["AI only"]["judge_tokens_saved"] == 0
    assert rows["MLP"]["judge_tokens_saved"] == pytest.approx(rows["MLP"]["seconds_saved"], abs=0.1)
    assert rows["one-shot on the full trace"]["judge_tokens_saved"] == 0
    assert metrics["features"]["text_image_similarity"] is None
    assert len(metrics["features"]["facts"]) == 7
    ids, scores = kept_scores(router)
    assert len(ids) == LEFT
    assert scores.shape == (LEFT, 1)


def test_a_router_that_keeps_to_no_limit_says_so(project: Project, provider: Provider) -> None:
    provider(lambda request: "[ESCALATE][high]")

    router = train_traced(project)

    assert router.is_trained
    assert router.metrics["chosen"] is None
    assert setting_for(router, 0.3) is None
    assert next(row["name"] for row in router.metrics["table"]) == "AI only"


def test_a_model_that_cannot_be_read_trains_nothing(project: Project, provider: Provider) -> None:
    provider(lambda request: "I would rather not say.")

    # So few questions that it is not looked in between.
    router = train_traced(project, demonstrations=(0,), no_trace=False)

    assert router.job.state == Job.State.FAILED
    assert "no readable answer" in router.job.reason
    assert not router.is_trained


def test_a_model_that_cannot_be_read_is_not_asked_to_the_end(
    project: Project, provider: Provider, settings: Settings
) -> None:
    settings.WRITE_BATCH = 5  # so that answers are there when it is looked
    reader = provider(lambda request: "I would rather not say.")

    router = train_traced(project, demonstrations=(0, 2, 4))

    assert router.job.state == Job.State.PAUSED
    assert router.job.reason.startswith("None of ")
    assert "could be read as a decision. Cancel, and choose another model" in router.job.reason
    assert UNREAD <= len(reader.requests) < router.job.total
    assert router.queries.count() == len(reader.requests)


@pytest.mark.parametrize(("label", "said"), [(1, "is right on all 48"), (0, "is wrong on all 48")])
def test_an_annotator_that_never_or_always_errs_is_refused_before_it_costs(
    project: Project, provider: Provider, label: int, said: str
) -> None:
    reader = provider(answer)
    run = make_candidate(project)
    run.annotations.update(label=project.labels.order_by("position")[label])

    for start in (trace_create, trace_estimate):
        for split in ("random", "topics"):
            with pytest.raises(Refusal, match=said) as refused:
                start(project=project, user=project.created_by, choice=trace_choice(run, split=split))
            assert refused.value.field == "run"

    assert not reader.requests
    assert not Router.objects.exists()


def test_development_items_that_tell_no_setting_apart_are_refused(project: Project) -> None:
    run = make_candidate(project)
    wrong = run.annotations.filter(label__position=0)
    one = wrong.order_by("pk")[:1].values_list("pk", flat=True)
    wrong.exclude(pk__in=list(one)).update(label=project.labels.order_by("position")[1])

    with pytest.raises(Refusal, match="wrong on 1 of 48 known items, and on none of the 12 on which"):
        trace_estimate(project=project, user=project.created_by, choice=trace_choice(run))


def test_a_share_below_one_development_item_is_refused(project: Project) -> None:
    choice = trace_choice(make_candidate(project), limit=0.05)

    with pytest.raises(Refusal, match="on 12 known items, and 5% of them is less than one") as refused:
        trace_estimate(project=project, user=project.created_by, choice=choice)
    assert refused.value.field == "limit"


def test_topics_that_hold_no_error_are_refused_before_anything_is_asked(
    project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = provider(answer)
    # What is held out is fruit, about which the annotator does not err.
    monkeypatch.setattr(KnownTraces, "split_by_topic", _without_errors)

    router = train_traced(project, split="topics")

    assert router.job.state == Job.State.FAILED
    assert "on none of the" in router.job.reason
    assert not reader.requests


def _without_errors(known: KnownTraces, vectors: object, seed: int) -> KnownTraces:
    return replace(known, use=np.where(known.is_error, RISK, DEV).astype(np.int64))


def test_an_outage_pauses_and_what_was_answered_is_not_asked_again(
    project: Project, provider: Provider
) -> None:
    calls = {"made": 0}

    def breaks(request: Request) -> str | CallError:
        calls["made"] += 1
        if calls["made"] > 20:
            return CallError(Failure.UNREACHABLE, "No connection.")
        return answer(request)

    provider(breaks)
    router = train_traced(project)
    assert router.job.state == Job.State.PAUSED
    before = set(RouterQuery.objects.filter(router=router).values_list("pk", flat=True))

    again = provider(answer)
    trace_router_act(router=router, user=project.created_by, action="resume")
    run_out(router.job_id)
    router.refresh_from_db()

    assert router.is_trained
    assert len(before) == 20
    assert len(again.requests) == router.job.total - 20


def test_training_again_gives_the_same_router(project: Project, provider: Provider) -> None:
    provider(answer)

    first, again = train_traced(project), train_traced(project)

    assert first.data_digest == again.data_digest
    assert first.metrics == again.metrics


def test_the_estimate_counts_the_calls_before_any_is_made(project: Project, provider: Provider) -> None:
    reader = provider(answer)
    choice = trace_choice(make_candidate(project))
    ModelPrice.objects.create(
        provider="openai", model=READER, input=Decimal(1), output=Decimal(2), updated_by=project.created_by
    )

    estimate = trace_estimate(project=project, user=project.created_by, choice=choice)
    router = trace_create(
        project=project, user=project.created_by, choice=choice, spend_limit=Decimal("0.0001")
    )
    run_next_chunk(router.job_id)

    router.job.refresh_from_db()
    assert not reader.requests
    assert estimate.calls == router.job.total
    assert estimate.cost is not None
    assert estimate.cost > 0
    assert router.job.failure == "spend_limit"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limit": 0.0}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"strictness": ()}, "strictness"),
        ({"intervals": (3,)}, "intervals"),
        ({"demonstrations": (99,)}, "demonstrations"),
        ({"styles": ("random",)}, "styles"),
        ({"model": " "}, "model"),
        ({"split": "by name"}, "split"),
        ({"connection": None}, "connection"),
    ],
)
def test_what_cannot_be_trained_is_refused(project: Project, change: dict[str, object], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        trace_create(
            project=project,
            user=project.created_by,
            choice=trace_choice(make_candidate(project), **change),
        )

    assert refused.value.field == field
    assert not Router.objects.exists()


def test_an_annotator_without_steps_is_refused(project: Project) -> None:
    run = make_candidate(project)
    Annotation.objects.filter(run=run).update(raw_text="")

    with pytest.raises(Refusal, match="no steps"):
        trace_create(project=project, user=project.created_by, choice=trace_choice(run))
    run.strategy = "cot"
    with pytest.raises(Refusal, match="does not number"):
        trace_create(project=project, user=project.created_by, choice=trace_choice(run))


def test_too_little_that_is_known_is_refused(project: Project) -> None:
    run = make_candidate(project)
    kept = project.calibration_labels.order_by("pk").values_list("pk", flat=True)[: KNOWN // 4]
    project.calibration_labels.exclude(pk__in=list(kept)).delete()

    with pytest.raises(Refusal, match="at least 20"):
        trace_create(project=project, user=project.created_by, choice=trace_choice(run))


def test_demonstrations_are_tried_with_every_retrieval_once() -> None:
    choice = TraceChoice(None, None, "", styles=("nearest", "balanced"))  # type: ignore[arg-type]

    assert len(choice.variants()) == 3 * (1 + 2)


def test_without_the_tick_nothing_is_asked_of_items_without_steps(
    project: Project, provider: Provider
) -> None:
    provider(answer)

    router = train_traced(project, no_trace=False)

    assert not RouterQuery.objects.filter(router=router, step=0).exists()
    rows = {row["name"]: row for row in router.metrics["table"]}
    assert "Not asked" in rows["no trace"]["why"]
    assert "recall" not in rows["no trace"]


def test_the_estimate_prices_what_is_asked_without_steps(project: Project) -> None:
    run = make_candidate(project)
    ModelPrice.objects.create(
        provider="openai", model=READER, input=Decimal(1), output=Decimal(2), updated_by=project.created_by
    )

    asked, not_asked = (
        trace_estimate(project=project, user=project.created_by, choice=trace_choice(run, no_trace=no_trace))
        for no_trace in (True, False)
    )

    assert asked.no_trace_calls == not_asked.no_trace_calls == asked.calls - not_asked.calls == 2 * 12
    assert asked.cost is not None
    assert not_asked.cost is not None
    assert asked.cost > not_asked.cost
    assert (asked.no_trace_cost or 0) > 0


def test_held_out_topics_are_what_the_setting_is_chosen_on(project: Project, provider: Provider) -> None:
    provider(answer)

    router = train_traced(project, split="topics", limit=1.0)

    assert router.job.state == Job.State.DONE, router.job.reason
    known = known_traces(router)
    assert {*known.use.tolist()} == {RISK, DEMO, DEV}
    dev, _ = known.of(DEV)
    texts = dict(project.items.values_list("pk", "text"))
    prefixes = 2 * sum(5 if METAL in texts[pk] else 4 for pk in dev)
    assert (
        router.job.done == router.job.total == RouterQuery.objects.filter(router=router).count() == prefixes
    )
    shift = router.metrics["shift"]
    assert shift["split"] == "topics"
    assert shift["measures"]["topic_overlap"] == 0 < shift["at_random"]["topic_overlap"]
    assert shift["measures"]["word_divergence"] > shift["at_random"]["word_divergence"]
    assert shift["measures"]["nearest_distance"] > shift["at_random"]["nearest_distance"]
    again = train_traced(project, split="topics", limit=1.0)
    assert (again.data_digest, again.metrics) == (router.data_digest, router.metrics)


def test_topics_need_more_known_items(project: Project) -> None:
    run = make_candidate(project)
    gone = project.calibration_labels.values_list("pk", flat=True)[:10]
    project.calibration_labels.filter(pk__in=list(gone)).delete()

    with pytest.raises(Refusal, match="38 known items are too few to hold topics out") as refused:
        trace_create(project=project, user=project.created_by, choice=trace_choice(run, split="topics"))

    assert refused.value.field == "split"


def test_items_that_are_all_alike_have_no_topics(project: Project, provider: Provider) -> None:
    provider(answer)
    run = make_candidate(project)
    known = set(project.calibration_labels.values_list("item_id", flat=True))
    project.items.filter(pk__in=known).update(text="the very same words")

    router = trace_create(project=project, user=project.created_by, choice=trace_choice(run, split="topics"))
    run_out(router.job_id)

    router.job.refresh_from_db()
    assert router.job.state == Job.State.FAILED
    assert "no topics" in router.job.reason
    assert not RouterQuery.objects.exists()


@pytest.mark.parametrize(("split", "full_at"), [("random", 1), ("topics", 1)])
def test_a_full_disk_pauses_the_training_and_nothing_is_asked_again(
    project: Project,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    tmp_path: Path,
    split: str,
    full_at: int,
) -> None:
    """The second file is the router, or which items are for what once topics are held out."""
    settings.MEDIA_ROOT = str(tmp_path)
    reader = provider(answer)
    write = FileSystemStorage._save  # type: ignore[attr-defined]
    written: list[str] = []

    def no_room(storage: FileSystemStorage, name: str, content: Any) -> str:
        written.append(name)
        if len(written) == full_at + 1:
            (tmp_path / name).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return str(write(storage, name, content))

    with monkeypatch.context() as full:
        full.setattr(FileSystemStorage, "_save", no_room)
        router = train_traced(project, split=split, limit=1.0)
    assert (router.job.state, router.job.failure, router.is_trained) == ("paused", "disk_full", False)
    assert "Free some space there" in router.job.reason
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        router.scores.name
    ]

    trace_router_act(router=router, user=project.created_by, action="resume")
    run_out(router.job_id)

    router.refresh_from_db()
    assert router.is_trained
    assert RouterQuery.objects.filter(router=router).count() == len(reader.requests)
