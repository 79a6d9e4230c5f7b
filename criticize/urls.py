from django.urls import path

from criticize.views import candidates, runs

urlpatterns = [
    path("projects/<int:project_id>/criticism-runs/", runs.criticism_runs, name="criticism_runs"),
    path(
        "projects/<int:project_id>/criticism-runs/estimate/",
        runs.criticism_run_estimate,
        name="criticism_run_estimate",
    ),
    path("projects/<int:project_id>/criticism-runs/<int:run_id>/", runs.criticism_run, name="criticism_run"),
    path(
        "projects/<int:project_id>/criticism-runs/<int:run_id>/<str:action>/",
        runs.criticism_run_action,
        name="criticism_run_action",
    ),
    # Candidates
    path("projects/<int:project_id>/candidates/", candidates.candidates, name="candidates"),
    path(
        "projects/<int:project_id>/candidates/estimate/",
        candidates.candidates_estimate,
        name="candidates_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/models/",
        candidates.candidate_models,
        name="candidate_models",
    ),
    path("projects/<int:project_id>/candidates/grid/", candidates.candidate_grid, name="candidate_grid"),
    path(
        "projects/<int:project_id>/candidates/grid/estimate/",
        candidates.candidate_grid_estimate,
        name="candidate_grid_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/<int:run_id>/go-on/",
        candidates.candidate_go_on_action,
        name="candidate_go_on",
    ),
]
