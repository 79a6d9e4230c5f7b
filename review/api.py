"""Review rounds, the queue of tasks, and exports."""

from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import found_for, project_for
from annotate.api.endpoint import Endpoint, Input, ProblemSerializer, chosen
from annotate.api.items import LabelNameSerializer, image_url
from annotate.api.runs import AccuracySerializer
from annotate.errors import Refusal
from annotate.models import Project
from annotate.selectors import Accuracy
from criticize.models import CriticismRun
from jobs.api import JobProgressSerializer
from jobs.services import JobStateError
from review.drawing import BETA
from review.models import Correction, Export, ReviewRound, ReviewTask
from review.planning import BUFFER, budget_plan
from review.sampling import RULES
from review.selectors import (
    answer_taken_back,
    drawable_runs,
    final_accuracy,
    history,
    round_progress,
    task_for_reviewer,
)
from review.services.exports import export_create
from review.services.queue import (
    MOST_CLAIMED,
    Answer,
    answer_undo,
    task_submit,
    tasks_claim,
    tasks_release,
)
from review.services.rounds import (
    MOST_SEED,
    calibration_round_create,
    round_close,
    round_create,
    round_preview,
    round_reopen,
)

# --- What is said about rounds ---------------------------------------------------------------------------------------


class ReviewRoundSerializer(serializers.ModelSerializer[ReviewRound]):
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = ReviewRound
        fields = [
            "id",
            "project",
            "kind",
            "criticism_run",
            "priority",
            "rule",
            "budget",
            "parameters",
            "seed",
            "population",
            "state",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields


class ReviewRoundProgressSerializer(serializers.Serializer[Any]):
    """A round at this moment."""

    budget = serializers.IntegerField()
    selected = serializers.IntegerField()
    answered = serializers.IntegerField()
    skipped = serializers.IntegerField()
    leased = serializers.IntegerField(help_text="Being looked at.")
    waiting = serializers.IntegerField()
    corrected = serializers.IntegerField(help_text="Answers that differ from the machine's label.")
    mine = serializers.IntegerField(help_text="Answered or skipped by you.")


class ReviewRoundDetailSerializer(ReviewRoundSerializer):
    progress = serializers.SerializerMethodField()

    class Meta(ReviewRoundSerializer.Meta):
        fields = [*ReviewRoundSerializer.Meta.fields, "progress"]
        read_only_fields = fields

    @extend_schema_field(ReviewRoundProgressSerializer)
    def get_progress(self, round: ReviewRound) -> Any:
        return progress_of(round, self.context["view"])


def progress_of(round: ReviewRound, endpoint: Endpoint) -> Any:
    return ReviewRoundProgressSerializer(round_progress(round, endpoint.user)).data


class ReviewRoundDrawSerializer(Input):
    criticism_run = serializers.IntegerField(help_text="Whose criticisms the round is drawn from.")
    budget = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="Reviews. Give this or the share."
    )
    share = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=1,
        help_text="Reviews as a share of the items.",
    )
    rule = serializers.ChoiceField(list(RULES), required=False, default="threshold")
    beta = serializers.FloatField(
        required=False,
        default=BETA,
        help_text="With the rule `exponential`: how steeply chances rise at the cut.",
    )
    seed = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MOST_SEED,
        help_text="By default the project's.",
    )
    priority = serializers.ChoiceField(
        ReviewRound.Priority.choices,
        required=False,
        default=ReviewRound.Priority.CRITICISM,
        help_text="What orders the items.",
    )
    training_share = serializers.FloatField(
        required=False,
        allow_null=True,
        help_text="With the priority `cdi` and too little to learn from: the part of the budget, above 0 and below 1, "
        "that is drawn at random first.",
    )


class ReviewRoundCreateSerializer(ReviewRoundDrawSerializer):
    kind = serializers.ChoiceField(
        [ReviewRound.Kind.REVIEW, ReviewRound.Kind.CALIBRATION],
        required=False,
        default=ReviewRound.Kind.REVIEW,
    )
    criticism_run = serializers.IntegerField(
        required=False, allow_null=True, help_text="Whose criticisms the round is drawn from."
    )


