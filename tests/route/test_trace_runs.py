"""Runs in which a router reads along: who is escalated, what is kept, and that the budget holds whatever happens."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Annotation, Connection, ModelPrice, Project
from annotate.services.runs import annotation_run_retry
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk
from jobs.services import job_cancel, job_pause, job_resume
from mllm.errors import CallError, Failure
from mllm.messages import Request
from review.models import ReviewRound, ReviewTask
from route import trace_running
from route.models import Router, RouterQuery, TracedRun
from route.services.traced_runs import (
    ordered_items,
    traced_figures,
    traced_run_create,
    traced_run_preview,
)
from tests.conftest import Provider
from tests.route.traced import (
    ANNOTATOR,
    LEFT,
    METAL,
    READER,
    answer,
    item_text,
    make_traced_project,
    run_out,
    train_traced,
)

pytestmark = pytest.mark.django_db

METALS = LEFT // 4


@pytest.fixture
def project() -> Project:
    return make_traced_project()


@pytest.fixture
def router(project: Project, provider: Provider) -> Router:
    provider(answer)
    return train_traced(project)


def start(
    router: Router, *, limit: float = 0.3, in_flight: int = 4, spend_limit: Decimal | None = None
) -> TracedRun:
    Connection.objects.update(in_flight=in_flight)
    return traced_run_create(
        router=router, user=router.project.created_by, limit=limit, spend_limit=spend_limit
    )


def finish(traced: TracedRun) -> TracedRun:
    run_out(traced.run.job_id)
    traced.refresh_from_db()
    traced.run.job.refresh_from_db()
    return traced


def escalated(traced: TracedRun) -> list[Annotation]:
    rows = traced.run.annotations.filter(failure=Annotation.TO_PERSON).select_related("item")
    return list(rows.order_by("pk"))


@pytest.mark.parametrize("in_flight", [1, 16, 64])
def test_doubtful_items_go_to_people_and_the_others_are_labelled(
    router: Router, provider: Provider, in_flight: int
) -> None:
    models = provider(answer, latency=0.01)

    traced = finish(start(router, in_flight=in_flight))

    assert traced.run.job.state == Job.State.DONE, traced.run.job.reason
    assert traced.run.annotations.count() == LEFT
    assert {METAL in row.item.text for row in escalated(traced)} == {True}
    assert len(escalated(traced)) == METALS == traced.taken
    others = traced.run.annotations.filter(failure="")
    assert set(others.values_list("label__name", flat=True)) == {"positive"}
    assert all(len(steps or ()) == 3 for steps in others.values_list("steps", flat=True))
    assert models.cancelled >= METALS
    assert traced.run.job.failed == 0
    assert traced.run.job.done == LEFT


@pytest.mark.parametrize("in_flight", [1, 16, 64])
def test_never_more_go_to_people_than_the_budget_has(
    router: Router, provider: Provider, in_flight: int
) -> None:
    traced = start(router, limit=0.3, in_flight=in_flight)
    # A router that says to escalate all of them, after their first step.
    provider(lambda asked: "[ESCALATE][high]" if asked.model == READER else answer(asked), latency=0.01)

    finish(traced)

    assert traced.budget == int(0.3 * LEFT)
    assert len(escalated(traced)) == traced.taken == traced.budget
    assert traced.run.annotations.filter(failure="").count() == LEFT - traced.budget
    round = ReviewRound.objects.get(routed_run=traced.run)
    assert round.counted_tasks.count() == traced.budget
    if in_flight == 1:
        assert {row.item_id for row in escalated(traced)} == set(ordered_items(router)[: traced.budget])


def test_an_escalated_item_has_its_steps_and_waits_for_people(router: Router, provider: Provider) -> None:
    provider(answer)

    traced = finish(start(router))

    row = escalated(traced)[0]
    assert row.steps == ["I read it.", "I doubt what it says."]
    assert row.stopped_at == 2
    assert "estimate" in row.message
    assert row.raw_text.startswith("Step 1: I read it.")
    assert "bad" not in row.raw_text
    assert row.output_tokens > 0
    round = ReviewRound.objects.get(routed_run=traced.run)
    assert set(round.counted_tasks.values_list("item_id", flat=True)) == {
        each.item_id for each in escalated(traced)
    }
    assert round.draw_blocks.count() == 1
    said = RouterQuery.objects.filter(traced_run=traced, item=row.item).order_by("step")
    assert list(said.values_list("step", "escalates")) == [(1, False), (2, True)]


def test_items_are_read_by_falling_doubt(router: Router, provider: Provider) -> None:
    models = provider(answer)
    before = len(models.requests)

    traced = finish(start(router, in_flight=1))

    asked = [item_text(each) for each in models.requests[before:] if each.model == ANNOTATOR]
    texts = dict(router.project.items.values_list("pk", "text"))
    assert [next(pk for pk, text in texts.items() if f"{text}\n" in each) for each in asked] == ordered_items(
        router
    )
    assert traced.run.annotations.count() == LEFT


def test_a_killed_worker_loses_no_slot_and_asks_only_what_was_in_flight(
    router: Router, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = start(router, in_flight=16)
    asked: Counter[str] = Counter()

    def eager(request: Request) -> str:
        if request.model == READER:
            return "[ESCALATE][high]"
        asked[item_text(request)] += 1
        return answer(request)

    provider(eager, latency=0.01)
    write = trace_running._Chunk._write

    def killed(chunk: trace_running._Chunk) -> None:
        if chunk._run.annotations.count() >= 3:
            raise KeyboardInterrupt
        write(chunk)

    monkeypatch.setattr(trace_running._Chunk, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        run_next_chunk(traced.run.job_id)
    written = set(traced.run.annotations.values_list("item__text", flat=True))
    # A process that is killed gives nothing back.
    TracedRun.objects.filter(pk=traced.pk).update(taken=traced.budget)
    Chunk.objects.filter(job=traced.run.job).update(lease_until=timezone.now() - timedelta(seconds=1))
    monkeypatch.setattr(trace_running._Chunk, "_write", write)

    finish(traced)

    assert traced.run.job.state == Job.State.DONE, traced.run.job.reason
    assert len(escalated(traced)) == traced.taken == traced.budget
    assert traced.run.annotations.count() == LEFT
    again = {text for text, times in asked.items() if times > 1}
    assert not any(f"{text}\n" in each for text in written for each in again)
    assert len(again) <= 16 + 16


def test_a_run_is_paused_resumed_and_cancelled_as_others_are(router: Router, provider: Provider) -> None:
    provider(answer)
    traced = start(router)
    job_pause(traced.run.job)
    assert not run_next_chunk(traced.run.job_id)
    assert not traced.run.annotations.exists()
    job_resume(traced.run.job)

    finish(traced)

    assert traced.run.job.state == Job.State.DONE
    other = start(router)
    job_cancel(other.run.job)
    assert not run_next_chunk(other.run.job_id)


def test_a_run_pauses_at_its_spend_limit(router: Router, provider: Provider) -> None:
    for model in (ANNOTATOR, READER):
        ModelPrice.objects.create(
            provider="openai",
            model=model,
            input=Decimal(100),
            output=Decimal(100),
            updated_by=router.project.created_by,
        )
    RouterQuery.objects.filter(router=router).update(cost=Decimal("0.001"))
    provider(answer)

    traced = finish(start(router, in_flight=1, spend_limit=Decimal("0.6")))

    assert traced.run.job.state == Job.State.PAUSED
    assert traced.run.job.failure == "spend_limit"
    assert 0 < traced.run.job.cost <= Decimal("0.6")
    rows = [row.cost or Decimal(0) for row in traced.run.annotations.all()]
    asked = [query.cost or Decimal(0) for query in RouterQuery.objects.filter(traced_run=traced)]
    assert traced.run.job.cost == sum(rows) + sum(asked)


@pytest.mark.parametrize("model", [ANNOTATOR, READER])
def test_a_wrong_key_pauses_whosever_it_is(router: Router, provider: Provider, model: str) -> None:
    refusal = CallError(Failure.AUTHENTICATION, "The key is wrong.")
    provider(lambda asked: refusal if asked.model == model else answer(asked))

    traced = finish(start(router, in_flight=1))

    assert traced.run.job.state == Job.State.PAUSED
    assert traced.run.job.reason == "The key is wrong."
    assert traced.run.annotations.count() <= 1


@pytest.mark.parametrize("model", [ANNOTATOR, READER])
def test_an_outage_pauses_whosever_it_is(router: Router, provider: Provider, model: str) -> None:
    gone = CallError(Failure.UNREACHABLE, "No connection.")
    provider(lambda asked: gone if asked.model == model else answer(asked))

    traced = finish(start(router, in_flight=1))

    assert traced.run.job.state == Job.State.PAUSED
    assert "No connection." in traced.run.job.reason
    assert not escalated(traced)


def test_a_stream_that_dies_half_way_is_kept_and_can_be_retried(router: Router, provider: Provider) -> None:
    broken = {"left": 2}

    def breaks(request: Request) -> str | CallError:
        if request.model == ANNOTATOR and broken["left"]:
            broken["left"] -= 1
            return CallError(Failure.REFUSED, "It declined.", raw="No.", output_tokens=3)
        return answer(request)

    provider(breaks)
    traced = finish(start(router))
    assert traced.run.job.state == Job.State.DONE
    assert traced.run.job.failed == 2

    annotation_run_retry(run=traced.run)
    finish(traced)

    assert traced.run.job.failed == 0
    assert traced.run.annotations.count() == LEFT
    assert len(escalated(traced)) == METALS == traced.taken
    assert ReviewTask.counted.filter(round__routed_run=traced.run).count() == METALS


def test_an_empty_trace_is_never_escalated(router: Router, provider: Provider) -> None:
    traced = start(router)
    provider(lambda asked: "[ESCALATE][high]" if asked.model == READER else "")

    finish(traced)

    assert traced.run.annotations.filter(failure=Failure.UNPARSEABLE).count() == LEFT
    assert traced.taken == 0


def test_the_figures_say_what_was_saved(router: Router, provider: Provider) -> None:
    provider(answer)

    traced = finish(start(router))
    figures = traced_figures(traced)

    assert (figures.done, figures.escalated, figures.budget) == (LEFT, METALS, traced.budget)
    assert figures.tokens < (figures.full_tokens or 0)
    assert figures.router_tokens > 0
    assert figures.n_estimated == METALS


def test_the_preview_says_what_it_would_take(router: Router) -> None:
    preview = traced_run_preview(router=router, limit=0.3)

    assert (preview.items, preview.budget) == (LEFT, int(0.3 * LEFT))
    assert preview.cost is None


@pytest.mark.parametrize(
    ("limit", "said"), [(0.0, "No setting"), (1.5, "between 0 and 1"), (-1.0, "between")]
)
def test_a_limit_that_cannot_be_kept_is_refused(router: Router, limit: float, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        start(router, limit=limit)

    assert not TracedRun.objects.exists()
