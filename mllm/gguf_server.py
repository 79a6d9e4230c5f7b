"""The child process that serves one model file: llama.cpp's own server, reached over loopback.

    python -m mllm.gguf_server --model FILE --folder FOLDER --slots N --context N --starter PID

The key comes in the environment, because every user of the machine can read a command line. In the folder, the
process holds a lock for as long as it lives, and writes its state when the model is loaded: process id, port and
key, readable by its owner only. The process ends when its starter does.
"""

import argparse
import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY_VARIABLE = "GGUF_SERVER_KEY"
ALIVE, STATE = "alive", "server.json"  # files in the folder
_LOOK_AFTER_STARTER = 0.5  # seconds


def main() -> int:
    options = _options()
    key = os.environ.pop(KEY_VARIABLE, "")
    if not key:
        print(f"{KEY_VARIABLE} is not set.", file=sys.stderr)  # noqa: T201 - the log of a child process
        return 2
    with (options.folder / ALIVE).open("w") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another server runs already.", file=sys.stderr)  # noqa: T201 - the log of a child process
            return 3
        _serve(options, key)
    return 0


def _serve(options: argparse.Namespace, key: str) -> None:
    """Returns when the starter has ended."""
    server = _start(options, key)
    _write_state(
        options.folder / STATE,
        {"pid": os.getpid(), "port": urlsplit(server.listening_address).port, "key": key},
    )
    # Not PR_SET_PDEATHSIG: it fires when the starting *thread* ends, and event loops end their threads
    # with every run. Who has lost its parent has another one.
    while os.getppid() == options.starter:
        time.sleep(_LOOK_AFTER_STARTER)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve one GGUF model file on loopback.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", required=True, type=Path)
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
    # Every kept connection takes one, also one that only waits for a slot.
    parameters.n_threads_http = 64
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
