"""People at work while the web server is killed: each asks again with the same key until there is an answer."""

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAUSE = 0.05  # seconds before a request is sent again


@dataclass
class Client:
    """One person's client of the API."""

    port: int
    token: str
    stop: threading.Event
    retries: int = 0
    errors: list[str] = field(default_factory=list)

    def send(self, method: str, path: str, body: Any = None, *, file: bytes | None = None) -> tuple[int, Any]:
        """Status and answer; sent again as it is while the server is gone or fails. Status 0: it is time to stop."""
        content, media_type = _encoded(body, file)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            data=content,
            method=method,
            headers={"Authorization": f"Token {self.token}", "Content-Type": media_type},
        )
        while not self.stop.is_set():
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                said = error.read().decode()
                if error.code < 500:
                    return error.code, said
                self.errors.append(f"{error.code} {path}: {said[:200]}")
            except (OSError, ValueError, http.client.HTTPException):
                pass  # refused, reset, or cut off in the middle
            self.retries += 1
            time.sleep(PAUSE)
        return 0, None


def _encoded(body: Any, file: bytes | None) -> tuple[bytes | None, str]:
    if file is None:
        return (None if body is None else json.dumps(body).encode()), "application/json"
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n"
    )
    return (
        head.encode() + file + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


@dataclass
class Reviewer(Client):
    """Answers what the round gives out, and keeps a list of it."""

    round_id: int = 0
    labels: list[int] = field(default_factory=list)
    pace: float = 0.1
    seed: int = 0
    accepted: dict[str, tuple[int, int]] = field(default_factory=dict)  # task and label by key
    refused: list[str] = field(default_factory=list)

    def work(self) -> None:
        rng = random.Random(self.seed)
        while not self.stop.is_set():
            status, given = self.send("POST", f"review-rounds/{self.round_id}/next/", {"count": 2})
            for task in given["tasks"] if status == 200 else []:
                self._answer(task, rng.choice(self.labels))
                time.sleep(rng.uniform(0, 2 * self.pace))
            if status == 200 and not given["tasks"]:
                time.sleep(0.2)

    def _answer(self, task: dict[str, Any], label: int) -> None:
        key = str(uuid.uuid4())
        body = {"action": "label", "label": label, "key": key, "version": task["version"]}
        stop, self.stop = (
            self.stop,
            threading.Event(),
        )  # an answer that was sent once is sent until it arrives
        status, said = self.send("POST", f"review-tasks/{task['id']}/submit/", body)
        self.stop = stop
        if status == 200:
            self.accepted[key] = (task["id"], label)
        else:
            self.refused.append(f"{status} {said}")


@dataclass
class Manager(Client):
    """Raises a round's budget step by step, and draws further rounds."""

    round_id: int = 0
    project: int = 0
    criticism_run: int = 0
    budget: int = 0
    most: int = 0
    raised: int = 0
    drawn: int = 0
    refused: list[str] = field(default_factory=list)

    def work(self) -> None:
        while not self.stop.is_set() and self.budget < self.most:
            self.budget += 4
            status, said = self.send("POST", f"review-rounds/{self.round_id}/raise/", {"budget": self.budget})
            # Sent again after an answer that was lost on its way, it is refused: the budget is that high already.
            if status == 200 or (status == 400 and "can only be raised" in str(said)):
                self.raised += 1
            elif status:
                self.refused.append(f"{status} {said}")
            self._draw()
            time.sleep(0.3)

    def _draw(self) -> None:
        body = {"criticism_run": self.criticism_run, "rule": "normalize", "budget": 30, "seed": self.budget}
        status, said = self.send("POST", f"projects/{self.project}/review-rounds/", body)
        if status == 201:
            self.drawn += 1
            self.send("POST", f"review-rounds/{said['id']}/close/")
        elif status:
            self.refused.append(f"{status} {said}")


def in_background(*works: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads
