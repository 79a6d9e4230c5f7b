"""Annotation runs and what they said; and the parts that runs of every kind share."""

from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import connections_of, found_for, project_for
from annotate.api.endpoint import Endpoint, Filter, Input, chosen
from annotate.api.items import LabelCountSerializer, LabelNameSerializer
from annotate.examples import MAX_EXAMPLES, MAX_IMAGE_EXAMPLES
from annotate.models import Annotation, AnnotationRun, ModelRun, Project, User
from annotate.parsing import ANSWER_FORMATS
from annotate.prompts import LABEL_STRATEGIES
from annotate.selectors import label_counts, machine_accuracy, machine_f1
from annotate.services.combining import discussion_create, discussion_estimate, vote_create
from annotate.services.runs import (
    TRAINED,
    ModelChoice,
    annotation_estimate,
    annotation_run_create,
    annotation_run_retry,
    run_act,
)
from jobs.api import FailureCountSerializer, JobProgressSerializer
from jobs.selectors import FAILURE_NAMES, failures_by_name

MODEL_RUN_FIELDS = [
    "id",
    "kind",
    "who",
    "connection",
    "provider",
    "model",
    "strategy",
    "answer_format",
    "prompt_version",
    "top_logprobs",
    "max_tokens",
    "training_items",
    "seed",
    "progress",
    "created_by",
    "created_at",
]


class ModelRunSerializer(serializers.Serializer[Any]):
    """The fields that runs of every kind have beside the model's own."""

    who = serializers.CharField(read_only=True, help_text="Who answers, in words.")
    top_logprobs = serializers.IntegerField(source="parameters.top_logprobs", read_only=True, default=0)
    max_tokens = serializers.IntegerField(
        source="parameters.max_tokens", read_only=True, allow_null=True, default=None
    )
    training_items = serializers.IntegerField(
        source="parameters.training_items",
        read_only=True,
        default=0,
        help_text="How many calibration items a trained classifier learned from.",
    )
    progress = JobProgressSerializer(source="job", read_only=True)
    created_by = serializers.CharField(source="created_by.username", read_only=True)


class AnnotationRunSerializer(ModelRunSerializer, serializers.ModelSerializer[AnnotationRun]):
    """`sources` and what follows are of votes and discussions: the runs that are counted or shown to each other."""

    confidence = serializers.BooleanField(
        source="parameters.confidence",
        read_only=True,
        default=False,
        help_text="Whether the model was asked how sure it is.",
    )
    examples = serializers.IntegerField(
        source="parameters.examples",
        read_only=True,
        default=0,
        help_text="How many items with known answers it saw with each item.",
    )
    example_items = serializers.SerializerMethodField(help_text="How many items the examples are drawn from.")
    sources = serializers.ListField(
        source="parameters.sources",
        child=serializers.IntegerField(),
        read_only=True,
        default=list,
        help_text="In the order in which they were chosen.",
    )
    precedence = serializers.ListField(
        source="parameters.precedence",
        child=serializers.IntegerField(),
        read_only=True,
        default=list,
        help_text="Of a vote: its sources, the one first whose label counts where as many are for another.",
    )
    discussion = serializers.CharField(
        source="parameters.discussion",
        read_only=True,
        default="",
        help_text="The same for all runs of one discussion and its vote; else empty.",
    )

    class Meta:
        model = AnnotationRun
        fields = [
            "project",
            "scope",
            *MODEL_RUN_FIELDS,
            "confidence",
            "examples",
            "example_items",
            "sources",
            "precedence",
            "discussion",
        ]
        read_only_fields = fields

    def get_example_items(self, run: AnnotationRun) -> int:
        return len(run.parameters.get("example_item_ids", ()))


class AccuracySerializer(serializers.Serializer[Any]):
    """Answers that match gold, among the items that have gold."""

    right = serializers.IntegerField()
    judged = serializers.IntegerField()
    share = serializers.FloatField(allow_null=True, help_text="Between 0 and 1; null where nothing has gold.")
    f1 = serializers.FloatField(
        allow_null=True,
        default=None,
        help_text="Mean token F1, from 0 to 1, where answers are spans: then `share` is of exact matches.",
    )


