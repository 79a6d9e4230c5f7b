"""What the adapters over HTTP share: one client, one clock, one way to name failures.

The SDKs are used for their client only (addresses, keys, headers, connections). Their typed request
parameters and response models cost milliseconds of CPU a call, so bodies are plain JSON, built and read here.
"""

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mllm.adapters.base import Capabilities
from mllm.adapters.batches import TRANSFER_TIMEOUT
from mllm.adapters.failures import Problem, broken_answer, name_failure, read_problem
from mllm.adapters.sse import Event, EventDecoder
from mllm.addresses import check_base_url
from mllm.errors import CallError, Failure
from mllm.messages import Delta, Reply, Request, Usage
from mllm.tokens import usage_of

if TYPE_CHECKING:
    import httpx2

    from mllm.registry import ConnectionSettings


class StreamReader(ABC):
    """Gathers the events of one stream into a reply.

    `has_begun` once the model was at work, so that the call costs money; `told` is what the provider said of its
    tokens, and `written` all that the model wrote, its reasoning included.
    """

    done: bool = False
    has_begun: bool = False
    told: Usage | None = None

    @property
    @abstractmethod
    def written(self) -> str: ...

    @abstractmethod
    def take(self, event: Event) -> list[Delta]:
        """The deltas of an event; sets `done` with the last one. Raises `CallError` for an error event."""

    @abstractmethod
    def reply(self, headers: Mapping[str, str]) -> Reply:
        """The whole reply, after the last event. Raises `CallError` where there is none."""


