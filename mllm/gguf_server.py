"""The child process that serves one model file: llama.cpp's own server, reached over loopback.

    python -m mllm.gguf_server --model FILE --state FILE --slots N --context N --starter PID

The key comes in the environment, because every user of the machine can read a command line. When the model is
loaded, the state file is written: process id, port and key, readable by its owner only. The process ends when
its starter does.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY_VARIABLE = "GGUF_SERVER_KEY"
_LOOK_AFTER_STARTER = 0.5  # seconds


def main() -> int:
    options = _options()
    key = os.environ.pop(KEY_VARIABLE, "")
    if not key:
        print(f"{KEY_VARIABLE} is not set.", file=sys.stderr)  # noqa: T201 - the log of a child process
        return 2
    server = _start(options, key)
    _write_state(
        options.state,
        {"pid": os.getpid(), "port": urlsplit(server.listening_address).port, "key": key},
    )
    # Not PR_SET_PDEATHSIG: it fires when the starting *thread* ends, and event loops end their threads
    # with every run. Who has lost its parent has another one.
    while os.getppid() == options.starter:
        time.sleep(_LOOK_AFTER_STARTER)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve one GGUF model file on loopback.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--slots", required=True, type=int)
    parser.add_argument("--context", required=True, type=int, help="tokens a slot")
    parser.add_argument("--starter", required=True, type=int, help="the process to end with")
    return parser.parse_args()


def _start(options: argparse.Namespace, key: str) -> Any:
    """The server, its model loaded. Raises RuntimeError for a file that cannot be."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.context * options.slots
    parameters.ui = False
    parameters.cache_ram_mib = 0  # a cache in memory for prompts: by default up to 8 GB
    return xllamacpp.Server(parameters)


def _write_state(path: Path, state: dict[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(state))
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
