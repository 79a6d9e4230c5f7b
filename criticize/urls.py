from django.urls import path

from criticize import views, views_candidates

urlpatterns = [
    path("projects/<int:project_id>/criticism-runs/", views.criticism_runs, name="criticism_runs"),
    path(
        "projects/<int:project_id>/criticism-runs/estimate/",
        views.criticism_run_estimate,
        name="criticism_run_estimate",
    ),
    path("projects/<int:project_id>/criticism-runs/<int:run_id>/", views.criticism_run, name="criticism_run"),
    path(
        "projects/<int:project_id>/criticism-runs/<int:run_id>/<str:action>/",
        views.criticism_run_action,
        name="criticism_run_action",
    ),
    # Candidates
    path("projects/<int:project_id>/candidates/", views_candidates.candidates, name="candidates"),
    path(
        "projects/<int:project_id>/candidates/estimate/",
        views_candidates.candidates_estimate,
        name="candidates_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/models/",
        views_candidates.candidate_models,
        name="candidate_models",
    ),
    path(
        "projects/<int:project_id>/candidates/grid/", views_candidates.candidate_grid, name="candidate_grid"
    ),
    path(
        "projects/<int:project_id>/candidates/grid/estimate/",
        views_candidates.candidate_grid_estimate,
        name="candidate_grid_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/<int:run_id>/go-on/",
        views_candidates.candidate_go_on_action,
        name="candidate_go_on",
    ),
]
