"""Uploads: sent, looked at, imported."""

from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.functional import classproperty
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import found_for, project_for
from annotate.api.endpoint import Endpoint, Input
from annotate.csv_response import csv_response
from annotate.models import RejectedRow, Upload
from annotate.rejections import rejection_table
from annotate.services.uploads import (
    upload_cancel,
    upload_discard,
    upload_import,
    upload_like,
    upload_preview,
    upload_receive,
    upload_resume,
)
from annotate.uploads.decoding import ENCODINGS
from annotate.uploads.limits import format_bytes
from annotate.uploads.mapping import ColumnMapping
from annotate.uploads.reading import ACCEPTED
from annotate.uploads.rows import ImageCell, Row
from jobs.api import JobProgressSerializer

# What the parts of a form add to the file itself.
_FORM_BYTES = 64 * 1024


class MappingSerializer(Input):
    """Which column is what; null for none."""

    id = serializers.CharField(required=False, allow_null=True, default=None)
    text = serializers.CharField(required=False, allow_null=True, default=None)
    image = serializers.CharField(required=False, allow_null=True, default=None)
    question = serializers.CharField(required=False, allow_null=True, default=None)
    gold = serializers.CharField(
        required=False,
        allow_null=True,
        default=None,
        help_text="The gold label. Where answers are spans of the text: the words of one, a list of words or of "
        "`{text, start}`, or `{text: […], answer_start: […]}`; empty where the text holds no answer.",
    )
    folder_as_gold = serializers.BooleanField(
        required=False, default=False, help_text="In a zip of images: the top folder is the gold label."
    )
    no_answer = serializers.CharField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Where answers are spans: true where the text holds no answer. An empty `gold` of other rows is then "
        "an answer that nobody knows.",
    )
    start = serializers.CharField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Where answers are spans: the first character of the answer in the text, counted from 0, for answers "
        "whose place `gold` does not say.",
    )
    no_header = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Of a CSV or TSV file: its first line is a row, and its columns are called “column 1”, “column 2” …",
    )


class UploadSerializer(serializers.ModelSerializer[Upload]):
    mapping = serializers.SerializerMethodField(help_text="As it was imported; null before.")
    step = serializers.CharField(
        read_only=True, help_text="While it is imported: checking, writing or undoing; else empty."
    )
    progress = JobProgressSerializer(source="job", read_only=True, allow_null=True)
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = Upload
        fields = [
            "id",
            "project",
            "filename",
            "size",
            "kind",
            "encoding",
            "state",
            "reason",
            "mapping",
            "add_labels",
            "all_or_nothing",
            "if_different",
            "step",
            "imported",
            "repeated",
            "differing",
            "replaced",
            "rejected",
            "progress",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field(MappingSerializer(allow_null=True))
    def get_mapping(self, upload: Upload) -> dict[str, Any] | None:
        return upload.mapping or None


class PreviewRowSerializer(serializers.Serializer[Row]):
    number = serializers.IntegerField()
    values = serializers.SerializerMethodField(help_text="By column. An image is named, not sent.")

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_values(self, row: Row) -> dict[str, Any]:
        return {name: _shown(value) for name, value in row.values.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, ImageCell):
        return f"{value.name or 'image'} ({format_bytes(len(value.data))})"
    return value


class PreviewSerializer(serializers.Serializer[Any]):
    """The beginning of an upload, and how its columns could be used."""

    columns = serializers.ListField(child=serializers.CharField())
    rows = PreviewRowSerializer(many=True)
    notes = serializers.ListField(child=serializers.CharField(), help_text="What was noticed while reading.")
    total_hint = serializers.IntegerField(allow_null=True, help_text="Rows, where the file says so.")
    mapping = MappingSerializer(help_text="A suggestion.")
    header_looks_like_a_row = serializers.BooleanField(
        help_text="The line that is taken for the header may well be a row: see `no_header`."
    )


class OneUploadSerializer(UploadSerializer):
    same_file_as = serializers.SerializerMethodField(
        help_text="Id of an earlier upload of the same file, by its content, that was imported; null without one."
    )

    class Meta(UploadSerializer.Meta):
        fields = [*UploadSerializer.Meta.fields, "same_file_as"]
        read_only_fields = fields

    def get_same_file_as(self, upload: Upload) -> int | None:
        earlier = upload_like(upload)
        return None if earlier is None else earlier.pk


class UploadWithPreviewSerializer(OneUploadSerializer):
    preview = PreviewSerializer(read_only=True)

    class Meta(OneUploadSerializer.Meta):
        fields = [*OneUploadSerializer.Meta.fields, "preview"]
        read_only_fields = fields


class UploadCreateSerializer(Input):
    file = serializers.FileField(
        allow_empty_file=True,
        max_length=1000,
        help_text=f"{ACCEPTED}.",
    )
    encoding = serializers.ChoiceField(
        list(ENCODINGS), required=False, help_text="Of a text file. Without it, it is found out."
    )


class PreviewQuerySerializer(Input):
    no_header = serializers.BooleanField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Whether the first line of a CSV or TSV file is a row. Without it, the line is the header if it can "
        "be.",
    )