class ReviewRoundPreviewSerializer(serializers.Serializer[Any]):
    """What a budget would select."""

    items = serializers.IntegerField()
    budget = serializers.IntegerField()
    planned_budget = serializers.IntegerField(help_text="With what a training draw leaves for later.")
    selected = serializers.IntegerField()
    unanswered = serializers.IntegerField(
        help_text="Items without a usable error probability; they come first."
    )
    rule = serializers.CharField()
    priority = serializers.CharField()
    seed = serializers.IntegerField()
    parameters = serializers.DictField(help_text="The rule's, such as the threshold tau.")
    inclusion_sum = serializers.FloatField(help_text="The sum of the inclusion probabilities.")
    expected_errors = serializers.FloatField(
        allow_null=True, help_text="The sum of the error probabilities; null where there are none."
    )
    expected_found = serializers.FloatField(
        allow_null=True, help_text="The same, each times its inclusion probability."
    )
    scale = serializers.CharField(help_text="What the histogram is of.")
    counts = serializers.ListField(
        child=serializers.IntegerField(), help_text="Items in 20 equal bins from 0 to 1 of the scale."
    )
    selected_counts = serializers.ListField(child=serializers.IntegerField())
    cut = serializers.FloatField(allow_null=True, help_text="Tau or alpha, on the scale.")
    curve = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="Pairs of an error probability and its inclusion probability, for rules that give chances.",
    )
    cost = serializers.FloatField(help_text="US$ for the reviews of the planned budget.")
    seconds = serializers.FloatField(
        allow_null=True, help_text="Of people's time, at the median of the project's answers."
    )


# --- What is said about tasks ----------------------------------------------------------------------------------------


class TaskItemSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    external_id = serializers.CharField()
    text = serializers.CharField()
    question = serializers.CharField()
    image_url = serializers.CharField(allow_null=True)
    image_width = serializers.IntegerField(allow_null=True)
    image_height = serializers.IntegerField(allow_null=True)
    columns = serializers.DictField()


class TaskMachineSerializer(serializers.Serializer[Any]):
    """What the machine said."""

    label_id = serializers.IntegerField(allow_null=True, help_text="Null where answers are written.")
    label = serializers.CharField()  # type: ignore[assignment]
    answer = serializers.CharField(help_text="Where answers are written.")
    reasoning = serializers.CharField()
    confidence = serializers.FloatField(allow_null=True)
    who = serializers.CharField()


class FactSerializer(serializers.Serializer[Any]):
    """A statement of a written answer: the characters from `start` up to `end`."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()
    error_prob = serializers.FloatField()


class TaskCriticismSerializer(serializers.Serializer[Any]):
    error_prob = serializers.FloatField(allow_null=True)
    quality = serializers.FloatField(
        allow_null=True, help_text="From 0 to 1, the best, where written answers are rated."
    )
    facts = FactSerializer(many=True, help_text="Where written answers are checked fact by fact.")
    reasoning = serializers.CharField()
    who = serializers.CharField()


class TaskFailureSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    message = serializers.CharField()


class ReviewTaskSerializer(serializers.Serializer[Any]):
    """An item to review. In a blind round nothing of the machine's is sent."""

    id = serializers.IntegerField()
    version = serializers.IntegerField(
        help_text="Send it with the answer: it tells whether anything changed."
    )
    rank = serializers.IntegerField(help_text="0 is the most suspicious.")
    state = serializers.ChoiceField(ReviewTask.State.choices)
    lease_until = serializers.DateTimeField(allow_null=True)
    blind = serializers.BooleanField()
    item = TaskItemSerializer()
    machine = TaskMachineSerializer(allow_null=True)
    criticism = TaskCriticismSerializer(allow_null=True)
    failure = TaskFailureSerializer(allow_null=True)


class CorrectionSerializer(serializers.ModelSerializer[Correction]):
    label = LabelNameSerializer(read_only=True, allow_null=True)  # type: ignore[assignment]
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Correction
        fields = ["id", "action", "label", "answer", "reason", "author", "seconds", "late", "created_at"]
        read_only_fields = fields


