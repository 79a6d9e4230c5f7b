"""Uploaded comparisons: sent, looked at, imported; routers trained from them; and trained routers asked about texts."""

from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.functional import classproperty
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, project_for
from annotate.api.endpoint import Input, ProblemSerializer
from annotate.api.uploads import PreviewRowSerializer
from annotate.csv_response import csv_response
from annotate.uploads.decoding import ENCODINGS
from jobs.api import JobProgressSerializer
from route.api.routers import RouterDetailSerializer, RouterEndpoint, VectorChoiceSerializer, vector_choice
from route.comparison_rows import COLUMNS, MOST_QUERY_CHARACTERS, ComparisonMapping
from route.models import ComparisonSet, Router
from route.services.comparison_sets import (
    ComparisonPreview,
    UploadedChoice,
    comparison_set_cancel,
    comparison_set_discard,
    comparison_set_import,
    comparison_set_preview,
    comparison_set_receive,
    comparison_set_resume,
    rejected_table,
    uploaded_router_create,
)
from route.services.meta_plans import MetaLimit
from route.serving import MOST_QUERIES, expected_gains, route_texts

# What the parts of a form add to the file itself.
_FORM_BYTES = 64 * 1024
_COLUMN_HELP = {
    "gold_a": "A score for response A, with `gold_b`; instead of `gold`.",
    "gold": "The winner (`a`, `b`, `tie`, `premium`, `cheap`) or the gain as a number; empty where nobody said.",
    "preference": "What a judge prefers: a winner as for `gold`, or a number from −1 to 1; empty where there is none.",
    "cost_a": "US$ of response A, with `cost_b`.",
}


class ComparisonMappingSerializer(Input):
    """Which column is what; null for none."""

    premium = serializers.ChoiceField(["a", "b"], required=False, help_text="`b` by default.")
    positive = serializers.ChoiceField(
        ["premium", "cheap", "a", "b"],
        required=False,
        help_text="For whom a number above 0 speaks in the columns `gold` and `preference`; `premium` by default.",
    )
    price_a = serializers.FloatField(
        required=False, allow_null=True, min_value=0, help_text="US$ of response A, where no column says it."
    )
    price_b = serializers.FloatField(required=False, allow_null=True, min_value=0)

    def get_fields(self) -> dict[str, Any]:
        columns = {
            name: serializers.CharField(required=False, allow_null=True, help_text=_COLUMN_HELP.get(name, ""))
            for name in COLUMNS
        }
        return columns | super().get_fields()


class ProblemRowSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField()
    message = serializers.CharField()


class ComparisonSetSerializer(serializers.ModelSerializer[ComparisonSet]):
    mapping = serializers.SerializerMethodField(help_text="As it was imported; null before.")
    problems = ProblemRowSerializer(many=True, read_only=True, help_text="The first rejected rows.")
    progress = JobProgressSerializer(source="job", read_only=True, allow_null=True)
    is_ready = serializers.BooleanField(read_only=True, help_text="Whether a router can be trained from it.")
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = ComparisonSet
        fields = [
            "id",
            "project",
            "filename",
            "size",
            "encoding",
            "mapping",
            "imported",
            "rejected",
            "problems",
            "is_ready",
            "progress",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ComparisonMappingSerializer(allow_null=True))
    def get_mapping(self, comparisons: ComparisonSet) -> dict[str, Any] | None:
        return comparisons.mapping or None


class ComparisonPreviewSerializer(serializers.Serializer[Any]):
    """The beginning of a file, and how its columns could be used."""

    columns = serializers.ListField(child=serializers.CharField())
    rows = PreviewRowSerializer(many=True)
    notes = serializers.ListField(child=serializers.CharField(), help_text="What was noticed while reading.")
    total_hint = serializers.IntegerField(allow_null=True, help_text="Rows, where the file says so.")
    mapping = serializers.SerializerMethodField(help_text="A suggestion.")

    @extend_schema_field(ComparisonMappingSerializer)
    def get_mapping(self, preview: ComparisonPreview) -> dict[str, Any]:
        return preview.mapping.as_dict()


class ComparisonSetWithPreviewSerializer(ComparisonSetSerializer):
    preview = ComparisonPreviewSerializer(read_only=True)

    class Meta(ComparisonSetSerializer.Meta):
        fields = [*ComparisonSetSerializer.Meta.fields, "preview"]
        read_only_fields = fields


class ComparisonSetCreateSerializer(Input):
    file = serializers.FileField(
        allow_empty_file=True, max_length=1000, help_text="CSV, TSV, JSON Lines, JSON or Parquet."
    )
    encoding = serializers.ChoiceField(
        list(ENCODINGS), required=False, help_text="Of a text file. Without it, it is found out."
    )


