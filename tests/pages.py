"""Every page with who may open it, and every form with who may send it. A new one needs a row here."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, reverse

from annotate.models import Invitation
from annotate.services.invitations import invitation_token
from config.urls import urlpatterns
from tests.api.endpoints import (
    ANYBODY,
    ANYBODY_SIGNED_IN,
    MANAGERS,
    MEMBERS,
    OWNERS,
    REVIEWERS,
    SEERS,
    THE_PERSON,
    Expected,
    but,
)
from tests.api.world import World

# By the name of the address: the status that each person's GET is answered with. Who is not signed in is sent to do so.
GETS: dict[str, Expected] = {
    "healthz": ANYBODY,
    "readyz": but(ANYBODY, 503),  # no worker runs
    "metrics": Expected(403, 403, 403, 403, 403, 200),
    "sign_in": Expected(200, 302, 302, 302, 302, 302),
    "password_change": ANYBODY_SIGNED_IN,
    "account": ANYBODY_SIGNED_IN,
    "connections": ANYBODY_SIGNED_IN,
    "connection_new": ANYBODY_SIGNED_IN,
    "connection": THE_PERSON,
    "prices": ANYBODY_SIGNED_IN,
    "projects": ANYBODY_SIGNED_IN,
    "project_new": ANYBODY_SIGNED_IN,
    "project": MEMBERS,
    "project_settings": SEERS,
    "people": SEERS,
    "answers_csv": SEERS,
    "history": SEERS,
    "history_csv": SEERS,
    "join": ANYBODY,
    "uploads": SEERS,
    "upload": SEERS,
    "upload_rejected": SEERS,
    "items": SEERS,
    "item": SEERS,
    "item_image": MEMBERS,
    "item_thumbnail": MEMBERS,
    "item_permalink": but(SEERS, 302),
    "item_permalink_by_query": but(SEERS, 404),  # it names no item
    "comments": SEERS,
    "guidelines": MEMBERS,
    "label_guideline": SEERS,
    "annotation_runs": SEERS,
    "annotation_run_estimate": MANAGERS,
    "connection_models": MANAGERS,
    "annotation_run_combine": but(SEERS, 302),  # there is nothing to combine
    "annotation_run_combine_estimate": MANAGERS,
    "annotation_run": SEERS,
    "criticism_runs": SEERS,
    "criticism_run_estimate": MANAGERS,
    "criticism_run": SEERS,
    "candidates": SEERS,
    "candidates_estimate": MANAGERS,
    "candidate_models": MANAGERS,
    "candidate_grid_estimate": MANAGERS,
    "calibration": SEERS,
    "budget_planner": SEERS,
    "review_rounds": SEERS,
    "review_round_preview": MANAGERS,
    "review_round": SEERS,
    "assignment_fields": MANAGERS,
    "assignment_counts": MANAGERS,
    "review": REVIEWERS,
    "review_round_audits": SEERS,
    "routing": SEERS,
    "deferral_new": SEERS,
    "embeddings_cost": MANAGERS,
    "meta_new": SEERS,
    "meta_check": MANAGERS,
    "judge_run_new": SEERS,
    "judge_run_estimate": MANAGERS,
    "judge_runs_missing": SEERS,
    "judge_runs_missing_estimate": MANAGERS,
    "judge_run": SEERS,
    "judge_run_preferences": SEERS,
    "router": SEERS,
    "router_download": but(MANAGERS, 404),  # it is not trained
    "comparison_sets": SEERS,
    "comparison_set": SEERS,
    "comparison_read": MANAGERS,
    "rejected_comparisons": but(SEERS, 302),  # they are not imported
    "router_texts": SEERS,
    "router_gains": but(SEERS, 302),  # it is about items
    "trace_new": SEERS,
    "trace_cost": MANAGERS,
    "traced_preview": MANAGERS,
    "traced_run": SEERS,
    "plan_preview": MANAGERS,
    "plan": SEERS,
    "audit_preview": MANAGERS,
    "adjudication": SEERS,
    "adjudicate": but(SEERS, 302),  # its task is no adjudication
    "agreement": SEERS,
    "agreement_csv": SEERS,
    "dashboard": SEERS,
    "exports": SEERS,
    "export_download": but(SEERS, 404),  # its file is not written
    "export_card": but(SEERS, 404),
}

# Who may send a form, by the name of the address: 200 stands for whatever the form's answer is.
POSTS: dict[str, Expected] = {
    "sign_in": ANYBODY,
    "sign_out": ANYBODY_SIGNED_IN,
    "password_change": ANYBODY_SIGNED_IN,
    "account": ANYBODY_SIGNED_IN,
    "token_delete": ANYBODY_SIGNED_IN,  # somebody else's is not found, and nothing is said about it
    "connection_new": ANYBODY_SIGNED_IN,
    "connection": THE_PERSON,
    "connection_test": THE_PERSON,
    "connection_delete": THE_PERSON,
    "prices": Expected(401, 403, 403, 403, 403, 200),
    "price_delete": Expected(401, 403, 403, 403, 403, 200),
    "project_new": ANYBODY_SIGNED_IN,
    "project_settings": MANAGERS,
    "label_new": MANAGERS,
    "label_edit": MANAGERS,
    "label_delete": MANAGERS,
    "label_guideline": MANAGERS,
    "guideline_preview": MANAGERS,
    "example_new": Expected(401, 404, 403, 403, 404, 404),  # it names no label
    "example_change": MANAGERS,
    "comment_new": MANAGERS,
    "comment_resolve": Expected(401, 404, 404, 403, 200, 200),  # a reviewer is not told that there is one
    "member_new": MANAGERS,
    "member_role": MANAGERS,
    "member_delete": MANAGERS,
    "invitation_new": MANAGERS,
    "invitation_revoke": MANAGERS,
    "join": ANYBODY,
    "project_leave": MEMBERS,
    "hand_back": REVIEWERS,
    "project_delete": OWNERS,
    "uploads": MANAGERS,
    "upload": MANAGERS,
    "upload_delete": MANAGERS,
    "upload_resume": MANAGERS,
    "upload_cancel": MANAGERS,
    "annotation_runs": MANAGERS,
    "annotation_run_combine": MANAGERS,
    "annotation_run_action": MANAGERS,
    "criticism_runs": MANAGERS,
    "criticism_run_action": MANAGERS,
    "candidates": MANAGERS,
    "candidate_grid": MANAGERS,
    "candidate_go_on": MANAGERS,
    "items_action": MANAGERS,
    "items_action_undo": MANAGERS,
    "saved_view_new": MANAGERS,
    "saved_view_delete": MANAGERS,
    "calibration": MANAGERS,
    "budget_planner": MANAGERS,
    "review_rounds": MANAGERS,
    "review_round_audits": MANAGERS,
    "review_round_action": MANAGERS,
    "round_assign": MANAGERS,
    "round_setup": MANAGERS,
    "round_reviewer": MANAGERS,
    "adjudicate": MANAGERS,
    "adjudication_take_back": MANAGERS,
    "deferral_new": MANAGERS,
    "meta_new": MANAGERS,
    "judge_run_new": MANAGERS,
    "judge_runs_missing": MANAGERS,
    "judge_run_action": MANAGERS,
    "router_action": MANAGERS,
    "comparison_sets": MANAGERS,
    "comparison_set": MANAGERS,
    "comparison_set_action": MANAGERS,
    "trace_new": MANAGERS,
    "trace_training": MANAGERS,
    "traced_new": MANAGERS,
    "traced_run_action": MANAGERS,
    "plan_new": MANAGERS,
    "plan_action": MANAGERS,
    "exports": MANAGERS,
    "export_resume": MANAGERS,
    "export_cancel": MANAGERS,
}

# What an address says in a word.
_ACTIONS = {"review_round_action": "close", "router_action": "cancel", "comparison_set_action": "cancel"}


def page_patterns(patterns: Any = urlpatterns) -> Iterator[URLPattern]:
    """Every address but the API's, which has a table of its own, and those of Django's administration."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        elif isinstance(pattern, URLResolver) and pattern.namespace not in ("api", "admin"):
            yield from page_patterns(pattern.url_patterns)


def page_address(pattern: URLPattern, world: World) -> str:
    name = pattern.name or ""
    ids = world.ids | {
        "run_id": world.ids[_run_of(name)],
        "membership_id": world.ids["member_id"],
        "token": invitation_token(Invitation.objects.get(pk=world.ids["invitation_id"])),
        "user_id": world.reviewer.pk,
        "beginning": world.ids["key"],
        "table": "overall",
        "action": _ACTIONS.get(name, "pause"),
    }
    converters = pattern.pattern.converters
    return reverse(name, kwargs={part: ids[part] for part in converters})


def _run_of(name: str) -> str:
    if name.startswith("criticism"):
        return "criticism_run_id"
    if name.startswith("judge"):
        return "judge_run_id"
    return "candidate_run_id" if name.startswith("candidate") else "annotation_run_id"
