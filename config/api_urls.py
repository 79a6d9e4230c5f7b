"""Every address of the API, under /api/v1/."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView

from annotate.api import connections, history, items, members, projects, runs, tokens, uploads
from annotate.api.endpoint import UnknownAddress
from criticize.api import candidates
from criticize.api import runs as criticism_runs
from review.api import (
    adjudications,
    advice,
    agreement,
    assignment,
    audits,
    budget,
    comments,
    dashboard,
    exports,
    figures,
    guidelines,
    keys,
    known_items,
    queue,
    rounds,
)
from review.api import items as listed_items
from route.api import comparison_sets, meta_routers, plan_actions, routers, trace_routers

app_name = "api"

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("tokens/", tokens.Tokens.as_view(), name="tokens"),
    path("tokens/<str:key>/", tokens.OneToken.as_view(), name="token"),
    path("account/review-keys/", keys.ReviewKeys.as_view(), name="review_keys"),
    path("connections/", connections.Connections.as_view(), name="connections"),
    path("connections/<int:connection_id>/", connections.OneConnection.as_view(), name="connection"),
    path(
        "connections/<int:connection_id>/test/", connections.ConnectionTest.as_view(), name="connection_test"
    ),
    path(
        "connections/<int:connection_id>/models/",
        connections.ConnectionModels.as_view(),
        name="connection_models",
    ),
    path("prices/", connections.Prices.as_view(), name="prices"),
    path("prices/shipped/", connections.ShippedPrices.as_view(), name="shipped_prices"),
    path("prices/<int:price_id>/", connections.OnePrice.as_view(), name="price"),
    path("projects/", projects.Projects.as_view(), name="projects"),
    path("projects/<int:project_id>/", projects.OneProject.as_view(), name="project"),
    path("projects/<int:project_id>/labels/", projects.Labels.as_view(), name="labels"),
    path("labels/<int:label_id>/", projects.OneLabel.as_view(), name="label"),
    path("projects/<int:project_id>/guidelines/", guidelines.Guidelines.as_view(), name="guidelines"),
    path("labels/<int:label_id>/examples/", guidelines.LabelExamples.as_view(), name="label_examples"),
    path("label-examples/<int:example_id>/", guidelines.OneLabelExample.as_view(), name="label_example"),
    path("projects/<int:project_id>/members/", members.Members.as_view(), name="members"),
    path("members/<int:member_id>/", members.OneMember.as_view(), name="member"),
    path("projects/<int:project_id>/invitations/", members.Invitations.as_view(), name="invitations"),
    path("invitations/<int:invitation_id>/", members.OneInvitation.as_view(), name="invitation"),
    path("projects/<int:project_id>/my-figures/", figures.OwnFigures.as_view(), name="my_figures"),
    path("projects/<int:project_id>/corrections/", figures.Corrections.as_view(), name="corrections"),
    path("projects/<int:project_id>/changes/", history.Changes.as_view(), name="changes"),
    path("projects/<int:project_id>/uploads/", uploads.Uploads.as_view(), name="uploads"),
    path("uploads/<int:upload_id>/", uploads.OneUpload.as_view(), name="upload"),
    path("uploads/<int:upload_id>/preview/", uploads.UploadPreview.as_view(), name="upload_preview"),
    path("uploads/<int:upload_id>/import/", uploads.UploadImport.as_view(), name="upload_import"),
    path("uploads/<int:upload_id>/resume/", uploads.UploadResume.as_view(), name="upload_resume"),
    path("uploads/<int:upload_id>/cancel/", uploads.UploadCancel.as_view(), name="upload_cancel"),
    path("uploads/<int:upload_id>/rejected-rows/", uploads.RejectedRows.as_view(), name="rejected_rows"),
    path(
        "uploads/<int:upload_id>/rejected-rows/file/",
        uploads.RejectedRowsFile.as_view(),
        name="rejected_rows_file",
    ),
    path("projects/<int:project_id>/items/", listed_items.Items.as_view(), name="items"),
    path("projects/<int:project_id>/items/actions/", listed_items.ItemActions.as_view(), name="item_actions"),
    path(
        "projects/<int:project_id>/items/actions/<int:change_id>/undo/",
        listed_items.ItemActionUndo.as_view(),
        name="item_action_undo",
    ),
    path("projects/<int:project_id>/saved-views/", listed_items.SavedViews.as_view(), name="saved_views"),
    path("saved-views/<int:view_id>/", listed_items.OneSavedView.as_view(), name="saved_view"),
    path(
        "projects/<int:project_id>/items/by-external-id/",
        items.ItemByExternalId.as_view(),
        name="item_by_external_id",
    ),
    path("items/<int:item_id>/", items.OneItem.as_view(), name="item"),
    path("items/<int:item_id>/comments/", comments.Comments.as_view(), name="comments"),
    path("comments/<int:comment_id>/resolve/", comments.CommentResolve.as_view(), name="comment_resolve"),
    path("items/<int:item_id>/image/", items.ItemImage.as_view(), name="item_image"),
    path("projects/<int:project_id>/calibration/", items.Calibration.as_view(), name="calibration"),
    path(
        "projects/<int:project_id>/calibration/from-gold/",
        items.CalibrationFromGold.as_view(),
        name="calibration_from_gold",
    ),
    path("projects/<int:project_id>/annotation-runs/", runs.AnnotationRuns.as_view(), name="annotation_runs"),
    path(
        "projects/<int:project_id>/annotation-runs/estimate/",
        runs.AnnotationRunEstimate.as_view(),
        name="annotation_run_estimate",
    ),
    path(
        "projects/<int:project_id>/annotation-runs/vote/",
        runs.AnnotationVote.as_view(),
        name="annotation_vote",
    ),
    path(
        "projects/<int:project_id>/annotation-runs/discussion/",
        runs.AnnotationDiscussion.as_view(),
        name="annotation_discussion",
    ),
    path(
        "projects/<int:project_id>/annotation-runs/discussion/estimate/",
        runs.AnnotationDiscussionEstimate.as_view(),
        name="annotation_discussion_estimate",
    ),
    path("annotation-runs/<int:run_id>/", runs.OneAnnotationRun.as_view(), name="annotation_run"),
    *(
        path(
            f"annotation-runs/<int:run_id>/{action}/",
            runs.AnnotationRunAction.as_view(action_name=action),
            name=f"annotation_run_{action}",
        )
        for action in ("pause", "cancel", "retry")
    ),
    path(
        "annotation-runs/<int:run_id>/resume/",
        runs.AnnotationRunResume.as_view(),
        name="annotation_run_resume",
    ),
    path("annotation-runs/<int:run_id>/annotations/", runs.Annotations.as_view(), name="annotations"),
    path("annotations/<int:annotation_id>/", runs.OneAnnotation.as_view(), name="annotation"),
    path(
        "projects/<int:project_id>/criticism-runs/",
        criticism_runs.CriticismRuns.as_view(),
        name="criticism_runs",
    ),
    path(
        "projects/<int:project_id>/criticism-runs/estimate/",
        criticism_runs.CriticismRunEstimate.as_view(),
        name="criticism_run_estimate",
    ),
    path("projects/<int:project_id>/candidates/", candidates.Candidates.as_view(), name="candidates"),
    path(
        "projects/<int:project_id>/candidates/estimate/",
        candidates.CandidateEstimate.as_view(),
        name="candidates_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/grid/",
        candidates.CandidateGrid.as_view(),
        name="candidate_grid",
    ),
    path(
        "projects/<int:project_id>/candidates/grid/estimate/",
        candidates.CandidateGridEstimate.as_view(),
        name="candidate_grid_estimate",
    ),
    path(
        "projects/<int:project_id>/candidates/curves/",
        candidates.CandidateCurves.as_view(),
        name="candidate_curves",
    ),
    path("criticism-runs/<int:run_id>/", criticism_runs.OneCriticismRun.as_view(), name="criticism_run"),
    *(
        path(
            f"criticism-runs/<int:run_id>/{action}/",
            criticism_runs.CriticismRunAction.as_view(action_name=action),
            name=f"criticism_run_{action}",
        )
        for action in ("pause", "cancel", "retry")
    ),
    path(
        "criticism-runs/<int:run_id>/resume/",
        criticism_runs.CriticismRunResume.as_view(),
        name="criticism_run_resume",
    ),
    path(
        "criticism-runs/<int:run_id>/quality/",
        criticism_runs.CriticismRunQuality.as_view(),
        name="criticism_run_quality",
    ),
    path("criticism-runs/<int:run_id>/criticisms/", criticism_runs.Criticisms.as_view(), name="criticisms"),
    path("criticisms/<int:criticism_id>/", criticism_runs.OneCriticism.as_view(), name="criticism"),
    path("projects/<int:project_id>/budget-plan/", budget.ProjectBudgetPlan.as_view(), name="budget_plan"),
    path("projects/<int:project_id>/review-rounds/", rounds.ReviewRounds.as_view(), name="review_rounds"),
    path(
        "projects/<int:project_id>/review-rounds/preview/",
        rounds.ReviewRoundPreview.as_view(),
        name="review_round_preview",
    ),
    path("review-rounds/<int:round_id>/", rounds.OneReviewRound.as_view(), name="review_round"),
    path(
        "review-rounds/<int:round_id>/accuracy/",
        rounds.ReviewRoundAccuracy.as_view(),
        name="review_round_accuracy",
    ),
    path(
        "review-rounds/<int:round_id>/audits/",
        audits.ReviewRoundAudits.as_view(),
        name="review_round_audits",
    ),
    path(
        "review-rounds/<int:round_id>/certificate/",
        audits.ReviewRoundCertificate.as_view(),
        name="review_round_certificate",
    ),
    path(
        "review-rounds/<int:round_id>/advice/",
        advice.ReviewRoundAdvice.as_view(),
        name="review_round_advice",
    ),
    path(
        "review-rounds/<int:round_id>/raise/",
        advice.ReviewRoundRaise.as_view(),
        name="review_round_raise",
    ),
    path(
        "review-rounds/<int:round_id>/raise-preview/",
        advice.ReviewRoundRaisePreview.as_view(),
        name="review_round_raise_preview",
    ),
    path(
        "review-rounds/<int:round_id>/setup/",
        rounds.ReviewRoundSetup.as_view(),
        name="review_round_setup",
    ),
    path(
        "review-rounds/<int:round_id>/assignment/",
        assignment.ReviewRoundAssignment.as_view(),
        name="review_round_assignment",
    ),
    path(
        "review-rounds/<int:round_id>/assignment/preview/",
        assignment.ReviewRoundAssignmentPreview.as_view(),
        name="review_round_assignment_preview",
    ),
    path(
        "review-rounds/<int:round_id>/reviewers/",
        known_items.ReviewRoundReviewers.as_view(),
        name="review_round_reviewers",
    ),
    path(
        "review-rounds/<int:round_id>/pauses/",
        known_items.ReviewRoundPauses.as_view(),
        name="review_round_pauses",
    ),
    path(
        "review-pauses/<int:pause_id>/lift/",
        known_items.ReviewPauseLift.as_view(),
        name="review_pause_lift",
    ),
    path(
        "projects/<int:project_id>/hand-back/", assignment.ProjectHandBack.as_view(), name="project_hand_back"
    ),
    path("review-rounds/<int:round_id>/next/", queue.ReviewRoundNext.as_view(), name="review_round_next"),
    path("review-rounds/<int:round_id>/undo/", queue.ReviewRoundUndo.as_view(), name="review_round_undo"),
    path(
        "review-rounds/<int:round_id>/release/",
        queue.ReviewRoundRelease.as_view(),
        name="review_round_release",
    ),
    path("review-rounds/<int:round_id>/close/", rounds.ReviewRoundClose.as_view(), name="review_round_close"),
    path(
        "review-rounds/<int:round_id>/reopen/", rounds.ReviewRoundReopen.as_view(), name="review_round_reopen"
    ),
    path("review-tasks/<int:task_id>/", queue.OneReviewTask.as_view(), name="review_task"),
    path("review-tasks/<int:task_id>/submit/", queue.ReviewTaskSubmit.as_view(), name="review_task_submit"),
    path("projects/<int:project_id>/dashboard/", dashboard.Dashboard.as_view(), name="dashboard"),
    path(
        "projects/<int:project_id>/dashboard/table/",
        dashboard.DashboardTable.as_view(),
        name="dashboard_table",
    ),
    path(
        "projects/<int:project_id>/adjudications/",
        adjudications.Adjudications.as_view(),
        name="adjudications",
    ),
    path("projects/<int:project_id>/agreement/", agreement.ProjectAgreement.as_view(), name="agreement"),
    path(
        "review-rounds/<int:round_id>/display/",
        agreement.ReviewRoundDisplay.as_view(),
        name="review_round_display",
    ),
    path("projects/<int:project_id>/exports/", exports.Exports.as_view(), name="exports"),
    path("exports/<int:export_id>/", exports.OneExport.as_view(), name="export"),
    path("exports/<int:export_id>/download/", exports.ExportDownload.as_view(), name="export_download"),
    path("exports/<int:export_id>/card/", exports.ExportCard.as_view(), name="export_card"),
    path("exports/<int:export_id>/resume/", exports.ExportResume.as_view(), name="export_resume"),
    path("exports/<int:export_id>/cancel/", exports.ExportCancel.as_view(), name="export_cancel"),
    path("projects/<int:project_id>/routers/", routers.Routers.as_view(), name="routers"),
    path(
        "projects/<int:project_id>/routers/vectors-estimate/",
        routers.RouterVectorsEstimate.as_view(),
        name="router_vectors_estimate",
    ),
    path(
        "projects/<int:project_id>/routers/deferral/",
        routers.DeferralRouters.as_view(),
        name="deferral_routers",
    ),
    path("projects/<int:project_id>/routers/meta/", meta_routers.MetaRouters.as_view(), name="meta_routers"),
    path(
        "projects/<int:project_id>/comparison-sets/",
        comparison_sets.ComparisonSets.as_view(),
        name="comparison_sets",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/",
        comparison_sets.OneComparisonSet.as_view(),
        name="comparison_set",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/preview/",
        comparison_sets.ComparisonSetPreview.as_view(),
        name="comparison_set_preview",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/import/",
        comparison_sets.ComparisonSetImport.as_view(),
        name="comparison_set_import",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/resume/",
        comparison_sets.ComparisonSetResume.as_view(),
        name="comparison_set_resume",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/cancel/",
        comparison_sets.ComparisonSetCancel.as_view(),
        name="comparison_set_cancel",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/rejected-rows/file/",
        comparison_sets.RejectedComparisonsFile.as_view(),
        name="rejected_comparisons_file",
    ),
    path(
        "comparison-sets/<int:comparison_set_id>/routers/",
        comparison_sets.UploadedRouters.as_view(),
        name="uploaded_routers",
    ),
    path("projects/<int:project_id>/judge-runs/", meta_routers.JudgeRuns.as_view(), name="judge_runs"),
    path(
        "projects/<int:project_id>/judge-runs/estimate/",
        meta_routers.JudgeRunEstimate.as_view(),
        name="judge_run_estimate",
    ),
    path(
        "projects/<int:project_id>/judge-runs/missing/",
        meta_routers.MissingJudgeRuns.as_view(),
        name="missing_judge_runs",
    ),
    path(
        "projects/<int:project_id>/judge-runs/missing/estimate/",
        meta_routers.MissingJudgeRunsEstimate.as_view(),
        name="missing_judge_runs_estimate",
    ),
    path("judge-runs/<int:judge_run_id>/", meta_routers.OneJudgeRun.as_view(), name="judge_run"),
    path(
        "judge-runs/<int:judge_run_id>/preferences/",
        meta_routers.Preferences.as_view(),
        name="judge_run_preferences",
    ),
    *(
        path(
            f"judge-runs/<int:judge_run_id>/{action}/",
            meta_routers.JudgeRunAction.as_view(action_name=action),
            name=f"judge_run_{action}",
        )
        for action in ("pause", "cancel", "retry")
    ),
    path(
        "judge-runs/<int:judge_run_id>/resume/",
        meta_routers.JudgeRunResume.as_view(),
        name="judge_run_resume",
    ),
    path(
        "projects/<int:project_id>/routers/trace/", trace_routers.TraceRouters.as_view(), name="trace_routers"
    ),
    path(
        "projects/<int:project_id>/routers/trace/estimate/",
        trace_routers.TraceRouterEstimate.as_view(),
        name="trace_router_estimate",
    ),
    path("routers/<int:router_id>/", routers.OneRouter.as_view(), name="router"),
    path("routers/<int:router_id>/pause/", trace_routers.RouterPause.as_view(), name="router_pause"),
    path("routers/<int:router_id>/resume/", trace_routers.RouterResume.as_view(), name="router_resume"),
    path(
        "routers/<int:router_id>/traced-preview/",
        trace_routers.TracedPreviews.as_view(),
        name="traced_preview",
    ),
    path("routers/<int:router_id>/traced-runs/", trace_routers.TracedRuns.as_view(), name="traced_runs"),
    path("traced-runs/<int:traced_id>/", trace_routers.OneTracedRun.as_view(), name="traced_run"),
    path("routers/<int:router_id>/cancel/", routers.RouterCancel.as_view(), name="router_cancel"),
    path("routers/<int:router_id>/file/", routers.RouterFile.as_view(), name="router_file"),
    path("routers/<int:router_id>/route/", comparison_sets.RouterTexts.as_view(), name="router_texts"),
    path(
        "routers/<int:router_id>/expected-gains/file/",
        comparison_sets.ExpectedGainsFile.as_view(),
        name="expected_gains_file",
    ),
    path("routers/<int:router_id>/plan-preview/", routers.PlanPreviews.as_view(), name="plan_preview"),
    path("routers/<int:router_id>/plans/", routers.Plans.as_view(), name="plans"),
    path("plans/<int:plan_id>/", routers.OnePlan.as_view(), name="plan"),
    path("plans/<int:plan_id>/watch/", plan_actions.PlanWatch.as_view(), name="plan_watch"),
    path("plans/<int:plan_id>/pause/", plan_actions.PlanPause.as_view(), name="plan_pause"),
    path("plans/<int:plan_id>/resume/", plan_actions.PlanResume.as_view(), name="plan_resume"),
    path("plans/<int:plan_id>/cancel/", plan_actions.PlanCancel.as_view(), name="plan_cancel"),
    re_path("", UnknownAddress.as_view(), name="unknown_address"),
]
