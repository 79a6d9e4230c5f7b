"""Every address of the API with every verb it takes: what to send, and what each person is answered."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from django.urls import reverse

from config.api_urls import urlpatterns
from tests.api.world import World

ROLES = ("anonymous", "stranger", "reviewer", "viewer", "manager", "owner")
VERBS = ("get", "post", "patch", "delete")


class Expected(NamedTuple):
    """The status that each person is answered with."""

    anonymous: int
    stranger: int
    reviewer: int
    viewer: int
    manager: int
    owner: int


ANYBODY = Expected(200, 200, 200, 200, 200, 200)
ANYBODY_SIGNED_IN = Expected(401, 200, 200, 200, 200, 200)
MEMBERS = Expected(401, 404, 200, 200, 200, 200)
REVIEWERS = Expected(401, 404, 200, 403, 200, 200)  # all who answer items
SEERS = Expected(401, 404, 403, 200, 200, 200)
MANAGERS = Expected(401, 404, 403, 403, 200, 200)
OWNERS = Expected(401, 404, 403, 403, 403, 200)
THE_PERSON = Expected(401, 404, 404, 404, 404, 200)  # the owner, about what is theirs alone
ADMINISTRATORS = Expected(401, 403, 403, 403, 403, 200)


def but(expected: Expected, success: int) -> Expected:
    """The same people, with another status where it works."""
    return Expected(*(success if status == 200 else status for status in expected))


@dataclass(frozen=True)
class Case:
    name: str
    verb: str
    expected: Expected
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


def body_of(case: Case, world: World, role: str = "owner") -> Any:
    """The body, with the names of ids replaced by the ids of the world."""
    return case.body if isinstance(case.body, str) else with_ids(case.body, world.ids_for(role))


def with_ids(value: Any, ids: dict[str, Any]) -> Any:
    match value:
        case dict():
            return {name: with_ids(each, ids) for name, each in value.items()}
        case list():
            return [with_ids(each, ids) for each in value]
        case str() if value.startswith("@"):
            return ids[value[1:]]
    return value


_TRAINED = {"kind": "trained"}
_PROMPTED = {"kind": "prompted", "connection": "@connection_id", "model": "gpt-5-mini", "strategy": "naive"}
_CELLS = {"annotation_runs": ["@candidate_run_id"], "choices": [_PROMPTED]}

_READ_ALONG = {"run": "@candidate_run_id", "connection": "@connection_id", "model": "small"}
_COMPARED = {"cheap": "@annotation_run_id", "premium": "@premium_run_id", **_PROMPTED}
_COMPARED_AMONG = {"agents": ["@annotation_run_id", "@premium_run_id"], **_PROMPTED}
_COMPARISON_COLUMNS = {"query": "query", "gold": "gold", "preference": "preference"}
_HALF = {"by": "shares", "shares": [{"reviewer": "rita", "share": 0.5}]}
CASES = [
    Case("schema", "get", ANYBODY),
    Case("unknown_address", "get", but(ANYBODY, 404)),
    Case("tokens", "get", ANYBODY_SIGNED_IN),
    Case("tokens", "post", but(ANYBODY_SIGNED_IN, 201)),
    Case("token", "delete", but(THE_PERSON, 204)),
    Case("review_keys", "get", ANYBODY_SIGNED_IN),
    Case("review_keys", "patch", ANYBODY_SIGNED_IN, {"keys": {"skip": ["k"]}}),
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
    Case("project", "patch", MANAGERS, {"instructions": "Look twice."}),
    Case("project", "delete", but(OWNERS, 204), query="?confirm_name=Tweets"),
    Case("labels", "get", MEMBERS),
    Case("labels", "post", but(MANAGERS, 201), {"name": "mixed"}),
    Case("label", "patch", MANAGERS, {"name": "mixed"}),
    Case("label", "delete", but(MANAGERS, 400)),  # once there is a run, labels stay
    Case("guidelines", "get", MEMBERS),
    Case("label_examples", "get", MEMBERS),
    Case("label_examples", "post", but(MANAGERS, 201), {"item": "@item_id", "note": "Plainly so."}),
    Case("label_example", "patch", MANAGERS, {"note": "Why."}),
    Case("label_example", "delete", but(MANAGERS, 204)),
    Case("members", "get", SEERS),
    Case("members", "post", but(MANAGERS, 201), {"username": "sam", "role": "reviewer"}),
    Case("member", "patch", MANAGERS, {"role": "viewer"}),
    Case(
        "member", "delete", Expected(401, 404, 204, 403, 204, 204)
    ),  # reviewers leave by it: it is their own
    Case("invitations", "get", MANAGERS),
    Case("invitations", "post", but(MANAGERS, 201), {"role": "reviewer", "note": "For Ruth", "most_uses": 3}),
    Case("invitation", "delete", but(MANAGERS, 204)),
    Case("changes", "get", SEERS),
    Case("my_figures", "get", REVIEWERS),
    Case("corrections", "get", SEERS),
    Case("uploads", "get", SEERS),
    Case("uploads", "post", but(MANAGERS, 201), "a file"),
    Case("upload", "get", SEERS),
    Case("upload", "delete", but(MANAGERS, 204)),
    Case("upload_preview", "get", SEERS),
    Case("upload_resume", "post", but(MANAGERS, 400)),  # it was not begun
    Case("upload_cancel", "post", but(MANAGERS, 400)),
    Case(
        "upload_import",
        "post",
        but(MANAGERS, 202),
        {"mapping": {"id": "id", "text": "tweet", "gold": "label"}},
    ),
    Case("rejected_rows", "get", SEERS),
    Case("rejected_rows_file", "get", SEERS),
    Case("items", "get", SEERS, query="?sort=error_high&status=waiting&gold=yes"),
    Case("item_actions", "post", MANAGERS, {"action": "comment", "items": ["@item_id"], "text": "Hm."}),
    Case("item_action_undo", "post", but(MANAGERS, 400)),  # nothing was done to many items
    Case("saved_views", "get", SEERS),
    Case("saved_views", "post", but(MANAGERS, 201), {"name": "Doubtful", "filter": {"eps_min": "0.8"}}),
    Case("saved_view", "delete", but(MANAGERS, 204)),
    Case("item", "get", SEERS),
    Case("item_image", "get", MEMBERS),
    Case("item_by_external_id", "get", SEERS, query="?external_id=tweet%2F1"),
    Case("comments", "get", MEMBERS),
    Case("comments", "post", but(MANAGERS, 201), {"text": "Is that irony?"}),
    # A reviewer is not told of others' comments before the answer; a viewer reads them.
    Case("comment_resolve", "post", Expected(401, 404, 404, 403, 200, 200), {"resolved": True}),
    Case("calibration", "get", SEERS),
    Case("calibration_from_gold", "post", but(MANAGERS, 201), {"count": 2}),
    Case("annotation_runs", "get", SEERS),
    Case("annotation_runs", "post", but(MANAGERS, 201), _PROMPTED),
    Case("annotation_run_estimate", "post", MANAGERS, _PROMPTED),
    Case("annotation_vote", "post", but(MANAGERS, 400), {"sources": [1, 1]}),  # not two runs
    Case("annotation_discussion", "post", but(MANAGERS, 400), {"sources": [1, 1]}),
    Case("annotation_discussion_estimate", "post", but(MANAGERS, 400), {"sources": [1, 1]}),
    Case("annotation_run", "get", SEERS),
    Case("annotation_run_pause", "post", but(MANAGERS, 409)),
    Case("annotation_run_resume", "post", but(MANAGERS, 409)),
    Case("annotation_run_cancel", "post", but(MANAGERS, 409)),
    Case("annotation_run_retry", "post", but(MANAGERS, 409)),
    Case("annotations", "get", SEERS),
    Case("annotation", "get", SEERS),
    Case("criticism_runs", "get", SEERS),
    Case("criticism_runs", "post", but(MANAGERS, 201), {**_PROMPTED, "annotation_run": "@annotation_run_id"}),
    Case("criticism_run_estimate", "post", MANAGERS, {**_PROMPTED, "annotation_run": "@annotation_run_id"}),
    Case("candidates", "get", SEERS),
    Case("candidates", "post", but(MANAGERS, 201), {"choices": [_PROMPTED]}),
    Case("candidates_estimate", "post", MANAGERS, {"choices": [_PROMPTED]}),
    Case("candidate_grid", "post", but(MANAGERS, 201), _CELLS),
    Case("candidate_grid_estimate", "post", MANAGERS, _CELLS),
    Case("candidate_curves", "get", SEERS, query="?cell=criticism-1"),
    Case("criticism_run", "get", SEERS),
    Case("criticism_run_pause", "post", but(MANAGERS, 409)),
    Case("criticism_run_resume", "post", but(MANAGERS, 409)),
    Case("criticism_run_cancel", "post", but(MANAGERS, 409)),
    Case("criticism_run_retry", "post", but(MANAGERS, 409)),
    Case("criticism_run_quality", "get", SEERS, query="?budget=1"),
    Case("criticisms", "get", SEERS),
    Case("criticism", "get", SEERS),
    Case("budget_plan", "get", SEERS, query="?share=0.5&buffer=0.05"),
    Case("review_rounds", "get", MEMBERS),
    Case("routers", "get", SEERS),
    Case("router_vectors_estimate", "post", MANAGERS, {"kind": "plain"}),
    Case(
        "deferral_routers",
        "post",
        but(MANAGERS, 400),  # too little is known
        {"agents": [{"run": "@candidate_run_id"}, {"run": None}], "mistake": "0.4"},
    ),
    Case("meta_routers", "post", but(MANAGERS, 400), {"judge_run": "@judge_run_id"}),  # too little is known
    Case("judge_runs", "get", SEERS),
    Case("judge_runs", "post", but(MANAGERS, 201), _COMPARED),
    Case("judge_run_estimate", "post", MANAGERS, _COMPARED),
    Case("missing_judge_runs", "post", but(MANAGERS, 201), _COMPARED_AMONG),
    Case("missing_judge_runs_estimate", "post", MANAGERS, _COMPARED_AMONG),
    Case("judge_run", "get", SEERS),
    Case("judge_run_preferences", "get", SEERS),
    Case("judge_run_pause", "post", but(MANAGERS, 409)),
    Case("judge_run_resume", "post", but(MANAGERS, 409)),
    Case("judge_run_cancel", "post", but(MANAGERS, 409)),
    Case("judge_run_retry", "post", but(MANAGERS, 409)),
    Case("trace_routers", "post", but(MANAGERS, 400), _READ_ALONG),  # it does not number its steps
    Case("trace_router_estimate", "post", but(MANAGERS, 400), _READ_ALONG),
    Case("router_pause", "post", but(MANAGERS, 409)),
    Case("router_resume", "post", but(MANAGERS, 409)),
    Case("traced_preview", "post", but(MANAGERS, 400), {"limit": 0.3}),  # it reads no traces
    Case("traced_runs", "get", SEERS),
    Case("traced_runs", "post", but(MANAGERS, 400), {"limit": 0.3}),
    Case("traced_run", "get", SEERS),
    Case("router", "get", SEERS),
    Case("router_cancel", "post", but(MANAGERS, 409)),
    Case("router_file", "get", but(SEERS, 409)),
    Case("router_texts", "post", but(SEERS, 400), {"queries": ["why"]}),  # it hands out items
    Case("expected_gains_file", "get", but(SEERS, 400)),
    Case("comparison_sets", "get", SEERS),
    Case("comparison_sets", "post", but(MANAGERS, 201), "a file"),
    Case("comparison_set", "get", SEERS),
    Case("comparison_set", "delete", but(MANAGERS, 204)),
    Case("comparison_set_preview", "get", SEERS),
    Case("comparison_set_import", "post", but(MANAGERS, 202), {"mapping": _COMPARISON_COLUMNS}),
    Case("comparison_set_resume", "post", but(MANAGERS, 400)),  # it was not begun
    Case("comparison_set_cancel", "post", but(MANAGERS, 400)),
    Case("rejected_comparisons_file", "get", but(SEERS, 400)),
    Case("uploaded_routers", "post", but(MANAGERS, 400), {}),  # it is not imported
    Case("plan_preview", "post", but(MANAGERS, 400), {"people": 1}),
    Case("plans", "get", SEERS),
    Case("plans", "post", but(MANAGERS, 400), {"people": 1}),
    Case("plan", "get", SEERS),
    Case("plan_watch", "get", SEERS),
    Case("plan_pause", "post", but(MANAGERS, 409)),
    Case("plan_resume", "post", but(MANAGERS, 409)),
    Case("plan_cancel", "post", but(MANAGERS, 409)),
    Case("review_rounds", "post", but(MANAGERS, 201), {"criticism_run": "@criticism_run_id", "share": 0.5}),
    Case("review_round_preview", "post", MANAGERS, {"criticism_run": "@criticism_run_id", "budget": 1}),
    Case("review_round", "get", MEMBERS),
    Case("review_round_accuracy", "get", SEERS),
    Case("review_round_audits", "get", SEERS),
    Case("review_round_audits", "post", but(MANAGERS, 400), {"count": 1}),  # it is not finished
    Case("review_round_certificate", "get", SEERS),
    Case("review_round_advice", "get", SEERS),
    Case("review_round_raise", "post", MANAGERS, {"budget": 3}),
    Case("review_round_raise_preview", "post", MANAGERS, {"share": 0.75}),
    Case("review_round_setup", "patch", MANAGERS, {"display": "label"}),
    Case("review_round_assignment", "post", MANAGERS, _HALF),
    Case("review_round_assignment_preview", "post", MANAGERS, _HALF),
    Case("review_round_reviewers", "get", MANAGERS),
    Case("review_round_pauses", "get", SEERS),
    Case("review_round_pauses", "post", but(MANAGERS, 201), {"reviewer": "mona"}),
    Case("review_pause_lift", "post", MANAGERS),
    Case("project_hand_back", "post", REVIEWERS),
    Case("review_round_next", "post", REVIEWERS),
    Case("review_round_undo", "post", but(REVIEWERS, 400)),  # nobody has answered anything
    Case("review_round_release", "post", REVIEWERS),
    Case("review_round_close", "post", MANAGERS),
    Case("review_round_reopen", "post", MANAGERS),
    Case("review_task", "get", REVIEWERS._replace(reviewer=404)),  # until they hold it
    Case("review_task_submit", "post", REVIEWERS, {"action": "skip"}),
    Case("dashboard", "get", SEERS),
    Case("dashboard_table", "get", SEERS, query="?name=pipeline"),
    Case("adjudications", "get", SEERS),
    Case("agreement", "get", SEERS, query="?seen=blind"),
    Case("review_round_display", "get", SEERS),
    Case("exports", "get", SEERS),
    Case("exports", "post", but(MANAGERS, 202), {"round": "@round_id"}),
    Case("export", "get", SEERS),
    Case("export_download", "get", but(SEERS, 409)),
    Case("export_card", "get", but(SEERS, 409)),
    Case("export_resume", "post", but(MANAGERS, 400)),  # it is not paused
    Case("export_cancel", "post", but(MANAGERS, 400)),  # its job is over
]

LISTS = (
    "tokens",
    "connections",
    "prices",
    "projects",
    "labels",
    "label_examples",
    "members",
    "invitations",
    "changes",
    "uploads",
    "rejected_rows",
    "items",
    "saved_views",
    "comments",
    "annotation_runs",
    "annotations",
    "criticism_runs",
    "criticisms",
    "review_rounds",
    "review_round_audits",
    "review_round_pauses",
    "adjudications",
    "exports",
    "comparison_sets",
)
