"""Exports and their data cards."""

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import found_for, project_for
from annotate.api.endpoint import Endpoint, Input, ProblemSerializer, chosen
from jobs.api import JobProgressSerializer
from jobs.services import JobStateError
from review.export_download import download_response
from review.models import Export
from review.services.exports import export_cancel, export_create, export_resume


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
        return found_for(self.user, rows, export_id, project="project", may=self.needed)


class Exports(ExportEndpoint):
    @extend_schema(summary="A project's exports, newest first", responses=ExportSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
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
        project = project_for(self.user, project_id, may=self.needed)
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
        description="A download that broke off goes on where it stopped: send `Range: bytes=N-` for the bytes from the "
        "N-th on, with the `ETag` of the first answer as `If-Range`.",
        parameters=[
            OpenApiParameter("Range", str, OpenApiParameter.HEADER),
            OpenApiParameter("If-Range", str, OpenApiParameter.HEADER),
        ],
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
            (409, "application/problem+json"): OpenApiResponse(
                ProblemSerializer, "The file is not written yet."
            ),
        },
    )
    def get(self, request: Request, export_id: int) -> HttpResponseBase:
        export = self.export(export_id)
        if not export.file:
            state = export.job.get_state_display().lower()
            raise JobStateError(f"The export has no file: its job is {state}.")
        return download_response(request, export, "application/octet-stream")


class ExportResume(ExportEndpoint):
    @extend_schema(summary="Go on with a paused export", request=None, responses=ExportSerializer)
    def post(self, request: Request, export_id: int) -> Response:
        export_resume(export=self.export(export_id), user=self.user)
        return self.reply(ExportSerializer, self.export(export_id))


class ExportCancel(ExportEndpoint):
    @extend_schema(summary="End an export that is not written yet", request=None, responses=ExportSerializer)
    def post(self, request: Request, export_id: int) -> Response:
        export_cancel(export=self.export(export_id), user=self.user)
        return self.reply(ExportSerializer, self.export(export_id))


class ExportCard(ExportEndpoint):
    @extend_schema(
        summary="The data card of a finished export",
        description="What ran, what people did, what it cost, what is certified, and what the columns mean, as it was "
        "when the file was written.",
        responses={
            200: OpenApiTypes.OBJECT,
            (409, "application/problem+json"): OpenApiResponse(ProblemSerializer, "It is not written yet."),
        },
    )
    def get(self, request: Request, export_id: int) -> Response:
        export = self.export(export_id)
        if not export.card:
            state = export.job.get_state_display().lower()
            raise JobStateError(f"The export has no data card: its job is {state}.")
        return Response(export.card)