class AnnotationRunDetailSerializer(AnnotationRunSerializer):
    """A run with what came of it so far."""

    failures = serializers.SerializerMethodField()
    labels = serializers.SerializerMethodField(
        help_text="How often each label was given; empty where there is no label set."
    )
    accuracy = serializers.SerializerMethodField()

    class Meta(AnnotationRunSerializer.Meta):
        fields = [*AnnotationRunSerializer.Meta.fields, "failures", "labels", "accuracy"]
        read_only_fields = fields

    @extend_schema_field(FailureCountSerializer(many=True))
    def get_failures(self, run: AnnotationRun) -> Any:
        return FailureCountSerializer(failures_by_name(run.annotations.all()), many=True).data

    @extend_schema_field(LabelCountSerializer(many=True))
    def get_labels(self, run: AnnotationRun) -> Any:
        return LabelCountSerializer(label_counts(run), many=True).data

    @extend_schema_field(AccuracySerializer)
    def get_accuracy(self, run: AnnotationRun) -> Any:
        accuracy = machine_accuracy(run)
        return AccuracySerializer(accuracy._asdict() | {"share": accuracy.share, "f1": machine_f1(run)}).data


class ModelChoiceSerializer(Input):
    """Who is to answer: a model behind a connection, or the classifier trained on the calibration set."""

    kind = serializers.ChoiceField(
        [(kind.value, kind.label) for kind in (ModelRun.Kind.PROMPTED, ModelRun.Kind.TRAINED)]
    )
    connection = serializers.IntegerField(
        required=False, allow_null=True, help_text="One of yours; for kind `prompted`."
    )
    model = serializers.CharField(required=False, max_length=200, allow_blank=True)
    strategy = serializers.ChoiceField(
        LABEL_STRATEGIES,
        required=False,
        help_text="`cot` by default. `steps`: numbered steps, only of annotators that choose a label.",
    )
    answer_format = serializers.ChoiceField(
        ANSWER_FORMATS, required=False, help_text="By default the one that suits the connection."
    )
    top_logprobs = serializers.IntegerField(required=False, min_value=0, max_value=20)
    max_tokens = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=100_000)
    by_batch = serializers.BooleanField(
        required=False,
        help_text="Hand the calls in as the provider's batches: half the price, answered within a day.",
    )


class AnnotatorSerializer(ModelChoiceSerializer):
    """Who is to annotate, with which options."""

    confidence = serializers.BooleanField(
        required=False, help_text="Also ask the model how sure it is of each answer."
    )
    examples = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_EXAMPLES,
        help_text="Items with known answers shown with each item; at most "
        f"{MAX_IMAGE_EXAMPLES} where items have images.",
    )


class AnnotationChoiceSerializer(AnnotatorSerializer):
    """Who is to annotate, with which options, and which items."""

    scope = serializers.ChoiceField(
        AnnotationRun.Scope.choices,
        required=False,
        help_text="`calibration` tries the annotator on the calibration items alone: a candidate.",
    )


class RunCreateSerializer(ModelChoiceSerializer):
    spend_limit = serializers.DecimalField(
        max_digits=12,
        decimal_places=4,
        required=False,
        allow_null=True,
        help_text="US$; the run pauses before it would spend more.",
    )


class AnnotationRunCreateSerializer(RunCreateSerializer, AnnotationChoiceSerializer):
    """An annotator, and what it may cost."""


class SourcesSerializer(Input):
    """Finished runs of the project to combine."""

    sources = serializers.ListField(
        child=serializers.IntegerField(min_value=1),
        min_length=2,
        max_length=20,
        help_text="Ids of the runs. Their order decides between equally many votes where accuracy cannot.",
    )


class DiscussionSerializer(SourcesSerializer):
    spend_limit = serializers.DecimalField(
        max_digits=12,
        decimal_places=4,
        required=False,
        allow_null=True,
        help_text="US$ for each of the annotators; its run pauses before it would spend more.",
    )


class DiscussionRunsSerializer(serializers.Serializer[Any]):
    """The runs of a discussion that was started, one for each source, in their order."""

    runs = AnnotationRunSerializer(many=True, read_only=True)


class RunFilter(Filter):
    scope = serializers.ChoiceField(
        AnnotationRun.Scope.choices, required=False, help_text="Only candidates, or only the others."
    )


class ResumeSerializer(Input):
    spend_limit = serializers.DecimalField(
        max_digits=12,
        decimal_places=4,
        required=False,
        allow_null=True,
        min_value=Decimal(0),
        help_text="US$; a run that its limit paused needs a higher one.",
    )


class NothingSerializer(Input):
    """No values."""


class EstimateSerializer(serializers.Serializer[Any]):
    """What a run would take."""

    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost = serializers.FloatField(allow_null=True, help_text="US$; null where the model has no price.")
    seconds = serializers.FloatField(help_text="By batch the longest that it may take.")
    by_batch = serializers.BooleanField()
    measured = serializers.BooleanField(help_text="Whether it rests on an earlier run like it.")