class ComparisonImportSerializer(Input):
    mapping = ComparisonMappingSerializer()


class UploadedRouterCreateSerializer(Input):
    learner = serializers.ChoiceField(["dr", "r"], required=False, help_text="`dr` by default.")
    regressor = serializers.ChoiceField(
        ["forest", "boosting"], required=False, help_text="`forest` by default."
    )
    scaling = serializers.ChoiceField(
        ["variance", "maximum", "wasserstein"],
        required=False,
        allow_null=True,
        help_text="`variance` by default; null: gold gains as they are.",
    )
    vectors = VectorChoiceSerializer(required=False, help_text="`plain` (the default) or `local`.")
    name = serializers.CharField(required=False, max_length=120)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)


class TextsSerializer(Input):
    """Texts to decide about, and a limit: one of the three, or none, which is w = 0."""

    queries = serializers.ListField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        help_text=f"At most {MOST_QUERIES:,}, each of at most {MOST_QUERY_CHARACTERS:,} characters.",
    )
    w = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="The gain that each extra US$ of the premium annotator must bring; or, where no price says that it "
        "costs more, the gain itself.",
    )
    premium_share = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=1,
        help_text="The most of the queries that the premium annotator gets; w is the smallest that kept to it on gold "
        "that was held out.",
    )
    extra_cost = serializers.FloatField(
        required=False, allow_null=True, min_value=0, help_text="Or: US$ a query above all cheap, on average."
    )


class DecisionSerializer(serializers.Serializer[Any]):
    premium = serializers.BooleanField()
    gain = serializers.FloatField(help_text="What the premium annotator is expected to gain, in gold.")


class RoutedSerializer(serializers.Serializer[Any]):
    answers = DecisionSerializer(many=True, help_text="One for each query, in their order.")
    w = serializers.FloatField()
    cost_gap = serializers.FloatField(help_text="A query is premium where its gain is above w · cost_gap.")


class ComparisonSetEndpoint(RouterEndpoint):
    def comparison_set(self, comparison_set_id: int) -> ComparisonSet:
        rows = ComparisonSet.objects.select_related("project", "job", "created_by")
        return found_for(self.user, rows, comparison_set_id, project="project", may=self.needed)