class UploadImportSerializer(Input):
    mapping = MappingSerializer()
    add_labels = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Where there is a label set: make labels of gold values that are not labels yet.",
    )
    all_or_nothing = serializers.BooleanField(
        required=False, default=False, help_text="Import no row where one would be rejected."
    )
    if_different = serializers.ChoiceField(
        Upload.IfDifferent.choices,
        required=False,
        default=Upload.IfDifferent.KEEP,
        help_text="What happens to a row whose id an item has with other content. An item that something was done with "
        "is never replaced.",
    )


class RejectedRowSerializer(serializers.ModelSerializer[RejectedRow]):
    class Meta:
        model = RejectedRow
        fields = ["row", "message"]
        read_only_fields = fields


class UploadEndpoint(Endpoint):
    tag = "uploads"

    def upload(self, upload_id: int) -> Upload:
        rows = Upload.objects.select_related("project", "job", "created_by")
        return found_for(self.user, rows, upload_id, project="project", may=self.needed)


class Uploads(UploadEndpoint):
    parser_classes = [MultiPartParser]

    @classproperty
    def largest_body(cls) -> int:  # noqa: N805
        return settings.MAX_UPLOAD_BYTES + _FORM_BYTES

    @extend_schema(summary="A project's uploads, newest first", responses=UploadSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.page(project.uploads.select_related("job", "created_by"), UploadSerializer)

    @extend_schema(
        summary="Upload a file",
        description="Nothing is imported yet: the answer shows the first rows and suggests a mapping.",
        request={"multipart/form-data": UploadCreateSerializer},
        responses={201: UploadWithPreviewSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(UploadCreateSerializer)
        upload = upload_receive(
            project=project, user=self.user, file=given["file"], encoding=given.get("encoding", "")
        )
        upload.preview = upload_preview(upload)  # type: ignore[attr-defined]
        return self.reply(UploadWithPreviewSerializer, upload, status=201)


class OneUpload(UploadEndpoint):
    @extend_schema(summary="An upload and its import's progress", responses=OneUploadSerializer)
    def get(self, request: Request, upload_id: int) -> Response:
        return self.reply(OneUploadSerializer, self.upload(upload_id))

    @extend_schema(summary="Throw away an upload that was not imported", responses={204: None})
    def delete(self, request: Request, upload_id: int) -> Response:
        upload_discard(upload=self.upload(upload_id), user=self.user)
        return Response(status=204)


class UploadPreview(UploadEndpoint):
    @extend_schema(
        summary="The first rows of an upload",
        parameters=[PreviewQuerySerializer],
        responses=PreviewSerializer,
    )
    def get(self, request: Request, upload_id: int) -> Response:
        upload = self.upload(upload_id)
        asked = self.asked(PreviewQuerySerializer)
        return self.reply(PreviewSerializer, upload_preview(upload, no_header=asked["no_header"]))


class UploadImport(UploadEndpoint):
    @extend_schema(
        summary="Import an upload with this mapping",
        request=UploadImportSerializer,
        responses={202: UploadSerializer},
        examples=[
            OpenApiExample(
                "A table with texts and gold labels",
                value={"mapping": {"id": "id", "text": "tweet", "gold": "label"}, "add_labels": False},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, upload_id: int) -> Response:
        upload = self.upload(upload_id)
        given = self.given(UploadImportSerializer)
        mapping = ColumnMapping(**given.pop("mapping"))
        upload_import(upload=upload, mapping=mapping, user=self.user, **given)
        return self.reply(UploadSerializer, self.upload(upload_id), status=202)


class UploadResume(UploadEndpoint):
    @extend_schema(summary="Go on with a paused import", request=None, responses=UploadSerializer)
    def post(self, request: Request, upload_id: int) -> Response:
        upload_resume(upload=self.upload(upload_id), user=self.user)
        return self.reply(UploadSerializer, self.upload(upload_id))


class UploadCancel(UploadEndpoint):
    @extend_schema(
        summary="Cancel an import; what it imported stays", request=None, responses=UploadSerializer
    )
    def post(self, request: Request, upload_id: int) -> Response:
        upload_cancel(upload=self.upload(upload_id), user=self.user)
        return self.reply(UploadSerializer, self.upload(upload_id))


class RejectedRows(UploadEndpoint):
    @extend_schema(
        summary="The rows of an upload that could not become items",
        responses=RejectedRowSerializer(many=True),
    )
    def get(self, request: Request, upload_id: int) -> Response:
        return self.page(self.upload(upload_id).rejected_rows.all(), RejectedRowSerializer, order="row")


class RejectedRowsFile(UploadEndpoint):
    @extend_schema(
        summary="The same as a CSV file, with the rows' own columns",
        responses={(200, "text/csv"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, upload_id: int) -> StreamingHttpResponse:
        upload = self.upload(upload_id)
        columns, rows = rejection_table(upload)
        return csv_response(f"rejected-rows-{upload.pk}.csv", columns, rows)