class CallFilter(Filter):
    failed = serializers.BooleanField(required=False, allow_null=True, default=None)
    failure = serializers.ChoiceField(
        sorted(FAILURE_NAMES), required=False, help_text="Only results that failed in this way."
    )


CALL_FIELDS = [
    "failure",
    "message",
    "reasoning",
    "raw_text",
    "model_returned",
    "input_tokens",
    "output_tokens",
    "cost",
    "latency",
    "attempts",
    "recorded_at",
]


class AnnotationSerializer(serializers.ModelSerializer[Annotation]):
    external_id = serializers.CharField(source="item.external_id", read_only=True)
    label = LabelNameSerializer(read_only=True, allow_null=True)  # type: ignore[assignment]
    cost = serializers.FloatField(read_only=True, allow_null=True, help_text="US$; null without a price.")
    steps = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        allow_null=True,
        help_text="Its reasoning, where a router read it step by step.",
    )
    stopped_at = serializers.IntegerField(
        read_only=True,
        allow_null=True,
        help_text="After which of the steps, counted from 1, the router stopped the annotator.",
    )

    class Meta:
        model = Annotation
        fields = [
            *("id", "item", "external_id", "label", "answer", "start", "end", "confidence"),
            *("steps", "stopped_at"),
            *CALL_FIELDS,
        ]
        read_only_fields = fields


class AnnotationDetailSerializer(AnnotationSerializer):
    """An annotation with everything that is kept of its call, and of those that failed before it."""

    logprobs = serializers.JSONField(read_only=True, help_text="Null where none were asked for.")
    earlier = serializers.JSONField(read_only=True)

    class Meta(AnnotationSerializer.Meta):
        fields = ["run", *AnnotationSerializer.Meta.fields, "logprobs", "earlier"]
        read_only_fields = fields


PROMPTED_EXAMPLE = OpenApiExample(
    "A model, at most US$ 5",
    value={"kind": "prompted", "connection": 1, "model": "gpt-5-mini", "strategy": "cot", "spend_limit": "5"},
    request_only=True,
)
TRAINED_EXAMPLE = OpenApiExample(
    "The classifier trained on the calibration set", value={"kind": "trained"}, request_only=True
)


def choice_of(user: User, given: dict[str, Any]) -> ModelChoice:
    """The choice that a body describes. Raises Refusal for a connection that is not the user's."""
    if given["kind"] == ModelRun.Kind.TRAINED:
        return TRAINED
    connection_id = given.get("connection")
    connection = (
        None
        if connection_id is None
        else chosen(connections_of(user), connection_id, field="connection", what="connection of yours")
    )
    names = (
        "model",
        "strategy",
        "answer_format",
        "top_logprobs",
        "max_tokens",
        "confidence",
        "examples",
        "by_batch",
    )
    values = {name: given[name] for name in names if given.get(name) is not None}
    return ModelChoice(kind=given["kind"], connection=connection, **values)


def calls_filtered(rows: QuerySet[Any], asked: dict[str, Any]) -> QuerySet[Any]:
    if asked["failed"] is not None:
        rows = rows.exclude(failure="") if asked["failed"] else rows.filter(failure="")
    if failure := asked.get("failure"):
        rows = rows.filter(failure=failure)
    return rows


class AnnotationRunEndpoint(Endpoint):
    tag = "annotation runs"

    def run(self, run_id: int) -> AnnotationRun:
        rows = AnnotationRun.objects.select_related("project", "job", "created_by")
        return found_for(self.user, rows, run_id, project="project", may=self.needed)


