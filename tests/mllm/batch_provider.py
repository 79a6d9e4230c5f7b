"""A provider's batches on the wire, in both of the forms that we speak: OpenAI's and Anthropic's."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.mllm.wire import Wire


@dataclass
class Batch:
    """What was handed in. `answers`: custom id → "answer", "refuse", "expire"; those without one are left out."""

    id: str
    entries: list[dict[str, Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    state: str = "waiting"
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [entry["custom_id"] for entry in self.entries]


class BatchProvider(Wire):
    """Keeps batches until a test ends them. `direct` are the bodies of calls that were made at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.direct: list[dict[str, Any]] = []
        self.drop_reply_to_submit = False  # the batch is taken, and its id never arrives
        self.refuse_submit = False
        self.text = "yes"

    def end(self, batch: Batch, **answers: str) -> None:
        """End it: every request is answered but those named otherwise, by custom id."""
        batch.answers = {name: answers.get(name, "answer") for name in batch.ids}
        batch.state = "ended"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1")
        if path == "/chat/completions":
            self.direct.append(await request.json())
            return web.json_response(self._openai_answer())
        if path == "/messages":
            self.direct.append(await request.json())
            return web.json_response(self._anthropic_answer())
        if path == "/files":
            return await self._take_file(request)
        if path.startswith("/files/"):
            return web.Response(text=self._openai_lines(path.split("/")[2]))
        if path.startswith("/batches"):
            return await self._openai(request, path.split("/")[2:])
        return await self._anthropic(request, path.split("/")[3:])

    async def _take_file(self, request: web.Request) -> web.Response:
        form = await request.post()
        uploaded = form["file"]
        assert isinstance(uploaded, web.FileField)
        assert form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = [json.loads(line) for line in uploaded.file.read().decode().splitlines()]
        return web.json_response({"id": name})

    async def _take(self, request: web.Request, batch: Batch) -> None:
        self.batches.append(batch)
        if self.drop_reply_to_submit:
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(0)

    def _batch(self, name: str) -> Batch:
        return next(batch for batch in self.batches if batch.id == name)

    async def _openai(self, request: web.Request, rest: list[str]) -> web.Response:
        if request.method == "POST" and not rest:
            asked = await request.json()
            if self.refuse_submit:
                return web.json_response({"error": {"message": "No batches for you."}}, status=400)
            entries = self.files[asked["input_file_id"]]
            batch = Batch(f"batch-{len(self.batches)}", entries, asked["metadata"])
            await self._take(request, batch)
            return web.json_response(self._openai_batch(batch))
        if not rest:
            found = [self._openai_batch(batch) for batch in reversed(self.batches)]
            return web.json_response({"data": found, "has_more": False})
        batch = self._batch(rest[0])
        if rest[1:] == ["cancel"]:
            batch.state = "cancelling"
        return web.json_response(self._openai_batch(batch))

    def _openai_batch(self, batch: Batch) -> dict[str, Any]:
        status = {"waiting": "in_progress", "ended": "completed"}.get(batch.state, batch.state)
        has_answers = batch.state == "ended"
        return {
            "id": batch.id,
            "status": status,
            "metadata": batch.metadata,
            "created_at": int(datetime.now(UTC).timestamp()),
            "request_counts": {"total": len(batch.entries), "completed": len(batch.answers), "failed": 0},
            "errors": {"data": [{"message": "Line 1 is no request."}]} if status == "failed" else None,
            "output_file_id": f"out-{batch.id}" if has_answers else None,
            "error_file_id": f"err-{batch.id}" if has_answers else None,
        }

    def _openai_lines(self, name: str) -> str:
        kind, _, batch_id = name.partition("-")
        lines = []
        for custom_id, answer in self._batch(batch_id).answers.items():
            response, error = None, None
            if answer == "answer":
                response = {"status_code": 200, "request_id": "r", "body": self._openai_answer()}
            elif answer == "refuse":
                response = {
                    "status_code": 400,
                    "request_id": "r",
                    "body": {"error": {"message": "Too long."}},
                }
            elif answer == "expire":
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
            else:
                continue
            if (kind == "out") == (answer == "answer"):
                lines.append(json.dumps({"custom_id": custom_id, "response": response, "error": error}))
        return "\n".join(reversed(lines)) + "\n"  # in no order that anybody promised

    def _openai_answer(self) -> dict[str, Any]:
        return {
            "id": "chat",
            "model": "m-1",
            "choices": [{"message": {"content": self.text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }

    async def _anthropic(self, request: web.Request, rest: list[str]) -> web.Response:
        if request.method == "POST" and not rest:
            if self.refuse_submit:
                refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}
                return web.json_response(refusal, status=400)
            batch = Batch(f"msgbatch_{len(self.batches)}", (await request.json())["requests"])
            await self._take(request, batch)
            return web.json_response(self._anthropic_batch(batch))
        if not rest:
            found = [self._anthropic_batch(batch) for batch in reversed(self.batches)]
            return web.json_response({"data": found, "has_more": False})
        batch = self._batch(rest[0])
        if rest[1:] == ["results"]:
            return web.Response(text=self._anthropic_lines(batch), content_type="application/x-jsonl")
        if rest[1:] == ["cancel"]:
            batch.state = "cancelling"
        return web.json_response(self._anthropic_batch(batch))

    def _anthropic_batch(self, batch: Batch) -> dict[str, Any]:
        given = list(batch.answers.values())
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": {"ended": "ended", "cancelling": "canceling"}.get(
                batch.state, "in_progress"
            ),
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "request_counts": {
                "processing": len(batch.entries) - len(given),
                "succeeded": given.count("answer"),
                "errored": given.count("refuse"),
                "expired": given.count("expire"),
                "canceled": 0,
            },
        }

    def _anthropic_lines(self, batch: Batch) -> str:
        results = {
            "answer": {"type": "succeeded", "message": self._anthropic_answer()},
            "refuse": {
                "type": "errored",
                "error": {
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "Too long."},
                },
            },
            "expire": {"type": "expired"},
        }
        lines = [
            json.dumps({"custom_id": custom_id, "result": results[answer]})
            for custom_id, answer in batch.answers.items()
            if answer in results
        ]
        return "\n".join(reversed(lines)) + "\n"

    def _anthropic_answer(self) -> dict[str, Any]:
        return {
            "id": "msg",
            "type": "message",
            "model": "m-1",
            "content": [{"type": "text", "text": self.text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 100, "output_tokens": 10},
        }
