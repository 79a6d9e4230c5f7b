"""Criticism runs: how likely each annotation is wrong, and how well the criticizer finds the errors."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import found_for, project_for
from annotate.api.endpoint import Endpoint, Input, chosen
from annotate.api.items import LabelNameSerializer
from annotate.api.runs import (
    CALL_FIELDS,
    MODEL_RUN_FIELDS,
    CallFilter,
    EstimateSerializer,
    ModelChoiceSerializer,
    ModelRunSerializer,
    NothingSerializer,
    ResumeSerializer,
    RunCreateSerializer,
    calls_filtered,
    choice_of,
)
from annotate.models import AnnotationRun, Project
from annotate.services.runs import run_act
from criticize.methods import rank_of
from criticize.models import Criticism, CriticismRun
from criticize.selectors import aqg_at, criticism_quality, error_prob_histogram, rank_counts
from criticize.services import criticism_estimate, criticism_run_create, criticism_run_retry
from criticize.strategies import CHOICES as STRATEGY_CHOICES
from jobs.api import FailureCountSerializer
from jobs.selectors import failures_by_name


class CriticismRunSerializer(ModelRunSerializer, serializers.ModelSerializer[CriticismRun]):
    project = serializers.IntegerField(source="annotation_run.project_id", read_only=True)
    is_self_criticism = serializers.BooleanField(
        read_only=True, help_text="Whether the annotator's own model criticizes it."
    )
    ranks_only = serializers.BooleanField(
        read_only=True,
        help_text="Whether its priorities are an order and no probabilities, which only the rule `threshold` can use.",
    )

    class Meta:
        model = CriticismRun
        fields = ["project", "annotation_run", *MODEL_RUN_FIELDS, "is_self_criticism", "ranks_only"]
        read_only_fields = fields


class AnswerCountSerializer(serializers.Serializer[Any]):
    answer = serializers.CharField()
    count = serializers.IntegerField()


class CriticismRunDetailSerializer(CriticismRunSerializer):
    """A run with what came of it so far."""

    failures = serializers.SerializerMethodField()
    histogram = serializers.SerializerMethodField(
        help_text="How many error probabilities lie in each of 20 equal bins from 0 to 1; null where it only ranks."
    )
    answers = serializers.SerializerMethodField(
        help_text="Of a criticizer that only ranks: how often it gave each answer, most suspicious first."
    )

    class Meta(CriticismRunSerializer.Meta):
        fields = [*CriticismRunSerializer.Meta.fields, "failures", "histogram", "answers"]
        read_only_fields = fields

    @extend_schema_field(FailureCountSerializer(many=True))
    def get_failures(self, run: CriticismRun) -> Any:
        return FailureCountSerializer(failures_by_name(run.criticisms.all()), many=True).data

    def get_histogram(self, run: CriticismRun) -> list[int] | None:
        return error_prob_histogram(run)

    @extend_schema_field(AnswerCountSerializer(many=True, allow_null=True))
    def get_answers(self, run: CriticismRun) -> Any:
        counts = rank_counts(run)
        if counts is None:
            return None
        return [{"answer": answer, "count": count} for answer, count in counts]


class CriticismChoiceSerializer(ModelChoiceSerializer):
    annotation_run = serializers.IntegerField(help_text="The run whose annotations are criticized.")
    strategy = serializers.ChoiceField(
        STRATEGY_CHOICES,
        required=False,
        help_text="`cot` by default.",
    )


class CriticismRunCreateSerializer(CriticismChoiceSerializer, RunCreateSerializer):
    """Who criticizes which annotations, and what it may cost."""


class CriticismSerializer(serializers.ModelSerializer[Criticism]):
    item = serializers.IntegerField(source="annotation.item_id", read_only=True)
    external_id = serializers.CharField(source="annotation.item.external_id", read_only=True)
    label = LabelNameSerializer(  # type: ignore[assignment]
        source="annotation.label", read_only=True, allow_null=True
    )
    facts = serializers.JSONField(
        read_only=True,
        help_text="The statements of a written answer, each with `start`, `end` (in characters) and `error_prob`; "
        "null elsewhere.",
    )
    answer = serializers.SerializerMethodField(
        help_text="In words, where the strategy only ranks; null elsewhere."
    )
    perplexity = serializers.SerializerMethodField(help_text="Of the reasoning, with the strategy `cot_ppl`.")
    cost = serializers.FloatField(read_only=True, allow_null=True, help_text="US$; null without a price.")

    class Meta:
        model = Criticism
        fields = [
            "id",
            "annotation",
            "item",
            "external_id",
            "label",
            "error_prob",
            "priority",
            "facts",
            "answer",
            "perplexity",
            *CALL_FIELDS,
        ]
        read_only_fields = fields

    def get_answer(self, criticism: Criticism) -> str | None:
        rank = rank_of(criticism.run.strategy, criticism.priority)
        return None if rank is None else rank.answer

    def get_perplexity(self, criticism: Criticism) -> float | None:
        rank = rank_of(criticism.run.strategy, criticism.priority)
        return None if rank is None else rank.perplexity


class CriticismDetailSerializer(CriticismSerializer):
    """A criticism with everything that is kept of its call, and of those that failed before it."""

    logprobs = serializers.JSONField(
        read_only=True,
        help_text="`[token, logprob]` each, and the alternatives at the token that a probability was computed from. "
        "Null where none were asked for.",
    )
    earlier = serializers.JSONField(read_only=True)

    class Meta(CriticismSerializer.Meta):
        fields = ["run", *CriticismSerializer.Meta.fields, "logprobs", "earlier"]
        read_only_fields = fields


class QualityFilter(Input):
    budget = serializers.IntegerField(
        required=False, min_value=0, help_text="Reviews among the items with gold: asks for AQG there."
    )


class CurvePointSerializer(serializers.Serializer[Any]):
    budget_share = serializers.FloatField()
    aqg = serializers.FloatField()


class QualitySerializer(serializers.Serializer[Any]):
    """The criticizer against gold.

    AQG is the share of the errors found within a budget, ABS its mean over all budgets.
    """

    items = serializers.IntegerField(help_text="Annotated items that have a gold label or gold answers.")
    errors = serializers.IntegerField()  # type: ignore[assignment]
    abs = serializers.FloatField(
        allow_null=True, help_text="Between 0 and 1, 0.5 at random; null without errors."
    )
    aqg = serializers.FloatField(allow_null=True, help_text="At the budget asked for; null without one.")
    curve = CurvePointSerializer(many=True)


class CriticismRunEndpoint(Endpoint):
    tag = "criticism runs"

    def runs(self) -> QuerySet[CriticismRun]:
        return CriticismRun.objects.select_related("annotation_run__project", "job", "created_by")

    def run(self, run_id: int) -> CriticismRun:
        return found_for(
            self.user,
            self.runs(),
            run_id,
            project="annotation_run__project",
            may=self.needed,
        )


def _annotation_run(project: Project, given: dict[str, Any]) -> AnnotationRun:
    rows = project.annotation_runs.select_related("project", "job")
    return chosen(rows, given["annotation_run"], field="annotation_run", what="annotation run")


class CriticismRuns(CriticismRunEndpoint):
    @extend_schema(
        summary="A project's criticism runs, newest first", responses=CriticismRunSerializer(many=True)
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.page(self.runs().filter(annotation_run__project=project), CriticismRunSerializer)

    @extend_schema(
        summary="Criticize every annotation of a finished run",
        request=CriticismRunCreateSerializer,
        responses={201: CriticismRunSerializer},
        examples=[
            OpenApiExample(
                "Another model criticizes",
                value={"annotation_run": 1, "kind": "prompted", "connection": 1, "model": "gpt-5-mini"},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(CriticismRunCreateSerializer)
        run = criticism_run_create(
            annotation_run=_annotation_run(project, given),
            user=self.user,
            choice=choice_of(self.user, given),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(CriticismRunSerializer, run, status=201)


class CriticismRunEstimate(CriticismRunEndpoint):
    @extend_schema(
        summary="What criticizing a run would take",
        request=CriticismChoiceSerializer,
        responses={200: EstimateSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(CriticismChoiceSerializer)
        estimate = criticism_estimate(
            annotation_run=_annotation_run(project, given), choice=choice_of(self.user, given)
        )
        return self.reply(EstimateSerializer, estimate)


class OneCriticismRun(CriticismRunEndpoint):
    @extend_schema(summary="Read a criticism run", responses=CriticismRunDetailSerializer)
    def get(self, request: Request, run_id: int) -> Response:
        return self.reply(CriticismRunDetailSerializer, self.run(run_id))


class CriticismRunAction(CriticismRunEndpoint):
    """Pause, cancel or retry; which one is said where the address is."""

    action_name = ""
    input_serializer: type[Input] = NothingSerializer

    @extend_schema(
        summary="Pause, cancel or retry a run", request=None, responses={200: CriticismRunSerializer}
    )
    def post(self, request: Request, run_id: int) -> Response:
        run = self.run(run_id)
        given = self.given(self.input_serializer)
        run_act(
            project=run.annotation_run.project,
            run=run,
            user=self.user,
            action=self.action_name,
            retry=lambda: criticism_run_retry(run=run),
            **given,
        )
        return self.reply(CriticismRunSerializer, run)


class CriticismRunResume(CriticismRunAction):
    action_name = "resume"
    input_serializer = ResumeSerializer

    @extend_schema(
        summary="Go on with a paused run", request=ResumeSerializer, responses={200: CriticismRunSerializer}
    )
    def post(self, request: Request, run_id: int) -> Response:
        return super().post(request, run_id)


class CriticismRunQuality(CriticismRunEndpoint):
    @extend_schema(
        summary="How well the criticizer finds errors, where gold says",
        parameters=[QualityFilter],
        responses=QualitySerializer,
    )
    def get(self, request: Request, run_id: int) -> Response:
        run = self.run(run_id)
        budget = self.asked(QualityFilter).get("budget")
        quality = criticism_quality(run)
        return self.reply(
            QualitySerializer,
            {
                "items": quality.items,
                "errors": quality.errors,
                "abs": quality.abs,
                "aqg": None if budget is None else aqg_at(run, budget),
                "curve": [{"budget_share": share, "aqg": aqg} for share, aqg in quality.curve],
            },
        )


class Criticisms(CriticismRunEndpoint):
    @extend_schema(
        summary="A run's criticisms, oldest annotation first",
        parameters=[CallFilter],
        responses=CriticismSerializer(many=True),
    )
    def get(self, request: Request, run_id: int) -> Response:
        rows = self.run(run_id).criticisms.select_related("run", "annotation__item", "annotation__label")
        filtered = calls_filtered(rows, self.asked(CallFilter))
        return self.page(filtered, CriticismSerializer, order="annotation_id")


class OneCriticism(Endpoint):
    tag = "criticism runs"

    @extend_schema(summary="Everything that is kept of a criticism", responses=CriticismDetailSerializer)
    def get(self, request: Request, criticism_id: int) -> Response:
        project = "run__annotation_run__project"
        rows = Criticism.objects.select_related(project, "annotation__item", "annotation__label")
        return self.reply(
            CriticismDetailSerializer,
            found_for(self.user, rows, criticism_id, project=project, may=self.needed),
        )
