"""Projects, their label sets and members."""

from typing import Any

from django.db.models import Count, F, Q
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, project_for, projects_of
from annotate.api.endpoint import Endpoint, Input
from annotate.models import Label, Membership, Project
from annotate.services.projects import (
    MAX_LABEL_NAME,
    label_add,
    label_delete,
    label_update,
    project_create,
    project_delete,
    project_update,
)
from annotate.task_types import TASK_TYPES

MAX_TEXT = 20_000
INSTRUCTIONS = (
    "What the labels mean, or what a good answer is, and how to decide. Models and reviewers both read this."
)


class LabelSerializer(serializers.ModelSerializer[Label]):
    class Meta:
        model = Label
        fields = ["id", "position", "name", "description", "guideline"]
        read_only_fields = fields


class ProjectSerializer(serializers.ModelSerializer[Project]):
    role = serializers.ChoiceField(Membership.Role.choices, read_only=True, help_text="Yours.")
    created_by = serializers.CharField(source="created_by.username", read_only=True)
    seed = serializers.SerializerMethodField(help_text="Null for reviewers: known items are mixed in by it.")
    review_price = serializers.FloatField(read_only=True, help_text="US$ a human review.")

    class Meta:
        model = Project
        fields = [
            "id",
            "name",
            "task_type",
            "instructions",
            "sample",
            "seed",
            "review_price",
            "role",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields
        extra_kwargs = {"instructions": {"help_text": INSTRUCTIONS}}

    def get_seed(self, project: Any) -> int | None:
        return None if project.role == Membership.Role.REVIEWER else project.seed


class ProjectDetailSerializer(ProjectSerializer):
    """A project with its labels, if it has a label set, and how many items it has."""

    labels = LabelSerializer(many=True, read_only=True)
    items = serializers.IntegerField(source="item_count", read_only=True)
    gold_items = serializers.IntegerField(
        source="gold_count", read_only=True, help_text="Items with a gold label or gold answers."
    )
    calibration_items = serializers.IntegerField(source="calibration_count", read_only=True)

    class Meta(ProjectSerializer.Meta):
        fields = [*ProjectSerializer.Meta.fields, "labels", "items", "gold_items", "calibration_items"]
        read_only_fields = fields


class ProjectCreateSerializer(Input):
    name = serializers.CharField(max_length=120)
    task_type = serializers.ChoiceField([(key, task.label) for key, task in TASK_TYPES.items()])
    instructions = serializers.CharField(
        max_length=MAX_TEXT,
        required=False,
        allow_blank=True,
        help_text=INSTRUCTIONS,
    )
    labels = serializers.ListField(
        child=serializers.CharField(max_length=MAX_LABEL_NAME),
        required=False,
        max_length=2000,
        help_text="Names in order, of task types with a label set. Without them, the task type's own are used, if it "
        "has any.",
    )
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)


class ProjectUpdateSerializer(Input):
    name = serializers.CharField(max_length=120, required=False)
    instructions = serializers.CharField(max_length=MAX_TEXT, required=False, allow_blank=True)
    review_price = serializers.DecimalField(8, 4, required=False, min_value=0, help_text="US$ a review.")


class ProjectDeleteFilter(Input):
    confirm_name = serializers.CharField(help_text="The project's name again.")


class LabelCreateSerializer(Input):
    name = serializers.CharField(max_length=MAX_LABEL_NAME)
    description = serializers.CharField(max_length=MAX_TEXT, required=False, allow_blank=True)


class LabelUpdateSerializer(Input):
    name = serializers.CharField(max_length=MAX_LABEL_NAME, required=False)
    description = serializers.CharField(max_length=MAX_TEXT, required=False, allow_blank=True)
    guideline = serializers.CharField(
        max_length=MAX_TEXT,
        required=False,
        allow_blank=True,
        help_text="Markdown for reviewers. Models read the description alone.",
    )


class Projects(Endpoint):
    tag = "projects"

    @extend_schema(summary="Your projects, newest first", responses=ProjectSerializer(many=True))
    def get(self, request: Request) -> Response:
        rows = projects_of(self.user).annotate(role=F("memberships__role")).select_related("created_by")
        return self.page(rows, ProjectSerializer)

    @extend_schema(
        summary="Create a project",
        request=ProjectCreateSerializer,
        responses={201: ProjectDetailSerializer},
        examples=[
            OpenApiExample(
                "Sentiment of tweets",
                value={
                    "name": "Tweets",
                    "task_type": "text_classification",
                    "labels": ["negative", "neutral", "positive"],
                    "instructions": "The feeling of the writer, not of the event.",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        project = project_create(user=self.user, **self.given(ProjectCreateSerializer))
        return _project_reply(self, project, status=201)


class OneProject(Endpoint):
    tag = "projects"

    @extend_schema(summary="Read a project", responses=ProjectDetailSerializer)
    def get(self, request: Request, project_id: int) -> Response:
        return _project_reply(self, project_for(self.user, project_id))

    @extend_schema(
        summary="Change a project's name, guidelines or price of a review",
        request=ProjectUpdateSerializer,
        responses=ProjectDetailSerializer,
    )
    def patch(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        current = {"name": project.name}
        project_update(project=project, user=self.user, **(current | self.given(ProjectUpdateSerializer)))
        return _project_reply(self, project)

    @extend_schema(
        summary="Delete a project with everything in it",
        parameters=[ProjectDeleteFilter],
        responses={204: None},
    )
    def delete(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.OWN)
        project_delete(project=project, **self.asked(ProjectDeleteFilter))
        return Response(status=204)


def _project_reply(endpoint: Endpoint, project: Project, *, status: int = 200) -> Response:
    row = (
        projects_of(endpoint.user)
        .filter(pk=project.pk)
        .annotate(role=F("memberships__role"))
        .select_related("created_by")
        .prefetch_related("labels")
        .get()
    )
    counts: dict[str, Any] = project.items.aggregate(
        item_count=Count("pk"),
        gold_count=Count("pk", filter=Q(gold__isnull=False)),
        calibration_count=Count("calibration_label"),
    )
    for name, count in counts.items():
        setattr(row, name, count)
    return endpoint.reply(ProjectDetailSerializer, row, status=status)


class Labels(Endpoint):
    tag = "labels"

    @extend_schema(summary="A project's labels in order", responses=LabelSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        return self.page(project_for(self.user, project_id).labels.all(), LabelSerializer, order="position")

    @extend_schema(summary="Add a label", request=LabelCreateSerializer, responses={201: LabelSerializer})
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        label = label_add(project=project, user=self.user, **self.given(LabelCreateSerializer))
        return self.reply(LabelSerializer, label, status=201)


class OneLabel(Endpoint):
    tag = "labels"

    def _label(self, label_id: int) -> Label:
        rows = Label.objects.select_related("project")
        return found_for(self.user, rows, label_id, project="project", may=self.needed)

    @extend_schema(
        summary="Rename or describe a label, or write its guideline",
        request=LabelUpdateSerializer,
        responses=LabelSerializer,
    )
    def patch(self, request: Request, label_id: int) -> Response:
        label = self._label(label_id)
        current = {"name": label.name, "description": label.description}
        label_update(label=label, user=self.user, **(current | self.given(LabelUpdateSerializer)))
        return self.reply(LabelSerializer, label)

    @extend_schema(summary="Delete a label that nothing uses", responses={204: None})
    def delete(self, request: Request, label_id: int) -> Response:
        label_delete(label=self._label(label_id), user=self.user)
        return Response(status=204)
