from django.urls import path

from criticize import views

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
]
