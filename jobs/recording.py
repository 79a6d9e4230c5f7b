"""Keeping what a model said: from a call's outcome to a result row, once a subject."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import ModelCall
from mllm.prices import Price, token_cost

Row = TypeVar("Row", bound=ModelCall)

_STORED_COST = Decimal("1e-8")


def call_fields(outcome: Outcome, price: Price | None) -> dict[str, Any]:
    """The `ModelCall` fields of an outcome. Failed calls keep their tokens and cost too: they may have been charged."""
    error = outcome.error
    if error is not None:
        return {
            "failure": str(error.failure),
            "message": storable(error.message),
            "raw_text": storable(error.raw),
            "input_tokens": error.input_tokens,
            "output_tokens": error.output_tokens,
            "cost": _cost(price, outcome, error.input_tokens, error.output_tokens, error.cached_tokens),
            "attempts": error.attempts,
        }
    reply = outcome.reply
    assert reply is not None  # noqa: S101 (an outcome holds one or the other)
    return {
        "raw_text": storable(reply.text),
        "reasoning": storable(reply.reasoning),
        "logprobs": [[storable(token.token), token.logprob] for token in reply.logprobs] or None,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "cost": _cost(price, outcome, reply.input_tokens, reply.output_tokens, reply.cached_tokens),
        "latency": reply.latency,
        "attempts": reply.attempts,
        "reused": outcome.reused,
        "model_returned": storable(reply.model)[:200],
    }


def _cost(
    price: Price | None, outcome: Outcome, input_tokens: int, output_tokens: int, cached_tokens: int
) -> Decimal | None:
    """Rounded as the rows store it, so that a job's cost is the sum of theirs."""
    if price is None:
        return None
    whole = token_cost(price, input_tokens, output_tokens, cached_tokens)
    return (whole * Decimal(str(outcome.price_share))).quantize(_STORED_COST)


def storable(text: str) -> str:
    """Without what a database cannot hold: NUL characters, and halves of characters (lone surrogates)."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode(errors="replace").decode()


def record(rows: Sequence[Row], failed_before: Mapping[int, Row], *, subject: str) -> Progress:
    """Write one row a subject. A row that failed before is replaced and what it held is kept in `earlier`.

    `failed_before` maps the value of each row's `subject` field to the failed row that stands for it.
    """
    new: list[Row] = []
    failed = 0
    for row in rows:
        failed += bool(row.failure)
        before = failed_before.get(getattr(row, subject))
        if before is None:
            new.append(row)
            continue
        failed -= 1
        # It may have earlier answers of its own: streams that died before it.
        row.earlier = [*before.earlier, before.as_earlier(), *row.earlier]
        row.pk = before.pk
        row.save(force_update=True)
    if new:
        type(new[0])._default_manager.bulk_create(new)
    paid = [row for row in rows if not row.reused]
    return Progress(
        done=len(new),
        failed=failed,
        input_tokens=sum(row.input_tokens for row in paid),
        output_tokens=sum(row.output_tokens for row in paid),
        cost=sum((row.cost for row in paid if row.cost is not None), Decimal(0)),
        usable=frozenset(getattr(row, subject) for row in rows if not row.failure),
    )