class AnnotationRuns(AnnotationRunEndpoint):
    @extend_schema(
        summary="A project's annotation runs, newest first",
        parameters=[RunFilter],
        responses=AnnotationRunSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        rows = project.annotation_runs.select_related("job", "created_by")
        if scope := self.asked(RunFilter).get("scope"):
            rows = rows.filter(scope=scope)
        return self.page(rows, AnnotationRunSerializer)

    @extend_schema(
        summary="Annotate every item that is not a calibration item, or the calibration items alone",
        request=AnnotationRunCreateSerializer,
        responses={201: AnnotationRunSerializer},
        examples=[PROMPTED_EXAMPLE, TRAINED_EXAMPLE],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(AnnotationRunCreateSerializer)
        run = annotation_run_create(
            project=project,
            user=self.user,
            choice=choice_of(self.user, given),
            scope=given.get("scope", AnnotationRun.Scope.PROJECT),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(AnnotationRunSerializer, run, status=201)


class AnnotationRunEstimate(AnnotationRunEndpoint):
    @extend_schema(
        summary="What annotating the project would take",
        request=AnnotationChoiceSerializer,
        responses={200: EstimateSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(AnnotationChoiceSerializer)
        estimate = annotation_estimate(
            project=project,
            choice=choice_of(self.user, given),
            scope=given.get("scope", AnnotationRun.Scope.PROJECT),
        )
        return self.reply(EstimateSerializer, estimate)


def chosen_sources(project: Project, given: dict[str, Any]) -> list[AnnotationRun]:
    """The runs that a body names, in its order. Raises Refusal."""
    rows = project.annotation_runs.select_related("job", "connection")
    return [chosen(rows, source_id, field="sources", what="annotation run") for source_id in given["sources"]]


class AnnotationVote(AnnotationRunEndpoint):
    @extend_schema(
        summary="Let finished runs vote: the label that most of them gave",
        request=SourcesSerializer,
        responses={201: AnnotationRunSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        sources = chosen_sources(project, self.given(SourcesSerializer))
        run = vote_create(project=project, user=self.user, sources=sources)
        return self.reply(AnnotationRunSerializer, run, status=201)


class AnnotationDiscussion(AnnotationRunEndpoint):
    @extend_schema(
        summary="Let models discuss the items on which their runs disagree, and then vote",
        description="Answers with a run for each model. Their vote is a run of its own, started when they are done.",
        request=DiscussionSerializer,
        responses={201: DiscussionRunsSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(DiscussionSerializer)
        runs = discussion_create(
            project=project,
            user=self.user,
            sources=chosen_sources(project, given),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(DiscussionRunsSerializer, {"runs": runs}, status=201)


class AnnotationDiscussionEstimate(AnnotationRunEndpoint):
    @extend_schema(
        summary="What a discussion would take, all models together",
        request=SourcesSerializer,
        responses={200: EstimateSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        sources = chosen_sources(project, self.given(SourcesSerializer))
        estimate = discussion_estimate(project=project, user=self.user, sources=sources)
        return self.reply(EstimateSerializer, estimate)


class OneAnnotationRun(AnnotationRunEndpoint):
    @extend_schema(summary="Read an annotation run", responses=AnnotationRunDetailSerializer)
    def get(self, request: Request, run_id: int) -> Response:
        return self.reply(AnnotationRunDetailSerializer, self.run(run_id))


class AnnotationRunAction(AnnotationRunEndpoint):
    """Pause, cancel or retry; which one is said where the address is."""

    action_name = ""
    input_serializer: type[Input] = NothingSerializer

    @extend_schema(
        summary="Pause, cancel or retry a run", request=None, responses={200: AnnotationRunSerializer}
    )
    def post(self, request: Request, run_id: int) -> Response:
        run = self.run(run_id)
        given = self.given(self.input_serializer)
        run_act(
            project=run.project,
            run=run,
            user=self.user,
            action=self.action_name,
            retry=lambda: annotation_run_retry(run=run),
            **given,
        )
        return self.reply(AnnotationRunSerializer, run)


class AnnotationRunResume(AnnotationRunAction):
    action_name = "resume"
    input_serializer = ResumeSerializer

    @extend_schema(
        summary="Go on with a paused run", request=ResumeSerializer, responses={200: AnnotationRunSerializer}
    )
    def post(self, request: Request, run_id: int) -> Response:
        return super().post(request, run_id)


class Annotations(AnnotationRunEndpoint):
    @extend_schema(
        summary="A run's annotations in order of item",
        parameters=[CallFilter],
        responses=AnnotationSerializer(many=True),
    )
    def get(self, request: Request, run_id: int) -> Response:
        rows = self.run(run_id).annotations.select_related("item", "label")
        return self.page(calls_filtered(rows, self.asked(CallFilter)), AnnotationSerializer, order="item_id")


class OneAnnotation(Endpoint):
    tag = "annotation runs"

    @extend_schema(summary="Everything that is kept of an annotation", responses=AnnotationDetailSerializer)
    def get(self, request: Request, annotation_id: int) -> Response:
        rows = Annotation.objects.select_related("run__project", "item", "label")
        annotation = found_for(self.user, rows, annotation_id, project="run__project", may=self.needed)
        return self.reply(AnnotationDetailSerializer, annotation)