class ReviewTaskDetailSerializer(ReviewTaskSerializer):
    history = CorrectionSerializer(many=True, help_text="Everything that people did with it, first to last.")


class TaskVersionSerializer(serializers.ModelSerializer[ReviewTask]):
    class Meta:
        model = ReviewTask
        fields = ["id", "state", "version"]
        read_only_fields = fields


class ClaimSerializer(Input):
    count = serializers.IntegerField(required=False, default=1, min_value=1, max_value=MOST_CLAIMED)


class ClaimedSerializer(serializers.Serializer[Any]):
    tasks = ReviewTaskSerializer(many=True)
    progress = ReviewRoundProgressSerializer()


class AnswerSerializer(Input):
    action = serializers.ChoiceField([Correction.Action.LABEL, Correction.Action.SKIP])
    label = serializers.IntegerField(  # type: ignore[assignment]
        required=False, allow_null=True, help_text="A label's id, with action `label`."
    )
    answer = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="The whole text, with action `label`, where answers are written: the machine's again to accept it.",
    )
    reason = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Why it is skipped."
    )
    seconds = serializers.FloatField(
        required=False, allow_null=True, help_text="From showing the item to the answer."
    )
    version = serializers.IntegerField(
        required=False, allow_null=True, help_text="The task's version when it was shown."
    )
    key = serializers.UUIDField(
        required=False, allow_null=True, help_text="Your name for the answer: sent twice, it counts once."
    )


class AnswerReplySerializer(serializers.Serializer[Any]):
    correction = CorrectionSerializer()
    task = TaskVersionSerializer()
    progress = ReviewRoundProgressSerializer()


class UndoSerializer(serializers.Serializer[Any]):
    task = ReviewTaskSerializer()
    answer = serializers.CharField(help_text="The written answer that was taken back.")
    progress = ReviewRoundProgressSerializer()


class ReleaseSerializer(Input):
    tasks = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        max_length=1000,
        help_text="Ids of the tasks to hand back; by default all.",
    )


class ReleasedSerializer(serializers.Serializer[Any]):
    released = serializers.IntegerField()


# --- Rounds ----------------------------------------------------------------------------------------------------------


class RoundEndpoint(Endpoint):
    tag = "review rounds"

    def round(self, round_id: int, *, owner: bool = False) -> ReviewRound:
        rows = ReviewRound.objects.select_related("project", "created_by")
        return found_for(self.user, rows, round_id, project="project", owner=owner)


def _criticism_run(project: Project, run_id: int | None) -> CriticismRun:
    if run_id is None:
        raise Refusal("Name the criticism run to draw from.", field="criticism_run")
    rows = CriticismRun.objects.filter(annotation_run__project=project)
    return chosen(
        rows.select_related("annotation_run__project", "job"),
        run_id,
        field="criticism_run",
        what="criticism run",
    )


