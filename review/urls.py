from django.urls import path

from review.views import audits, calibration, exports, items, overview, planner, review, rounds

_ROUNDS = "projects/<int:project_id>/review-rounds/"
_EXPORTS = "projects/<int:project_id>/exports/"

urlpatterns = [
    path("", overview.projects, name="projects"),
    path("projects/<int:project_id>/", overview.project, name="project"),
    path("projects/<int:project_id>/items/<int:item_id>/", items.item, name="item"),
    path("projects/<int:project_id>/calibration/", calibration.calibration, name="calibration"),
    path("projects/<int:project_id>/budget/", planner.budget_planner, name="budget_planner"),
    path(_ROUNDS, rounds.review_rounds, name="review_rounds"),
    path(f"{_ROUNDS}preview/", rounds.review_round_preview, name="review_round_preview"),
    path(f"{_ROUNDS}<int:round_id>/", rounds.review_round, name="review_round"),
    path(f"{_ROUNDS}<int:round_id>/work/", review.review, name="review"),
    path(f"{_ROUNDS}<int:round_id>/audits/", audits.audits, name="review_round_audits"),
    path(f"{_ROUNDS}<int:round_id>/audits/preview/", audits.audit_preview, name="audit_preview"),
    path(f"{_ROUNDS}<int:round_id>/<str:action>/", rounds.review_round_action, name="review_round_action"),
    path(_EXPORTS, exports.exports, name="exports"),
    path(f"{_EXPORTS}<int:export_id>/download/", exports.export_download, name="export_download"),
    path(f"{_EXPORTS}<int:export_id>/card/", exports.export_card, name="export_card"),
]
