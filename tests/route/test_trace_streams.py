"""Traced runs over real HTTP: streams that die, a router that is slow, and what is paid for in the meantime."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from annotate.models import Annotation, Connection, ModelPrice, Project
from jobs import calling
from jobs.models import Job
from mllm import registry, retry
from mllm.registry import build
from route.models import Router, RouterQuery, TracedRun
from route.services.traced_runs import traced_figures, traced_run_create
from tests.conftest import Provider
from tests.mllm.wire import Wire, as_json, data, named
from tests.route.traced import (
    ANNOTATOR,
    FRUIT,
    LEFT,
    METAL,
    READER,
    answer,
    make_traced_project,
    run_out,
    trace_about,
    train_traced,
)

pytestmark = pytest.mark.django_db

METALS = LEFT // 4
TOLD = 7  # output tokens that the provider tells of a whole answer
# How a stream ends: given what it is about and how often that was asked, "" or a way to die.
Fate = Callable[[str, int], str]


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Router:
    """Trained from a script; from then on both models are asked over HTTP."""
    project: Project = make_traced_project()
    provider(answer)
    trained = train_traced(project)
    for model in (ANNOTATOR, READER):
        for name in ("openai", "anthropic"):
            ModelPrice.objects.create(
                provider=name,
                model=model,
                input=Decimal(10),
                output=Decimal(100),
                updated_by=project.created_by,
            )
    monkeypatch.setattr(registry, "build", build)
    monkeypatch.setattr(retry, "DEFAULT_POLICY", retry.RetryPolicy(attempts=3, first_wait=0.01))
    calling.loop_thread().adapters.clear()
    return trained


def wired(wire: Wire, dialect: str, fate: Fate, *, thinks: float = 0.0, cut: int = 11) -> Counter[str]:
    """Answers as both models do; how often each item was asked about. `thinks`: seconds of the router an answer."""
    asked: Counter[str] = Counter()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        said = json.dumps(body["messages"])
        if body["model"] == READER:
            await asyncio.sleep(thinks)
            steps = said[said.rindex("<step") :]
            verdict = "[ESCALATE][high]" if "I doubt" in steps else "[CONTINUE][low]"
            return await as_json(_whole(dialect, verdict))(request)
        kind = METAL if METAL in said else FRUIT
        item = f"{kind} {said[said.rindex('number ') :].split()[1]}"
        asked[item] += 1
        return await _streamed(request, dialect, trace_about(kind), fate(kind, asked[item]), cut)

    wire.answer(handle)
    base_url = f"{wire.url}/v1" if dialect == "openai" else wire.url
    Connection.objects.update(provider=dialect, base_url=base_url, timeout=30)
    return asked


def _whole(dialect: str, text: str) -> dict[str, Any]:
    if dialect == "openai":
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 4}}
    usage = {"input_tokens": 50, "output_tokens": 4}
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}


def _events(dialect: str, text: str, cut: int) -> tuple[str, list[str], str]:
    """The start, the pieces and the end of a stream."""
    pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
    if dialect == "openai":
        end = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        end += data({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": TOLD}})
        written = [data({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
        return "", written, end + "data: [DONE]\n\n"
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 50, "output_tokens": 1}}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": TOLD}}
    written = [
        named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
        for piece in pieces
    ]
    return named(start), written, named(stop) + named({"type": "message_stop"})


async def _streamed(
    request: web.Request, dialect: str, text: str, death: str, cut: int
) -> web.StreamResponse:
    start, pieces, end = _events(dialect, text, cut)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    whole = (start + "".join(pieces if not death else pieces[:3])).encode()
    for at in range(0, len(whole), 97):  # across the borders of events
        await response.write(whole[at : at + 97])
        await asyncio.sleep(0.001)
    if death == "reset":
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
    elif death == "malformed":
        await response.write(b"data: {what?\n\n")
    elif death == "silent":
        await asyncio.sleep(30)
    elif not death:
        await response.write(end.encode())
    return response


def traced(router: Router, **changes: Any) -> TracedRun:
    Connection.objects.update(in_flight=4)
    run = traced_run_create(router=router, user=router.project.created_by, limit=0.3, **changes)
    run_out(run.run.job_id)
    run.refresh_from_db()
    run.run.job.refresh_from_db()
    return run


def paid(run: TracedRun) -> Decimal:
    """By the rows: what was paid for the last answers, and for those before."""
    rows = list(run.run.annotations.all())
    before = [Decimal(each["cost"]) for row in rows for each in row.earlier]
    asked = [query.cost or Decimal(0) for query in RouterQuery.objects.filter(traced_run=run)]
    return sum([*[row.cost or Decimal(0) for row in rows], *before, *asked], Decimal(0))


@pytest.fixture(params=["openai", "anthropic"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("death", ["reset", "malformed", "early"])
def test_a_stream_that_dies_is_begun_anew_and_both_are_paid(
    wire: Wire, router: Router, dialect: str, death: str
) -> None:
    # Before the first step is complete: the router is asked about the second stream only.
    asked = wired(wire, dialect, lambda kind, time: death if time == 1 and kind == METAL else "", cut=5)

    run = traced(router)

    assert run.run.job.state == Job.State.DONE, run.run.job.reason
    assert {kind: {asked[item] for item in asked if kind in item} for kind in (METAL, FRUIT)} == {
        METAL: {2},
        FRUIT: {1},
    }
    rows = run.run.annotations.filter(item__text__contains=METAL)
    assert [row.failure for row in rows] == [Annotation.TO_PERSON] * METALS
    for row in rows:
        [before] = row.earlier
        assert row.attempts == 2
        assert before["failure"] == "server_error"
        assert before["raw_text"] == trace_about(METAL)[:15]
        assert (before["output_tokens"], "estimate" in before["message"]) == (4, True)
        assert Decimal(before["cost"]) > 0
    finished = run.run.annotations.filter(failure="")
    assert {(row.input_tokens, row.output_tokens, row.message) for row in finished} == {(50, TOLD, "")}
    assert run.run.job.cost == paid(run)
    assert traced_figures(run).n_estimated == METALS == run.taken


def test_what_the_router_said_about_a_stream_that_died_is_paid_too(wire: Wire, router: Router) -> None:
    wired(wire, "openai", lambda kind, time: "reset" if time == 1 and kind == METAL else "", cut=14)

    run = traced(router)

    # Three pieces of 14 letters hold one whole step.
    cost_of_one = Decimal(50 * 10 + 4 * 100) / 1_000_000
    assert run.run.job.cost == paid(run) + METALS * cost_of_one
    assert run.taken == METALS


def test_a_stream_that_always_dies_is_a_failure_with_its_tokens(wire: Wire, router: Router) -> None:
    asked = wired(wire, "openai", lambda kind, time: "reset" if kind == METAL else "", cut=5)

    run = traced(router)

    assert run.run.job.state == Job.State.DONE, run.run.job.reason
    rows = list(run.run.annotations.filter(item__text__contains=METAL))
    assert run.run.job.failed == len(rows) == METALS
    assert max(asked.values()) == 3
    for row in rows:
        assert (row.failure, row.attempts, len(row.earlier)) == ("server_error", 3, 2)
        assert (row.output_tokens, "estimate" in row.message) == (4, True)
        assert row.label is None
    assert run.taken == 0
    assert run.run.job.cost == paid(run)


def test_streams_that_fall_silent_are_given_up_after_two(wire: Wire, router: Router) -> None:
    asked = wired(wire, "openai", lambda kind, time: "silent" if kind == METAL else "", cut=5)
    Connection.objects.update(timeout=1)

    run = traced(router)

    rows = run.run.annotations.filter(item__text__contains=METAL)
    assert {(row.failure, row.attempts) for row in rows} == {("timed_out", 2)}
    assert max(asked.values()) == 2
    assert run.run.job.cost == paid(run)


def test_an_outage_half_way_loses_nothing_that_was_paid(wire: Wire, router: Router) -> None:
    wired(wire, "openai", lambda kind, time: "reset", cut=5)

    run = traced(router)

    assert run.run.job.state == Job.State.PAUSED
    assert not run.run.annotations.filter(failure="").exists()
    assert run.run.job.output_tokens >= 10 * 3 * 4  # so many calls in a row, each tried three times
    assert run.run.job.cost > paid(run)


def test_a_spend_limit_holds_though_streams_die(wire: Wire, router: Router) -> None:
    wired(wire, "openai", lambda kind, time: "reset" if time == 1 else "", cut=5)
    RouterQuery.objects.filter(router=router).update(cost=Decimal("0.0001"))

    run = traced(router, spend_limit=Decimal("0.2"))

    assert run.run.job.state == Job.State.PAUSED
    assert run.run.job.failure == "spend_limit"
    assert 0 < run.run.job.cost <= Decimal("0.2")


@pytest.mark.computed
def test_a_slow_router_is_not_the_annotators_time(wire: Wire, router: Router, dialect: str) -> None:
    wired(wire, dialect, lambda kind, time: "")
    traced(router)  # the SDK is there from here on
    calling.loop_thread().adapters.clear()
    wired(wire, dialect, lambda kind, time: "", thinks=0.6)
    Connection.objects.update(timeout=1)  # seconds; three answers of the router take 1.8

    run = traced(router)

    assert run.run.job.state == Job.State.DONE, run.run.job.reason
    finished = run.run.annotations.filter(failure="")
    assert finished.count() == LEFT - METALS
    assert set(finished.values_list("attempts", flat=True)) == {1}
    assert max(run.run.annotations.values_list("latency", flat=True)) < 1.0
    figures = traced_figures(run)
    assert figures.seconds > 0.6 * RouterQuery.objects.filter(traced_run=run).count()
    assert figures.seconds_saved is not None
    assert figures.seconds_saved < 0