class ReviewRounds(RoundEndpoint):
    @extend_schema(summary="A project's rounds, newest first", responses=ReviewRoundSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id)
        return self.page(project.review_rounds.select_related("created_by"), ReviewRoundSerializer)

    @extend_schema(
        summary="Draw a round within a budget",
        description="Of kind `review` from a criticism run; of kind `calibration` random items to label blind.",
        request=ReviewRoundCreateSerializer,
        responses={201: ReviewRoundDetailSerializer},
        examples=[
            OpenApiExample(
                "A tenth of the items", value={"criticism_run": 1, "share": 0.1}, request_only=True
            ),
            OpenApiExample(
                "100 items to label blind", value={"kind": "calibration", "budget": 100}, request_only=True
            ),
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, owner=True)
        round = _round_create(self, project, self.given(ReviewRoundCreateSerializer))
        return self.reply(ReviewRoundDetailSerializer, round, status=201)


def _round_create(endpoint: Endpoint, project: Project, given: dict[str, Any]) -> ReviewRound:
    if given["kind"] == ReviewRound.Kind.CALIBRATION:
        if given.get("budget") is None:
            raise Refusal("Say how many items to label.", field="budget")
        return calibration_round_create(project=project, user=endpoint.user, count=given["budget"])
    run = _criticism_run(project, given.get("criticism_run"))
    return round_create(run=run, user=endpoint.user, **_plan(given))


def _plan(given: dict[str, Any]) -> dict[str, Any]:
    """What was sent about the draw, as `round_preview` and `round_create` take it."""
    names = ("share", "rule", "beta", "seed", "priority", "training_share")
    return {"count": given.get("budget")} | {name: given.get(name) for name in names}


class ReviewRoundPreview(RoundEndpoint):
    @extend_schema(
        summary="What a budget would select",
        description="Commits nothing. The round drawn of the same selects exactly this.",
        request=ReviewRoundDrawSerializer,
        responses={200: ReviewRoundPreviewSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, owner=True)
        given = self.given(ReviewRoundDrawSerializer)
        preview = round_preview(run=_criticism_run(project, given["criticism_run"]), **_plan(given))
        return self.reply(ReviewRoundPreviewSerializer, preview)


class OneReviewRound(RoundEndpoint):
    @extend_schema(summary="A round and its progress", responses=ReviewRoundDetailSerializer)
    def get(self, request: Request, round_id: int) -> Response:
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class ReviewRoundAccuracy(RoundEndpoint):
    @extend_schema(
        summary="The final labels against gold labels",
        description="Over all items of the round's annotation run that have gold.",
        responses=AccuracySerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        return self.reply(AccuracySerializer, Accuracy(*final_accuracy(self.round(round_id, owner=True))))


class ReviewRoundNext(RoundEndpoint):
    @extend_schema(
        summary="Take the next items to review",
        description="They are yours for ten minutes; those that you hold already come back first.",
        request=ClaimSerializer,
        responses={200: ClaimedSerializer},
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id)
        tasks = tasks_claim(round=round, user=self.user, **self.given(ClaimSerializer))
        shown = [task_for_reviewer(task, image_url(task.item)) for task in tasks]
        return self.reply(ClaimedSerializer, {"tasks": shown, "progress": progress_of(round, self)})


class ReviewRoundUndo(RoundEndpoint):
    @extend_schema(summary="Take back your last answer", request=None, responses={200: UndoSerializer})
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id)
        task = task_rows().get(pk=answer_undo(round=round, user=self.user).pk)
        shown = task_for_reviewer(task, image_url(task.item))
        return self.reply(
            UndoSerializer,
            {"task": shown, "answer": answer_taken_back(task), "progress": progress_of(round, self)},
        )


class ReviewRoundRelease(RoundEndpoint):
    @extend_schema(
        summary="Hand back what you hold and have not answered",
        description="Ids of tasks that you do not hold are passed over.",
        request=ReleaseSerializer,
        responses={200: ReleasedSerializer},
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id)
        given = self.given(ReleaseSerializer)
        released = tasks_release(round=round, user=self.user, task_ids=given.get("tasks"))
        return self.reply(ReleasedSerializer, {"released": released})


class ReviewRoundClose(RoundEndpoint):
    @extend_schema(
        summary="Hand out no more items", request=None, responses={200: ReviewRoundDetailSerializer}
    )
    def post(self, request: Request, round_id: int) -> Response:
        round_close(round=self.round(round_id, owner=True))
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class ReviewRoundReopen(RoundEndpoint):
    @extend_schema(summary="Hand out items again", request=None, responses={200: ReviewRoundDetailSerializer})
    def post(self, request: Request, round_id: int) -> Response:
        round_reopen(round=self.round(round_id, owner=True))
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


# --- Budget plan -----------------------------------------------------------------------------------------------------


class BudgetPlanFilter(Input):
    criticism_run = serializers.IntegerField(
        required=False, help_text="By default the project's latest finished one."
    )
    budget = serializers.IntegerField(
        required=False, min_value=1, help_text="Reviews. Without it and the share, the recommended budget."
    )
    share = serializers.FloatField(required=False, min_value=0, max_value=1)
    buffer = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="Added to the ideal budget, as a share; 0.1."
    )


class BudgetMeasuredSerializer(serializers.Serializer[Any]):
    """How often the annotator is right, with a 95% interval."""

    annotation_run = serializers.IntegerField(source="run.pk")
    right = serializers.IntegerField(source="accuracy.right")
    judged = serializers.IntegerField(source="accuracy.judged")
    share = serializers.FloatField(source="accuracy.share")
    low = serializers.FloatField()
    high = serializers.FloatField()
    on_gold = serializers.BooleanField(
        help_text="Whether by gold labels of the project's items; else by calibration labels."
    )


class BudgetPriceSerializer(serializers.Serializer[Any]):
    amount = serializers.FloatField(allow_null=True, help_text="US$; null without a price.")
    is_estimate = serializers.BooleanField()


class BudgetFindingSerializer(serializers.Serializer[Any]):
    """What reviewing the most suspicious first should find."""

    errors = serializers.FloatField(help_text="Expected in all.")  # type: ignore[assignment]
    found = serializers.FloatField(help_text="Expected among the items of the budget.")
    known = serializers.IntegerField(
        help_text="Annotations that people judged, on which error probabilities are calibrated; 0: they are not."
    )
    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="Pairs of a share of the items and a share of the errors.",
    )


