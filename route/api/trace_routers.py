"""Routers that read along with an annotator, and the runs in which they do."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import connections_of, found_for, project_for
from annotate.api.endpoint import Input, chosen
from annotate.api.runs import EstimateSerializer, NothingSerializer, ResumeSerializer
from annotate.models import Project, User
from annotate.parsing import ANSWER_FORMATS
from jobs.api import JobProgressSerializer
from route.api.routers import (
    RouterDetailSerializer,
    RouterEndpoint,
    VectorChoiceSerializer,
    vector_choice,
)
from route.models import TracedRun
from route.replay import POLLING_INTERVALS, RETRIEVAL_STYLES
from route.router_prompts import STRICTNESS
from route.services.trace_routers import (
    SPLITS,
    TraceChoice,
    trace_create,
    trace_estimate,
    trace_router_act,
)
from route.services.traced_runs import TracedFigures, traced_figures, traced_run_create, traced_run_preview


class TraceChoiceSerializer(Input):
    """Whose traces are read, by which model, and which settings are tried."""

    run = serializers.IntegerField(help_text="A finished annotation run with the strategy `steps`.")
    connection = serializers.IntegerField(help_text="One of yours: that of the router's model.")
    model = serializers.CharField(max_length=200)
    limit = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="ρ: the most of the items that may go to people."
    )
    strictness = serializers.ListField(
        child=serializers.CharField(), required=False, help_text=f"Of: {', '.join(STRICTNESS)}."
    )
    demonstrations = serializers.ListField(
        child=serializers.IntegerField(min_value=0), required=False, help_text="Numbers that are tried."
    )
    styles = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text=f"How demonstrations are retrieved, of: {', '.join(RETRIEVAL_STYLES)}.",
    )
    intervals = serializers.ListField(
        child=serializers.IntegerField(min_value=1),
        required=False,
        help_text=f"After how many steps it is asked, of: {', '.join(map(str, POLLING_INTERVALS))}.",
    )
    answer_format = serializers.ChoiceField(ANSWER_FORMATS, required=False)
    vectors = VectorChoiceSerializer(required=False)
    split = serializers.ChoiceField(
        SPLITS,
        required=False,
        help_text="How the items that the setting is chosen on are split off: at random, or as the farthest `topics`.",
    )
    no_trace = serializers.BooleanField(
        required=False, help_text="Ask once more about each item without any step. True unless it is set."
    )
    name = serializers.CharField(required=False, max_length=120)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)


class TraceEstimateSerializer(EstimateSerializer):
    no_trace_calls = serializers.IntegerField(help_text="Of the baseline without steps, asked or not.")
    no_trace_cost = serializers.FloatField(allow_null=True, help_text="US$ of these; null without a price.")
    is_rough = serializers.BooleanField(
        help_text="Topics are held out: how many items that are is not known yet."
    )


class TraceCreateSerializer(TraceChoiceSerializer):
    spend_limit = serializers.DecimalField(
        required=False, allow_null=True, max_digits=12, decimal_places=4, help_text="US$ of the training."
    )


class TraceLimitSerializer(Input):
    limit = serializers.FloatField(
        min_value=0, max_value=1, help_text="ρ: the most of the items that may go to people."
    )


class TracedRunCreateSerializer(TraceLimitSerializer):
    spend_limit = serializers.DecimalField(
        required=False,
        allow_null=True,
        max_digits=12,
        decimal_places=4,
        help_text="US$ of annotator and router together.",
    )


class TracedPreviewSerializer(serializers.Serializer[Any]):
    items = serializers.IntegerField()
    budget = serializers.IntegerField(help_text="The most items that people get.")
    estimate = EstimateSerializer(help_text="Of annotating every item to its end.")
    router_cost = serializers.FloatField(allow_null=True, help_text="US$; null without a price.")
    cost = serializers.FloatField(allow_null=True, help_text="US$ of both; null without a price.")
    setting = serializers.JSONField(help_text="The setting of the router that is used.")
    warning = serializers.CharField(help_text="That the router is likely to stop nobody; empty where not.")


class TracedRunSerializer(serializers.ModelSerializer[TracedRun]):
    project = serializers.IntegerField(source="run.project_id", read_only=True)
    progress = JobProgressSerializer(source="run.job", read_only=True)
    round = serializers.SerializerMethodField(help_text="The round of the items that people get.")

    class Meta:
        model = TracedRun
        fields = ["id", "project", "router", "run", "round", "limit", "budget", "taken", "progress"]
        read_only_fields = fields

    def get_round(self, traced: TracedRun) -> int | None:
        round = getattr(traced.run, "routed_round", None)
        return None if round is None else int(round.pk)


class TracedStopSerializer(serializers.Serializer[Any]):
    step = serializers.IntegerField(help_text="Counted from 1.")
    items = serializers.IntegerField()


class TracedFiguresSerializer(serializers.Serializer[TracedFigures]):
    """What routing did so far, against annotating every item to its end; null where nothing is known yet."""

    done = serializers.IntegerField()
    escalated = serializers.IntegerField()
    budget = serializers.IntegerField()
    tokens = serializers.IntegerField(help_text="Of the annotator's output.")
    router_tokens = serializers.IntegerField()
    full_tokens = serializers.IntegerField(allow_null=True)
    tokens_saved = serializers.FloatField(allow_null=True)
    seconds = serializers.FloatField()
    full_seconds = serializers.FloatField(allow_null=True)
    seconds_saved = serializers.FloatField(allow_null=True)
    n_estimated = serializers.IntegerField(help_text="Items whose tokens are estimated.")
    asked = serializers.IntegerField(help_text="Answers of the router.")
    unreadable = serializers.IntegerField(
        help_text="Of them, those that could not be read and counted as going on."
    )
    finished = serializers.IntegerField(help_text="Items that the annotator wrote to their end.")
    stops = TracedStopSerializer(
        many=True, help_text="After which steps it was stopped, the first step first."
    )


class TracedRunDetailSerializer(TracedRunSerializer):
    figures = serializers.SerializerMethodField()

    class Meta(TracedRunSerializer.Meta):
        fields = [*TracedRunSerializer.Meta.fields, "figures"]
        read_only_fields = fields

    @extend_schema_field(TracedFiguresSerializer)
    def get_figures(self, traced: TracedRun) -> Any:
        return TracedFiguresSerializer(traced_figures(traced)).data


def trace_choice(project: Project, user: User, given: dict[str, Any]) -> TraceChoice:
    """What a body says. Raises Refusal."""
    runs = project.annotation_runs.select_related("project", "job", "connection")
    fields: dict[str, Any] = {
        name: tuple(given[name])
        for name in ("strictness", "demonstrations", "styles", "intervals")
        if name in given
    }
    plain = ("limit", "answer_format", "split", "no_trace", "name", "seed")
    fields |= {name: given[name] for name in plain if name in given}
    return TraceChoice(
        run=chosen(runs, given["run"], field="run", what="annotation run"),
        connection=chosen(connections_of(user), given["connection"], field="connection", what="connection"),
        model=given["model"],
        vectors=vector_choice(user, given.get("vectors", {})),
        **fields,
    )


class TraceRouters(RouterEndpoint):
    @extend_schema(
        summary="Train a router that reads along with an annotator",
        request=TraceCreateSerializer,
        responses={202: RouterDetailSerializer},
        examples=[
            OpenApiExample(
                "A small model reads along",
                value={"run": 1, "connection": 1, "model": "gpt-5-mini", "limit": 0.3, "spend_limit": "5"},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(TraceCreateSerializer)
        spend_limit = given.pop("spend_limit", None)
        router = trace_create(
            project=project,
            user=self.user,
            choice=trace_choice(project, self.user, given),
            spend_limit=spend_limit,
        )
        return self.reply(RouterDetailSerializer, router, status=202)


class TraceRouterEstimate(RouterEndpoint):
    @extend_schema(
        summary="What training a router that reads along would take",
        request=TraceChoiceSerializer,
        responses=TraceEstimateSerializer,
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        choice = trace_choice(project, self.user, self.given(TraceChoiceSerializer))
        estimate = trace_estimate(project=project, user=self.user, choice=choice)
        return self.reply(TraceEstimateSerializer, estimate)


class RouterPause(RouterEndpoint):
    @extend_schema(
        summary="Start no more calls of a router's training",
        request=NothingSerializer,
        responses=RouterDetailSerializer,
    )
    def post(self, request: Request, router_id: int) -> Response:
        self.given(NothingSerializer)
        router = self.router(router_id)
        trace_router_act(router=router, user=self.user, action="pause")
        return self.reply(RouterDetailSerializer, router)


class RouterResume(RouterEndpoint):
    @extend_schema(
        summary="Go on with a router's paused training",
        request=ResumeSerializer,
        responses=RouterDetailSerializer,
    )
    def post(self, request: Request, router_id: int) -> Response:
        given = self.given(ResumeSerializer)
        router = self.router(router_id)
        trace_router_act(router=router, user=self.user, action="resume", spend_limit=given.get("spend_limit"))
        return self.reply(RouterDetailSerializer, router)


class TracedPreviews(RouterEndpoint):
    @extend_schema(
        summary="What annotating with a router that reads along would take",
        request=TraceLimitSerializer,
        responses=TracedPreviewSerializer,
    )
    def post(self, request: Request, router_id: int) -> Response:
        router = self.router(router_id)
        limit = self.given(TraceLimitSerializer)["limit"]
        return self.reply(TracedPreviewSerializer, traced_run_preview(router=router, limit=limit))


class TracedRuns(RouterEndpoint):
    @extend_schema(
        summary="The runs that a router reads along, newest first", responses=TracedRunSerializer(many=True)
    )
    def get(self, request: Request, router_id: int) -> Response:
        rows = self.router(router_id).traced_runs.select_related("run__job", "run__routed_round")
        return self.page(rows.order_by("-pk"), TracedRunSerializer)

    @extend_schema(
        summary="Annotate with a router that reads along",
        request=TracedRunCreateSerializer,
        responses={202: TracedRunDetailSerializer},
    )
    def post(self, request: Request, router_id: int) -> Response:
        router = self.router(router_id)
        traced = traced_run_create(router=router, user=self.user, **self.given(TracedRunCreateSerializer))
        return self.reply(TracedRunDetailSerializer, traced, status=202)


class OneTracedRun(RouterEndpoint):
    @extend_schema(summary="A run that a router reads along", responses=TracedRunDetailSerializer)
    def get(self, request: Request, traced_id: int) -> Response:
        rows = TracedRun.objects.select_related("router", "run__job", "run__routed_round", "run__project")
        traced = found_for(self.user, rows, traced_id, project="run__project", may=self.needed)
        return self.reply(TracedRunDetailSerializer, traced)
