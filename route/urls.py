from django.urls import path

from route.views import comparison_sets, judge_runs, meta, plans, routers, routing, traces

_ROUTING = "projects/<int:project_id>/routing/"
_ROUTER = f"{_ROUTING}routers/<int:router_id>/"
_UPLOADED = f"{_ROUTING}uploaded/<int:comparison_set_id>/"
_PLAN = f"{_ROUTING}plans/<int:plan_id>/"

urlpatterns = [
    path(_ROUTING, routing.routing, name="routing"),
    path(f"{_ROUTING}deferral/", routers.deferral_new, name="deferral_new"),
    path(f"{_ROUTING}embeddings/", routers.embeddings_cost, name="embeddings_cost"),
    path(f"{_ROUTING}meta/", meta.meta_new, name="meta_new"),
    path(f"{_ROUTING}meta/check/", meta.meta_check, name="meta_check"),
    path(f"{_ROUTING}comparisons/new/", judge_runs.judge_run_new, name="judge_run_new"),
    path(f"{_ROUTING}comparisons/estimate/", judge_runs.judge_estimate, name="judge_run_estimate"),
    path(f"{_ROUTING}comparisons/missing/", judge_runs.judge_runs_missing, name="judge_runs_missing"),
    path(
        f"{_ROUTING}comparisons/missing/estimate/",
        judge_runs.judge_runs_missing_estimate,
        name="judge_runs_missing_estimate",
    ),
    path(f"{_ROUTING}comparisons/<int:run_id>/", judge_runs.judge_run, name="judge_run"),
    path(
        f"{_ROUTING}comparisons/<int:run_id>/preferences/",
        judge_runs.preferences,
        name="judge_run_preferences",
    ),
    path(
        f"{_ROUTING}comparisons/<int:run_id>/<str:action>/",
        judge_runs.judge_run_action,
        name="judge_run_action",
    ),
    path(f"{_ROUTING}uploaded/", comparison_sets.comparison_sets, name="comparison_sets"),
    path(_UPLOADED, comparison_sets.comparison_set, name="comparison_set"),
    path(f"{_UPLOADED}read/", comparison_sets.comparison_read, name="comparison_read"),
    path(f"{_UPLOADED}rejected/", comparison_sets.rejected_comparisons, name="rejected_comparisons"),
    path(f"{_UPLOADED}<str:action>/", comparison_sets.comparison_set_action, name="comparison_set_action"),
    path(_ROUTER, routers.router, name="router"),
    path(f"{_ROUTER}texts/", comparison_sets.router_texts, name="router_texts"),
    path(f"{_ROUTER}gains/", comparison_sets.router_gains, name="router_gains"),
    path(f"{_ROUTER}file/", routers.router_download, name="router_download"),
    path(f"{_ROUTER}plan/", routers.plan_new, name="plan_new"),
    path(f"{_ROUTER}plan/preview/", routers.plan_preview, name="plan_preview"),
    path(f"{_ROUTING}traces/", traces.trace_new, name="trace_new"),
    path(f"{_ROUTING}traces/cost/", traces.trace_cost, name="trace_cost"),
    path(f"{_ROUTING}traced/<int:traced_id>/", traces.traced_run, name="traced_run"),
    path(
        f"{_ROUTING}traced/<int:traced_id>/<str:action>/", traces.traced_run_action, name="traced_run_action"
    ),
    path(f"{_ROUTER}traced/", traces.traced_new, name="traced_new"),
    path(f"{_ROUTER}traced/preview/", traces.traced_preview, name="traced_preview"),
    path(f"{_ROUTER}training/<str:action>/", traces.trace_training, name="trace_training"),
    path(f"{_ROUTER}<str:action>/", routers.router_action, name="router_action"),
    path(_PLAN, plans.plan, name="plan"),
    path(f"{_PLAN}<str:action>/", plans.plan_action, name="plan_action"),
]