class BudgetPlanSerializer(serializers.Serializer[Any]):
    """What a budget of reviews comes to. Amounts are in US$."""

    items = serializers.IntegerField()
    budget = serializers.IntegerField()
    share = serializers.FloatField()
    buffer = serializers.FloatField()
    annotation_run = serializers.IntegerField(source="annotation_run.pk", allow_null=True, default=None)
    criticism_run = serializers.IntegerField(source="criticism_run.pk", allow_null=True, default=None)
    measured = BudgetMeasuredSerializer(allow_null=True)
    ideal = serializers.FloatField(allow_null=True, help_text="1 − the annotator's accuracy.")
    ideal_low = serializers.FloatField(allow_null=True)
    ideal_high = serializers.FloatField(allow_null=True)
    recommended = serializers.IntegerField(allow_null=True, help_text="Reviews: ideal and buffer.")
    review_price = serializers.FloatField()
    annotation = BudgetPriceSerializer()
    criticism = BudgetPriceSerializer()
    models = serializers.FloatField(help_text="As far as prices are known.")
    reviews = serializers.FloatField()
    total = serializers.FloatField()
    all_human = serializers.FloatField()
    saved = serializers.FloatField(allow_null=True, help_text="Share of the all-human price.")
    finding = BudgetFindingSerializer(allow_null=True)


class ProjectBudgetPlan(RoundEndpoint):
    @extend_schema(
        summary="How many reviews to buy, what they cost and what they should find",
        parameters=[BudgetPlanFilter],
        responses=BudgetPlanSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, owner=True)
        asked = self.asked(BudgetPlanFilter)
        run_id = asked.pop("criticism_run", None)
        run = (
            None
            if run_id is None
            else chosen(drawable_runs(project), run_id, field="criticism_run", what="finished criticism run")
        )
        plan = budget_plan(
            project,
            criticism_run=run,
            count=asked.get("budget"),
            share=asked.get("share"),
            buffer=asked.get("buffer", BUFFER),
        )
        return self.reply(BudgetPlanSerializer, plan)


# --- Tasks -----------------------------------------------------------------------------------------------------------


def task_rows() -> QuerySet[ReviewTask]:
    return ReviewTask.objects.select_related(
        "round__project", "item__image", "annotation__label", "annotation__run", "criticism__run"
    )


class TaskEndpoint(Endpoint):
    tag = "review tasks"

    def task(self, task_id: int) -> ReviewTask:
        return found_for(self.user, task_rows(), task_id, project="round__project")


class OneReviewTask(TaskEndpoint):
    @extend_schema(summary="A task and what people did with it", responses=ReviewTaskDetailSerializer)
    def get(self, request: Request, task_id: int) -> Response:
        task = self.task(task_id)
        shown = task_for_reviewer(task, image_url(task.item))
        return self.reply(ReviewTaskDetailSerializer, shown | {"history": history(task)})