class ComparisonSets(ComparisonSetEndpoint):
    parser_classes = [MultiPartParser]

    @classproperty
    def largest_body(cls) -> int:  # noqa: N805
        return settings.MAX_UPLOAD_BYTES + _FORM_BYTES

    @extend_schema(
        summary="A project's uploaded comparisons, newest first", responses=ComparisonSetSerializer(many=True)
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.page(project.comparison_sets.select_related("job", "created_by"), ComparisonSetSerializer)

    @extend_schema(
        summary="Upload comparisons of two responses each",
        description="Nothing is imported yet: the answer shows the first rows and suggests a mapping.",
        request={"multipart/form-data": ComparisonSetCreateSerializer},
        responses={201: ComparisonSetWithPreviewSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(ComparisonSetCreateSerializer)
        comparisons = comparison_set_receive(
            project=project, user=self.user, file=given["file"], encoding=given.get("encoding", "")
        )
        comparisons.preview = comparison_set_preview(comparisons)  # type: ignore[attr-defined]
        return self.reply(ComparisonSetWithPreviewSerializer, comparisons, status=201)


class OneComparisonSet(ComparisonSetEndpoint):
    @extend_schema(
        summary="Uploaded comparisons and their import's progress", responses=ComparisonSetSerializer
    )
    def get(self, request: Request, comparison_set_id: int) -> Response:
        return self.reply(ComparisonSetSerializer, self.comparison_set(comparison_set_id))

    @extend_schema(summary="Throw away comparisons from which no router learned", responses={204: None})
    def delete(self, request: Request, comparison_set_id: int) -> Response:
        comparison_set_discard(comparisons=self.comparison_set(comparison_set_id), user=self.user)
        return Response(status=204)


class ComparisonSetPreview(ComparisonSetEndpoint):
    @extend_schema(summary="The first rows of uploaded comparisons", responses=ComparisonPreviewSerializer)
    def get(self, request: Request, comparison_set_id: int) -> Response:
        return self.reply(
            ComparisonPreviewSerializer, comparison_set_preview(self.comparison_set(comparison_set_id))
        )


class ComparisonSetImport(ComparisonSetEndpoint):
    @extend_schema(
        summary="Import uploaded comparisons with this mapping",
        request=ComparisonImportSerializer,
        responses={202: ComparisonSetSerializer},
        examples=[
            OpenApiExample(
                "Gold scores and a judge's preferences",
                value={
                    "mapping": {
                        "query": "query",
                        "response_a": "response_a",
                        "response_b": "response_b",
                        "gold_a": "gold_a",
                        "gold_b": "gold_b",
                        "preference": "preference",
                        "premium": "b",
                        "price_a": 0.001,
                        "price_b": 0.01,
                    }
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, comparison_set_id: int) -> Response:
        comparisons = self.comparison_set(comparison_set_id)
        mapping = ComparisonMapping(**self.given(ComparisonImportSerializer)["mapping"])
        comparison_set_import(comparisons=comparisons, mapping=mapping, user=self.user)
        return self.reply(ComparisonSetSerializer, self.comparison_set(comparison_set_id), status=202)


class ComparisonSetResume(ComparisonSetEndpoint):
    @extend_schema(
        summary="Go on with a paused import of comparisons", request=None, responses=ComparisonSetSerializer
    )
    def post(self, request: Request, comparison_set_id: int) -> Response:
        comparison_set_resume(comparisons=self.comparison_set(comparison_set_id), user=self.user)
        return self.reply(ComparisonSetSerializer, self.comparison_set(comparison_set_id))


class ComparisonSetCancel(ComparisonSetEndpoint):
    @extend_schema(summary="Cancel an import of comparisons", request=None, responses=ComparisonSetSerializer)
    def post(self, request: Request, comparison_set_id: int) -> Response:
        comparison_set_cancel(comparisons=self.comparison_set(comparison_set_id), user=self.user)
        return self.reply(ComparisonSetSerializer, self.comparison_set(comparison_set_id))


class RejectedComparisonsFile(ComparisonSetEndpoint):
    @extend_schema(
        summary="The rows that could not become comparisons, with why and their own columns, as a CSV file",
        responses={(200, "text/csv"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, comparison_set_id: int) -> StreamingHttpResponse:
        comparisons = self.comparison_set(comparison_set_id)
        columns, rows = rejected_table(comparisons)
        return csv_response(f"rejected-comparisons-{comparisons.pk}.csv", columns, rows)


class UploadedRouters(ComparisonSetEndpoint):
    @extend_schema(
        summary="Train a router from uploaded comparisons",
        request=UploadedRouterCreateSerializer,
        responses={202: RouterDetailSerializer},
    )
    def post(self, request: Request, comparison_set_id: int) -> Response:
        comparisons = self.comparison_set(comparison_set_id)
        given = self.given(UploadedRouterCreateSerializer)
        choice = UploadedChoice(
            learner=given.get("learner", "dr"),
            regressor=given.get("regressor", "forest"),
            scaling=given.get("scaling", "variance"),
            vectors=vector_choice(self.user, given.get("vectors", {})),
            name=given.get("name", ""),
            seed=given.get("seed"),
        )
        router = uploaded_router_create(comparisons=comparisons, user=self.user, choice=choice)
        return self.reply(RouterDetailSerializer, router, status=202)


class RouterTexts(RouterEndpoint):
    @property
    def needed(self) -> May:
        return May.SEE  # it changes nothing

    @extend_schema(
        summary="Ask a trained router which texts are worth the premium annotator",
        description="Of routers of uploaded comparisons, and of those between a cheap and a premium annotator of items "
        "that are texts.",
        request=TextsSerializer,
        responses={
            200: RoutedSerializer,
            (409, "application/problem+json"): OpenApiResponse(ProblemSerializer, "It is not trained."),
        },
        examples=[
            OpenApiExample(
                "At most three of ten premium",
                value={"queries": ["Prove that √2 is irrational."], "premium_share": 0.3},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, router_id: int) -> Response:
        given = self.given(TextsSerializer)
        routed = route_texts(self.router(router_id), given.pop("queries"), MetaLimit(**given))
        return self.reply(RoutedSerializer, routed)


class ExpectedGainsFile(RouterEndpoint):
    @extend_schema(
        summary="What a router of uploaded comparisons expects of each of their rows, as a CSV file",
        description="Of a row with gold: what a router that was trained without it expects.",
        responses={
            (200, "text/csv"): OpenApiTypes.BINARY,
            (409, "application/problem+json"): OpenApiResponse(ProblemSerializer, "It is not trained."),
        },
    )
    def get(self, request: Request, router_id: int) -> StreamingHttpResponse:
        router: Router = self.router(router_id)
        columns, rows = expected_gains(router)
        return csv_response(f"expected-gains-{router.pk}.csv", columns, rows)
