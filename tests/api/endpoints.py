"""Every address of the API with every verb it takes: what to send, and what each of four people is answered."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from config.api_urls import urlpatterns
from tests.api.world import World

ROLES = ("anonymous", "stranger", "reviewer", "owner")
VERBS = ("get", "post", "patch", "delete")

# Who is answered what, in the order of ROLES.
ANYBODY_SIGNED_IN = (401, 200, 200, 200)
MEMBERS = (401, 404, 200, 200)
OWNERS = (401, 404, 403, 200)
THE_PERSON = (401, 404, 404, 200)
ADMINISTRATORS = (401, 403, 403, 200)


def but(expected: tuple[int, ...], success: int) -> tuple[int, ...]:
    """The same people, with another status where it works."""
    return tuple(success if status == 200 else status for status in expected)


@dataclass(frozen=True)
class Case:
    name: str
    verb: str
    expected: tuple[int, ...]
    body: Any = None
    query: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.name}"

    def address(self, world: World) -> str:
        return address(self.name, world) + self.query


def address(name: str, world: World) -> str:
    pattern = next(pattern for pattern in urlpatterns if pattern.name == name)
    ids = world.ids
    if "run_id" in pattern.pattern.converters:
        ids = ids | {"run_id": ids["criticism_run_id" if name.startswith("critic") else "annotation_run_id"]}
    kwargs = {part: ids[part] for part in pattern.pattern.converters}
    return reverse(f"api:{name}", kwargs=kwargs)


def body_of(case: Case, world: World) -> Any:
    """The body, with the names of ids replaced by the ids of the world."""
    return case.body if isinstance(case.body, str) else with_ids(case.body, world)


def with_ids(value: Any, world: World) -> Any:
    match value:
        case dict():
            return {name: with_ids(each, world) for name, each in value.items()}
        case list():
            return [with_ids(each, world) for each in value]
        case str() if value.startswith("@"):
            return world.ids[value[1:]]
    return value


_TRAINED = {"kind": "trained"}
_PROMPTED = {"kind": "prompted", "connection": "@connection_id", "model": "gpt-5-mini", "strategy": "naive"}
_CELLS = {"annotation_runs": ["@candidate_run_id"], "choices": [_PROMPTED]}

CASES = [
    Case("schema", "get", (200, 200, 200, 200)),
    Case("unknown_address", "get", (404, 404, 404, 404)),
    Case("tokens", "get", ANYBODY_SIGNED_IN),
    Case("tokens", "post", but(ANYBODY_SIGNED_IN, 201)),
    Case("token", "delete", but(THE_PERSON, 204)),
    Case("connections", "get", ANYBODY_SIGNED_IN),
    Case("connections", "post", but(ANYBODY_SIGNED_IN, 201), {"name": "Mine", "provider": "openai"}),
    Case("connection", "get", THE_PERSON),
    Case("connection", "patch", THE_PERSON, {"name": "New name"}),
    Case("connection", "delete", but(THE_PERSON, 204)),
    Case("connection_test", "post", THE_PERSON, {"model": "small"}),
    Case("connection_models", "get", THE_PERSON),
    Case("prices", "get", ANYBODY_SIGNED_IN),
    Case(
        "prices",
        "post",
        but(ADMINISTRATORS, 201),
        {"provider": "openai", "model": "tiny", "input": "0.1", "output": "0.2"},
    ),
    Case("shipped_prices", "get", ANYBODY_SIGNED_IN),
    Case("price", "delete", but(ADMINISTRATORS, 204)),
    Case("projects", "get", ANYBODY_SIGNED_IN),
    Case(
        "projects", "post", but(ANYBODY_SIGNED_IN, 201), {"name": "New", "task_type": "image_text_agreement"}
    ),
    Case("project", "get", MEMBERS),
    Case("project", "patch", OWNERS, {"instructions": "Look twice."}),
    Case("project", "delete", but(OWNERS, 204), query="?confirm_name=Tweets"),
    Case("labels", "get", MEMBERS),
    Case("labels", "post", but(OWNERS, 201), {"name": "mixed"}),
    Case("label", "patch", OWNERS, {"name": "mixed"}),
    Case("label", "delete", (401, 404, 403, 400)),  # once there is a run, labels stay
    Case("members", "get", OWNERS),
    Case("members", "post", but(OWNERS, 201), {"username": "sam", "role": "reviewer"}),
    Case("member", "patch", OWNERS, {"role": "owner"}),
    Case("member", "delete", but(OWNERS, 204)),
    Case("uploads", "get", OWNERS),
    Case("uploads", "post", but(OWNERS, 201), "a file"),
    Case("upload", "get", OWNERS),
    Case("upload", "delete", but(OWNERS, 204)),
    Case("upload_preview", "get", OWNERS),
    Case("upload_resume", "post", but(OWNERS, 400)),  # it was not begun
    Case("upload_cancel", "post", but(OWNERS, 400)),
    Case(
        "upload_import", "post", but(OWNERS, 202), {"mapping": {"id": "id", "text": "tweet", "gold": "label"}}
    ),
    Case("rejected_rows", "get", OWNERS),
    Case("items", "get", MEMBERS),
    Case("item", "get", MEMBERS),
    Case("item_image", "get", MEMBERS),
    Case("calibration", "get", OWNERS),
    Case("calibration_from_gold", "post", but(OWNERS, 201), {"count": 2}),
    Case("annotation_runs", "get", OWNERS),
    Case("annotation_runs", "post", but(OWNERS, 201), _PROMPTED),
    Case("annotation_run_estimate", "post", OWNERS, _PROMPTED),
    Case("annotation_vote", "post", but(OWNERS, 400), {"sources": [1, 1]}),  # not two runs
    Case("annotation_discussion", "post", but(OWNERS, 400), {"sources": [1, 1]}),
    Case("annotation_discussion_estimate", "post", but(OWNERS, 400), {"sources": [1, 1]}),
    Case("annotation_run", "get", OWNERS),
    Case("annotation_run_pause", "post", but(OWNERS, 409)),
    Case("annotation_run_resume", "post", but(OWNERS, 409)),
    Case("annotation_run_cancel", "post", but(OWNERS, 409)),
    Case("annotation_run_retry", "post", but(OWNERS, 409)),
    Case("annotations", "get", OWNERS),
    Case("annotation", "get", OWNERS),
    Case("criticism_runs", "get", OWNERS),
    Case("criticism_runs", "post", but(OWNERS, 201), {**_PROMPTED, "annotation_run": "@annotation_run_id"}),
    Case("criticism_run_estimate", "post", OWNERS, {**_PROMPTED, "annotation_run": "@annotation_run_id"}),
    Case("candidates", "get", OWNERS),
    Case("candidates", "post", but(OWNERS, 201), {"choices": [_PROMPTED]}),
    Case("candidates_estimate", "post", OWNERS, {"choices": [_PROMPTED]}),
    Case("candidate_grid", "post", but(OWNERS, 201), _CELLS),
    Case("candidate_grid_estimate", "post", OWNERS, _CELLS),
    Case("candidate_curves", "get", OWNERS, query="?cell=criticism-1"),
    Case("criticism_run", "get", OWNERS),
    Case("criticism_run_pause", "post", but(OWNERS, 409)),
    Case("criticism_run_resume", "post", but(OWNERS, 409)),
    Case("criticism_run_cancel", "post", but(OWNERS, 409)),
    Case("criticism_run_retry", "post", but(OWNERS, 409)),
    Case("criticism_run_quality", "get", OWNERS, query="?budget=1"),
    Case("criticisms", "get", OWNERS),
    Case("criticism", "get", OWNERS),
    Case("budget_plan", "get", OWNERS, query="?share=0.5&buffer=0.05"),
    Case("review_rounds", "get", MEMBERS),
    Case("review_rounds", "post", but(OWNERS, 201), {"criticism_run": "@criticism_run_id", "share": 0.5}),
    Case("review_round_preview", "post", OWNERS, {"criticism_run": "@criticism_run_id", "budget": 1}),
    Case("review_round", "get", MEMBERS),
    Case("review_round_accuracy", "get", OWNERS),
    Case("review_round_audits", "get", OWNERS),
    Case("review_round_audits", "post", but(OWNERS, 400), {"count": 1}),  # it is not finished
    Case("review_round_certificate", "get", OWNERS),
    Case("review_round_advice", "get", OWNERS),
    Case("review_round_raise", "post", OWNERS, {"budget": 3}),
    Case("review_round_raise_preview", "post", OWNERS, {"share": 0.75}),
    Case("review_round_next", "post", MEMBERS),
    Case("review_round_undo", "post", but(MEMBERS, 400)),  # nobody has answered anything
    Case("review_round_release", "post", MEMBERS),
    Case("review_round_close", "post", OWNERS),
    Case("review_round_reopen", "post", OWNERS),
    Case("review_task", "get", MEMBERS),
    Case("review_task_submit", "post", MEMBERS, {"action": "skip"}),
    Case("exports", "get", OWNERS),
    Case("exports", "post", but(OWNERS, 202), {"round": "@round_id"}),
    Case("export", "get", OWNERS),
    Case("export_download", "get", but(OWNERS, 409)),
    Case("export_card", "get", but(OWNERS, 409)),
]

LISTS = (
    "tokens",
    "connections",
    "prices",
    "projects",
    "labels",
    "members",
    "uploads",
    "rejected_rows",
    "items",
    "annotation_runs",
    "annotations",
    "criticism_runs",
    "criticisms",
    "review_rounds",
    "review_round_audits",
    "exports",
)
