from django.urls import path

from annotate.views import (
    accounts,
    connections,
    history,
    images,
    invitations,
    projects,
    runs,
    styleguide,
    uploads,
)

_PROJECT = "projects/<int:project_id>/"
_SETTINGS = f"{_PROJECT}settings/"
_UPLOADS = f"{_PROJECT}uploads/"
_RUNS = f"{_PROJECT}annotation-runs/"

urlpatterns = [
    # People
    path("accounts/sign-in/", accounts.SignIn.as_view(), name="sign_in"),
    path("accounts/sign-out/", accounts.SignOut.as_view(), name="sign_out"),
    path("accounts/password/", accounts.PasswordChange.as_view(), name="password_change"),
    path("account/", accounts.account, name="account"),
    path("account/projects/<int:project_id>/leave/", accounts.project_leave, name="project_leave"),
    path("join/<str:token>/", invitations.join, name="join"),
    path("account/tokens/<str:beginning>/delete/", accounts.token_delete, name="token_delete"),
    # Connections and prices
    path("connections/", connections.connections, name="connections"),
    path("connections/new/", connections.connection_new, name="connection_new"),
    path("connections/<int:connection_id>/", connections.connection, name="connection"),
    path("connections/<int:connection_id>/test/", connections.connection_test, name="connection_test"),
    path("connections/<int:connection_id>/delete/", connections.connection_remove, name="connection_delete"),
    path("prices/", connections.prices, name="prices"),
    path("prices/<int:price_id>/delete/", connections.price_remove, name="price_delete"),
    # Projects
    path("projects/new/", projects.project_new, name="project_new"),
    path(_SETTINGS, projects.project_settings, name="project_settings"),
    path(f"{_SETTINGS}labels/", projects.label_new, name="label_new"),
    path(f"{_SETTINGS}labels/<int:label_id>/", projects.label_edit, name="label_edit"),
    path(f"{_SETTINGS}labels/<int:label_id>/delete/", projects.label_remove, name="label_delete"),
    path(f"{_SETTINGS}delete/", projects.project_remove, name="project_delete"),
    path(f"{_PROJECT}history/", history.history, name="history"),
    path(f"{_PROJECT}history/changes.csv", history.history_csv, name="history_csv"),
    # Uploads and items
    path(_UPLOADS, uploads.uploads, name="uploads"),
    path(f"{_UPLOADS}<int:upload_id>/", uploads.upload, name="upload"),
    path(f"{_UPLOADS}<int:upload_id>/rejected.csv", uploads.upload_rejected, name="upload_rejected"),
    path(f"{_UPLOADS}<int:upload_id>/delete/", uploads.upload_delete, name="upload_delete"),
    path(
        f"{_UPLOADS}<int:upload_id>/resume/",
        uploads.upload_action,
        {"action": "resume"},
        name="upload_resume",
    ),
    path(
        f"{_UPLOADS}<int:upload_id>/cancel/",
        uploads.upload_action,
        {"action": "cancel"},
        name="upload_cancel",
    ),
    path(f"{_PROJECT}items/<int:item_id>/image/", images.item_image, name="item_image"),
    path(f"{_PROJECT}items/<int:item_id>/thumbnail/", images.item_thumbnail, name="item_thumbnail"),
    # Annotation runs
    path(_RUNS, runs.annotation_runs, name="annotation_runs"),
    path(f"{_RUNS}estimate/", runs.annotation_run_estimate, name="annotation_run_estimate"),
    path(f"{_RUNS}models/", runs.connection_models, name="connection_models"),
    path(f"{_RUNS}combine/", runs.annotation_run_combine, name="annotation_run_combine"),
    path(
        f"{_RUNS}combine/estimate/",
        runs.annotation_run_combine_estimate,
        name="annotation_run_combine_estimate",
    ),
    path(f"{_RUNS}<int:run_id>/", runs.annotation_run, name="annotation_run"),
    path(f"{_RUNS}<int:run_id>/<str:action>/", runs.annotation_run_action, name="annotation_run_action"),
    path("styleguide", styleguide.styleguide, name="styleguide"),
]