class ReviewTaskSubmit(TaskEndpoint):
    @extend_schema(
        summary="Answer a task",
        request=AnswerSerializer,
        responses={200: AnswerReplySerializer},
        examples=[
            OpenApiExample(
                "A label",
                value={
                    "action": "label",
                    "label": 2,
                    "seconds": 3.2,
                    "version": 0,
                    "key": "6f0c9c0e-8a7e-4c5e-9d3a-0b8f4f0f9b1e",
                },
                request_only=True,
            ),
            OpenApiExample("A skip", value={"action": "skip", "reason": "unreadable"}, request_only=True),
        ],
    )
    def post(self, request: Request, task_id: int) -> Response:
        task = self.task(task_id)
        correction = task_submit(
            task=task, user=self.user, answer=_answer(task.round.project, self.given(AnswerSerializer))
        )
        task.refresh_from_db(fields=["state", "version"])
        return self.reply(
            AnswerReplySerializer,
            {"correction": correction, "task": task, "progress": progress_of(task.round, self)},
        )


def _answer(project: Project, given: dict[str, Any]) -> Answer:
    label_id = given.pop("label", None)
    label = None if label_id is None else chosen(project.labels.all(), label_id, field="label", what="label")
    return Answer(label=label, text=given.pop("answer", ""), **given)


# --- Exports ---------------------------------------------------------------------------------------------------------


class ExportSerializer(serializers.ModelSerializer[Export]):
    filename = serializers.CharField(read_only=True)
    progress = JobProgressSerializer(source="job", read_only=True)
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = Export
        fields = [
            "id",
            "project",
            "round",
            "layout",
            "format",
            "lam",
            "escape_formulas",
            "with_card",
            "filename",
            "rows",
            "size",
            "progress",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields


class ExportCreateSerializer(Input):
    round = serializers.IntegerField(help_text="A round of kind `review`, answered or not.")
    layout = serializers.ChoiceField(Export.Layout.choices, required=False)
    format = serializers.ChoiceField(Export.Format.choices, required=False)
    lam = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="λ of the ACT loss; 1 by default."
    )
    escape_formulas = serializers.BooleanField(
        required=False, help_text="In CSV, put ' before texts that a spreadsheet would run as a formula."
    )
    with_card = serializers.BooleanField(
        required=False,
        help_text="A zip archive of the file and its data card instead of the file alone. An image folder is one.",
    )


class ExportEndpoint(Endpoint):
    tag = "exports"

    def export(self, export_id: int) -> Export:
        rows = Export.objects.select_related("project", "job", "created_by")
        return found_for(self.user, rows, export_id, project="project", owner=True)


class Exports(ExportEndpoint):
    @extend_schema(summary="A project's exports, newest first", responses=ExportSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, owner=True)
        return self.page(project.exports.select_related("job", "created_by"), ExportSerializer)

    @extend_schema(
        summary="Start writing an export",
        request=ExportCreateSerializer,
        responses={202: ExportSerializer},
        examples=[
            OpenApiExample(
                "Weights for training",
                value={"round": 1, "layout": "long", "format": "parquet", "lam": 1.0},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, owner=True)
        given = self.given(ExportCreateSerializer)
        rows = project.review_rounds.select_related("project")
        round = chosen(rows, given.pop("round"), field="round", what="review round")
        return self.reply(ExportSerializer, export_create(round=round, user=self.user, **given), status=202)


class OneExport(ExportEndpoint):
    @extend_schema(summary="An export and its progress", responses=ExportSerializer)
    def get(self, request: Request, export_id: int) -> Response:
        return self.reply(ExportSerializer, self.export(export_id))


class ExportDownload(ExportEndpoint):
    @extend_schema(
        summary="The file of a finished export",
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (409, "application/problem+json"): OpenApiResponse(
                ProblemSerializer, "The file is not written yet."
            ),
        },
    )
    def get(self, request: Request, export_id: int) -> FileResponse:
        export = self.export(export_id)
        if not export.file:
            state = export.job.get_state_display().lower()
            raise JobStateError(f"The export has no file: its job is {state}.")
        return FileResponse(
            export.file.open("rb"),
            as_attachment=True,
            filename=export.filename,
            content_type="application/octet-stream",
        )