class HttpAdapter(ABC):
    """An adapter over an SDK's client. Subclasses say how a request and an answer look in JSON."""

    name: str
    capabilities: Capabilities
    default_base_url: str
    path: str  # of the call that completes, below the base URL

    def __init__(self, settings: "ConnectionSettings") -> None:
        self._settings = settings
        self._base_url = settings.base_url.strip().rstrip("/") or self.default_base_url
        self._secrets = (settings.api_key,) if settings.api_key else ()
        # Names are checked again at connect time, where a failing name server is a passing failure.
        check_base_url(self._base_url, allow_private=settings.allow_private, resolve=False)
        self._client: Any = None
        self._transfer_client: Any = None  # for what is larger than an answer
        self._loop: asyncio.AbstractEventLoop | None = None
        # model → what was learned about it from its refusals of a parameter
        self._adaptations: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url})"

    @abstractmethod
    def open_client(self, http_client: "httpx2.AsyncClient") -> Any:
        """The SDK's asynchronous client, without retries of its own."""

    def call_options(self) -> dict[str, Any]:
        """What the SDK's client needs to know with every call."""
        return {}

    @abstractmethod
    def body(self, request: Request, adaptations: Set[str], *, stream: bool) -> dict[str, Any]:
        """The JSON of a request."""

    @abstractmethod
    def adaptation_for(self, problem: Problem, body: Mapping[str, Any]) -> str | None:
        """What to do otherwise so that the model takes the request; None where nothing is known."""

    @abstractmethod
    def read_reply(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """The reply in a whole answer. Raises `CallError` where there is none."""

    @abstractmethod
    def stream_reader(self) -> StreamReader: ...

    async def complete(self, request: Request) -> Reply:
        refuse_impossible(request, self.capabilities)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._exchange(request, stream=False)
        except TimeoutError:
            raise self._timed_out() from None
        reply = self.read_reply(response.content, response.headers)
        return replace(reply, latency=time.perf_counter() - started)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        refuse_impossible(request, self.capabilities)
        now = asyncio.get_running_loop().time
        started, waited = now(), 0.0  # seconds in which the caller was busy with what it had been given
        response: httpx2.Response | None = None
        reader = self.stream_reader()
        try:
            async with asyncio.timeout_at(started + self._settings.timeout):
                response = await self._exchange(request, stream=True)
                does_stream = "json" not in response.headers.get("content-type", "")
                if not does_stream:
                    reply = self.read_reply(await response.aread(), response.headers)
            if not does_stream:
                yield Delta(reply.text, reply.reasoning)
                written = reply.text + reply.reasoning
                told: Usage | None = Usage(reply.input_tokens, reply.output_tokens, reply.cached_tokens)
            else:
                decoder = EventDecoder()
                chunks = response.aiter_bytes()
                while not reader.done:
                    # The limit is set around each read: around a yield it would cut off the consumer instead.
                    async with asyncio.timeout_at(started + waited + self._settings.timeout):
                        chunk = await anext(chunks, None)
                    for event in _events(decoder, chunk):
                        for delta in reader.take(event):
                            given = now()
                            yield replace(delta, usage=reader.told)
                            waited += now() - given
                    if chunk is None:
                        break
                reply = reader.reply(response.headers)
                told, written = reader.told, reader.written
        except TimeoutError:
            raise _paid(self._timed_out(), request, reader) from None
        except CallError as error:
            _paid(error, request, reader)
            raise
        finally:
            if response is not None:
                await response.aclose()
        usage = usage_of(request, written, told)
        reply = replace(
            reply,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            is_estimated=usage.is_estimated,
            latency=now() - started - waited,
        )
        yield Delta("", reply=reply)

    async def list_models(self) -> list[str]:
        try:
            async with asyncio.timeout(self._settings.timeout):
                return sorted(await self.fetch_models())
        except TimeoutError:
            raise self._timed_out() from None

    @abstractmethod
    async def fetch_models(self) -> list[str]: ...

    async def aclose(self) -> None:
        clients = (self._client, self._transfer_client)
        self._client = self._transfer_client = None
        for client in clients:
            if client is not None and self._loop is asyncio.get_running_loop():
                await client.close()

    def should_retry(self, error: CallError) -> bool:
        return error.retryable

    async def get_json(self, path: str) -> Any:
        """The JSON at a path. Raises `CallError`."""
        return await self._ask("get", path)

    async def post_json(self, path: str, body: Mapping[str, Any], **options: Any) -> Any:
        """The JSON that a path answers to the body. Raises `CallError`."""
        return await self._ask("post", path, body=body, **options)

    async def _ask(self, method: str, path: str, **sent: Any) -> Any:
        client, sdk = self._ready_client()
        import httpx2

        options = self.call_options()
        options["headers"] = options.get("headers", {}) | sent.pop("headers", {})
        try:
            response = await getattr(client, method)(path, cast_to=httpx2.Response, options=options, **sent)
        except sdk.APIStatusError as error:
            raise name_failure(self._problem(error), asks_model=False) from None
        except sdk.APIConnectionError as error:
            raise self._unreachable(error) from None
        return self.parse(response.content)

    async def get_lines(self, path: str) -> AsyncGenerator[str, None]:
        """The lines of what lies at a path, however long it is. Raises `CallError`."""
        client, sdk = self._ready_client(transfers=True)
        import httpx2

        try:
            response: httpx2.Response = await client.get(
                path, cast_to=httpx2.Response, options=self.call_options(), stream=True
            )
        except sdk.APIStatusError as error:
            raise name_failure(self._problem(error), asks_model=False) from None
        except sdk.APIConnectionError as error:
            raise self._unreachable(error) from None
        try:
            async for line in response.aiter_lines():
                if line.strip():
                    yield line
        finally:
            await response.aclose()

    @contextlib.asynccontextmanager
    async def transferring(self) -> AsyncGenerator[None, None]:
        """The time that handing in or fetching a batch may take. Raises `CallError`."""
        try:
            async with asyncio.timeout(TRANSFER_TIMEOUT):
                yield
        except TimeoutError:
            raise CallError(
                Failure.TIMED_OUT, f"The batch was not transferred within {TRANSFER_TIMEOUT:g} seconds."
            ) from None

    def parse(self, body: bytes | str) -> Any:
        """The JSON object in a body. Raises `CallError` for anything else, and for an error in it."""
        try:
            found = json.loads(body)
        except ValueError:
            raise broken_answer("it is not JSON", body, self._secrets) from None
        if isinstance(found, dict) and isinstance(found.get("error"), dict | str) and found["error"]:
            raise self.error_in_answer(found, body)
        if not isinstance(found, dict):
            raise broken_answer("it is not a JSON object", body, self._secrets)
        return found

    def error_in_answer(self, found: Mapping[str, Any], body: bytes | str) -> CallError:
        """The failure that a server reports under status 200, or in the middle of a stream."""
        error = found["error"]
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return name_failure(read_problem(status, {}, body, self._secrets))

    def broken(self, what: str, body: bytes | str) -> CallError:
        return broken_answer(what, body, self._secrets)

    async def _exchange(self, request: Request, *, stream: bool) -> "httpx2.Response":
        client, sdk = self._ready_client()
        import httpx2

        while True:
            adaptations = self._adaptations.get(request.model, frozenset())
            body = self.body(request, adaptations, stream=stream)
            try:
                response: httpx2.Response = await client.post(
                    self.path,
                    cast_to=httpx2.Response,
                    body=body,
                    options=self.call_options(),
                    stream=stream,
                )
                return response
            except sdk.APIStatusError as error:
                problem = self._problem(error)
            except sdk.APIConnectionError as error:
                raise self._unreachable(error) from None
            adaptation = self.adaptation_for(problem, body)
            if adaptation is None or adaptation in adaptations:
                raise name_failure(problem)
            self._adaptations[request.model] = adaptations | {adaptation}

    def _ready_client(self, *, transfers: bool = False) -> tuple[Any, Any]:
        """The client of the running loop, and its SDK's module for its errors."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A client is bound to its loop; after a fork or a new asyncio.run there is another one.
            self._client = self._transfer_client = None
            self._loop = loop
        if transfers:
            from mllm.transport import MAX_TRANSFER

            self._transfer_client = self._transfer_client or self._new_client(MAX_TRANSFER)
            return self._transfer_client, self.sdk()
        if self._client is None:
            from mllm.transport import MAX_BODY

            self._client = self._new_client(MAX_BODY)
        return self._client, self.sdk()

    def _new_client(self, max_body: int) -> Any:
        import httpx2

        from mllm.transport import CONNECT_TIMEOUT, GuardedTransport

        transport = GuardedTransport(
            max_connections=self._settings.max_in_flight,
            allow_private=self._settings.allow_private,
            connect_timeout=min(CONNECT_TIMEOUT, self._settings.timeout),
            max_body=max_body,
        )
        http_client = httpx2.AsyncClient(
            transport=transport, timeout=None, follow_redirects=False, trust_env=False
        )
        return self.open_client(http_client)

    @abstractmethod
    def sdk(self) -> Any:
        """The SDK's module. Importing it costs seconds, so this is called with the first call only."""

    def _problem(self, error: Any) -> Problem:
        response = error.response
        return read_problem(response.status_code, response.headers, response.content, self._secrets)

    def _timed_out(self) -> CallError:
        return CallError(
            Failure.TIMED_OUT, f"There was no complete answer within {self._settings.timeout:g} seconds."
        )

    def _unreachable(self, error: Exception) -> CallError:
        # One SDK lets the transport's errors through, the other wraps them.
        if isinstance(error.__cause__, CallError):
            return error.__cause__
        return CallError(
            Failure.UNREACHABLE, f"No connection to {self._base_url}.", raw=repr(error.__cause__ or error)
        )


def _paid(error: CallError, request: Request, reader: StreamReader) -> CallError:
    """The error of a stream, with what was paid for until it broke off."""
    if reader.has_begun:
        usage = usage_of(request, reader.written, reader.told)
        error.input_tokens, error.output_tokens = usage.input_tokens, usage.output_tokens
        error.cached_tokens, error.is_estimated = usage.cached_tokens, usage.is_estimated
    return error


def _events(decoder: EventDecoder, chunk: bytes | None) -> list[Event]:
    try:
        return decoder.close() if chunk is None else decoder.feed(chunk)
    except ValueError as error:
        raise CallError(Failure.SERVER_ERROR, str(error), retryable=False) from None


def refuse_impossible(request: Request, capabilities: Capabilities) -> None:
    """Raise `CallError` where the provider's interface has no place for what the request asks."""
    if request.top_logprobs and not capabilities.logprobs:
        raise CallError(
            Failure.BAD_REQUEST,
            "This provider gives no log-probabilities. "
            "Choose a strategy that needs none, or another provider.",
            fatal=True,
        )
    if request.images and not capabilities.images:
        raise CallError(Failure.BAD_REQUEST, "This provider takes no images.", fatal=True)
