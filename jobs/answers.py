"""Answers that were paid for are not paid for again: an identical request in any job gets the kept answer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from jobs.models import KeptAnswer
from jobs.recording import storable
from mllm.messages import Reply, Request, TokenLogprob
from mllm.registry import PROVIDERS, ConnectionSettings


def request_key(connection: ConnectionSettings, request: Request) -> str:
    """A digest of everything that determines the answer: where it is asked, the model, its parameters and all of the
    prompt, images included. Who asks, and with whose key, is no part of it.
    """
    asked = {
        "provider": connection.provider,
        "base_url": connection.base_url or PROVIDERS[connection.provider].default_base_url,
        "model": request.model,
        "system": request.system,
        "parts": [
            part if isinstance(part, str) else [part.media_type, hashlib.sha256(part.data).hexdigest()]
            for part in request.parts
        ],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "schema": request.schema and dict(request.schema),
        "top_logprobs": request.top_logprobs,
        "seed": request.seed,
        "stop": request.stop,
    }
    # Not sorted: in a schema the order of the keys is part of what is asked.
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def find(keys: Sequence[str]) -> dict[str, Reply]:
    """The kept answers to these requests, by key."""
    if not settings.KEEP_ANSWERS_DAYS:
        return {}
    kept = KeptAnswer.objects.filter(key__in=keys).values_list("key", "reply")
    return {key: reply_of(reply) for key, reply in kept}


def keep(answers: Mapping[str, Reply]) -> None:
    """Keep usable answers. One that is kept already stays."""
    if settings.KEEP_ANSWERS_DAYS:
        KeptAnswer.objects.bulk_create(
            [KeptAnswer(key=key, reply=_kept(reply)) for key, reply in answers.items()],
            ignore_conflicts=True,
        )


def forget_old() -> None:
    """Delete answers that are older than `KEEP_ANSWERS_DAYS`."""
    oldest = timezone.now() - timedelta(days=settings.KEEP_ANSWERS_DAYS)
    KeptAnswer.objects.filter(created_at__lt=oldest).delete()


def reply_of(kept: Mapping[str, Any]) -> Reply:
    """The reply whose fields these are, as JSON has them."""
    tokens = (
        TokenLogprob(each["token"], each["logprob"], tuple((token, value) for token, value in each["top"]))
        for each in kept["logprobs"]
    )
    return Reply(**{**kept, "logprobs": tuple(tokens)})


def _kept(reply: Reply) -> dict[str, Any]:
    """The reply as JSON, with texts that a database can hold."""
    values = {name: getattr(reply, name) for name in _FIELDS}
    texts = {name: storable(value) for name, value in values.items() if isinstance(value, str)}
    logprobs = [
        {
            "token": storable(each.token),
            "logprob": each.logprob,
            "top": [[storable(token), logprob] for token, logprob in each.top],
        }
        for each in reply.logprobs
    ]
    return {**values, **texts, "logprobs": logprobs}


_FIELDS = tuple(field.name for field in fields(Reply))
