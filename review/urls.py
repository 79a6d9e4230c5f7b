from django.urls import path

from review.views import (
    adjudication,
    agreement,
    assignment,
    audits,
    browse,
    calibration,
    comments,
    dashboard,
    exports,
    guidelines,
    item,
    overview,
    people,
    planner,
    review,
    reviewers,
    rounds,
)

_PROJECT = "projects/<int:project_id>/"
_PEOPLE = "projects/<int:project_id>/people/"
_ROUNDS = "projects/<int:project_id>/review-rounds/"
_ITEMS = "projects/<int:project_id>/items/"
_EXPORTS = "projects/<int:project_id>/exports/"

urlpatterns = [
    path("", overview.projects, name="projects"),
    path("projects/<int:project_id>/", overview.project, name="project"),
    path(f"{_PROJECT}hand-back/", overview.hand_back, name="hand_back"),
    path("projects/<int:project_id>/dashboard/", dashboard.dashboard, name="dashboard"),
    path(_ITEMS, browse.items, name="items"),
    path(f"{_ITEMS}actions/", browse.items_action, name="items_action"),
    path(f"{_ITEMS}actions/<int:change_id>/undo/", browse.items_action_undo, name="items_action_undo"),
    path(f"{_ITEMS}views/", browse.saved_view_new, name="saved_view_new"),
    path(f"{_ITEMS}views/<int:view_id>/delete/", browse.saved_view_remove, name="saved_view_delete"),
    path(f"{_ITEMS}<int:item_id>/", item.item, name="item"),
    path(f"{_ITEMS}<int:item_id>/comments/", item.comment_new, name="comment_new"),
    path(f"{_PROJECT}item/", item.item_permalink, name="item_permalink_by_query"),
    path(f"{_PROJECT}item/<path:external_id>", item.item_permalink, name="item_permalink"),
    path(f"{_PROJECT}comments/", comments.comments, name="comments"),
    path(
        f"{_PROJECT}comments/<int:comment_id>/resolve/", comments.comment_resolve_page, name="comment_resolve"
    ),
    path(f"{_PROJECT}guidelines/", guidelines.guidelines, name="guidelines"),
    path(f"{_PROJECT}guidelines/preview/", guidelines.guideline_preview, name="guideline_preview"),
    path(f"{_PROJECT}labels/<int:label_id>/guideline/", guidelines.label_guideline, name="label_guideline"),
    path(f"{_PROJECT}examples/", guidelines.example_new, name="example_new"),
    path(f"{_PROJECT}examples/<int:example_id>/", guidelines.example_change, name="example_change"),
    path(_PEOPLE, people.people, name="people"),
    path(f"{_PEOPLE}members/", people.member_new, name="member_new"),
    path(f"{_PEOPLE}members/<int:membership_id>/role/", people.member_role, name="member_role"),
    path(f"{_PEOPLE}members/<int:membership_id>/delete/", people.member_delete, name="member_delete"),
    path(f"{_PEOPLE}invitations/", people.invitation_new, name="invitation_new"),
    path(
        f"{_PEOPLE}invitations/<int:invitation_id>/revoke/",
        people.invitation_end,
        name="invitation_revoke",
    ),
    path(f"{_PEOPLE}answers.csv", people.answers_csv, name="answers_csv"),
    path("projects/<int:project_id>/calibration/", calibration.calibration, name="calibration"),
    path("projects/<int:project_id>/budget/", planner.budget_planner, name="budget_planner"),
    path(_ROUNDS, rounds.review_rounds, name="review_rounds"),
    path(f"{_ROUNDS}preview/", rounds.review_round_preview, name="review_round_preview"),
    path(f"{_ROUNDS}<int:round_id>/", rounds.review_round, name="review_round"),
    path(f"{_ROUNDS}<int:round_id>/work/", review.review, name="review"),
    path(f"{_ROUNDS}<int:round_id>/audits/", audits.audits, name="review_round_audits"),
    path(f"{_ROUNDS}<int:round_id>/audits/preview/", audits.audit_preview, name="audit_preview"),
    path(f"{_ROUNDS}<int:round_id>/assignment/", assignment.round_assign, name="round_assign"),
    path(
        f"{_ROUNDS}<int:round_id>/assignment/fields/",
        assignment.assignment_fields,
        name="assignment_fields",
    ),
    path(
        f"{_ROUNDS}<int:round_id>/assignment/counts/",
        assignment.assignment_counts,
        name="assignment_counts",
    ),
    path(f"{_ROUNDS}<int:round_id>/setup/", reviewers.round_setup, name="round_setup"),
    path(
        f"{_ROUNDS}<int:round_id>/reviewers/<int:user_id>/<str:action>/",
        reviewers.round_reviewer,
        name="round_reviewer",
    ),
    path(f"{_ROUNDS}<int:round_id>/<str:action>/", rounds.review_round_action, name="review_round_action"),
    path(f"{_PROJECT}adjudication/", adjudication.adjudication, name="adjudication"),
    path(f"{_PROJECT}adjudication/undo/", adjudication.adjudication_take_back, name="adjudication_take_back"),
    path(f"{_PROJECT}adjudication/<int:task_id>/", adjudication.adjudicate, name="adjudicate"),
    path(f"{_PROJECT}agreement/", agreement.agreement, name="agreement"),
    path(f"{_PROJECT}agreement/<str:table>.csv", agreement.agreement_csv, name="agreement_csv"),
    path(_EXPORTS, exports.exports, name="exports"),
    path(f"{_EXPORTS}<int:export_id>/download/", exports.export_download, name="export_download"),
    path(f"{_EXPORTS}<int:export_id>/card/", exports.export_card, name="export_card"),
    path(
        f"{_EXPORTS}<int:export_id>/resume/",
        exports.export_action,
        {"action": "resume"},
        name="export_resume",
    ),
    path(
        f"{_EXPORTS}<int:export_id>/cancel/",
        exports.export_action,
        {"action": "cancel"},
        name="export_cancel",
    ),
]
