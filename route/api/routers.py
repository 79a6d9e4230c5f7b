"""Routers: what they were trained on, what they were found to do, and the plans that they make."""

from typing import Any

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import connections_of, found_for, project_for
from annotate.api.endpoint import Endpoint, Input, ProblemSerializer, chosen
from annotate.api.runs import NothingSerializer
from annotate.models import Project, User, VectorVersion
from annotate.vectors import VectorChoice
from annotate.vectors_estimate import VectorsEstimate
from jobs.api import JobProgressSerializer
from jobs.services import JobStateError
from route.models import Agent, Plan, Router
from route.router_vectors import vectors_job
from route.services.planning import plan_preview, router_plan_start
from route.services.routers import (
    AgentChoice,
    DeferralChoice,
    deferral_create,
    router_cancel,
    router_vectors_estimate,
)


class AgentSerializer(serializers.ModelSerializer[Agent]):
    price = serializers.FloatField(
        read_only=True, allow_null=True, help_text="US$ an answer; null without a price."
    )

    class Meta:
        model = Agent
        fields = ["position", "name", "run", "is_people", "alpha", "beta", "price"]
        read_only_fields = fields


class RouterSerializer(serializers.ModelSerializer[Router]):
    progress = JobProgressSerializer(source="job", read_only=True)
    created_by = serializers.CharField(source="created_by.username", read_only=True)
    is_trained = serializers.BooleanField(read_only=True)

    class Meta:
        model = Router
        fields = [
            "id",
            "project",
            "kind",
            "name",
            "parameters",
            "vectors",
            "seed",
            "is_trained",
            "data_digest",
            "progress",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields


class RouterDetailSerializer(RouterSerializer):
    agents = AgentSerializer(many=True, read_only=True)
    embeddings = serializers.SerializerMethodField(
        help_text="The job that buys the embeddings that it sees; null where it needs none."
    )
    metrics = serializers.JSONField(
        read_only=True,
        help_text="Tables and curves, measured on items that it did not learn from; empty until it is trained.",
    )

    class Meta(RouterSerializer.Meta):
        fields = [*RouterSerializer.Meta.fields, "agents", "embeddings", "metrics"]
        read_only_fields = fields

    @extend_schema_field(JobProgressSerializer(allow_null=True))
    def get_embeddings(self, router: Router) -> Any:
        job = vectors_job(router)
        return None if job is None else JobProgressSerializer(job).data


class VectorChoiceSerializer(Input):
    """What a router sees of the items."""

    kind = serializers.ChoiceField(VectorVersion.Kind.choices, required=False)
    connection = serializers.IntegerField(required=False, help_text="With the kind `embeddings`.")
    model = serializers.CharField(required=False, max_length=200)
    spend_limit = serializers.DecimalField(
        required=False,
        allow_null=True,
        max_digits=12,
        decimal_places=4,
        help_text="US$ for the embeddings still to be bought; the training pauses before they would cost more.",
    )


class VectorsEstimateSerializer(serializers.Serializer[VectorsEstimate]):
    """What the vectors of a project's items will take before a router can see them."""

    items = serializers.IntegerField(help_text="Items that have no vector yet.")
    bought = serializers.IntegerField(help_text="Items that have theirs, which are not paid for again.")
    calls = serializers.IntegerField()
    tokens = serializers.IntegerField(help_text="Counted roughly, on some of the items.")
    cost = serializers.FloatField(
        allow_null=True,
        help_text="US$; 0 for what is made on this machine, null where the model has no price.",
    )


class AgentChoiceSerializer(Input):
    run = serializers.IntegerField(
        allow_null=True, help_text="An annotation run, which says who the annotator is; null: people."
    )
    alpha = serializers.FloatField(required=False, min_value=0)
    beta = serializers.FloatField(required=False, min_value=0, help_text="Left out: by what an answer costs.")


class DeferralCreateSerializer(Input):
    agents = AgentChoiceSerializer(many=True, help_text="The first is the default.")
    mistake = serializers.DecimalField(
        max_digits=12, decimal_places=4, help_text="What a wrong answer costs, in US$."
    )
    nu = serializers.FloatField(required=False, min_value=0)
    hidden = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False, max_length=2)
    vectors = VectorChoiceSerializer(required=False)
    name = serializers.CharField(required=False, max_length=120)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)


class AgentShareSerializer(serializers.Serializer[Any]):
    agent = AgentSerializer()
    items = serializers.IntegerField()
    answered = serializers.IntegerField(help_text="Of them, those that it has answered before.")
    cost = serializers.FloatField(allow_null=True, help_text="US$ of the others; null without a price.")
    seconds = serializers.FloatField(allow_null=True)


class AloneSerializer(serializers.Serializer[Any]):
    """One annotator answering everything."""

    agent = AgentSerializer()
    accuracy = serializers.FloatField(help_text="Its share of right answers on the known items.")
    cost = serializers.FloatField(allow_null=True, help_text="US$; null without a price.")


class RoutingPreviewSerializer(serializers.Serializer[Any]):
    items = serializers.IntegerField()
    shares = AgentShareSerializer(many=True)
    cost = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(help_text="The share of right answers that is expected.")
    default_accuracy = serializers.FloatField(help_text="The same of the default agent alone.")
    default_cost = serializers.FloatField(allow_null=True)
    added = serializers.IntegerField(
        help_text="Items that came after the training, and are in no plan of it."
    )
    w = serializers.FloatField(
        required=False, help_text="Of a router by price: the gain that each extra US$ brings."
    )
    premium_share = serializers.FloatField(
        required=False, help_text="Of a router by price: the items that do not go to the cheap annotator."
    )
    premium_accuracy = serializers.FloatField(
        required=False,
        help_text="Of the premium annotator answering everything; of several, the one that is right most often.",
    )
    alone = AloneSerializer(
        many=True, required=False, help_text="Of a router by price: each annotator alone."
    )
    premium_cost = serializers.FloatField(required=False, allow_null=True, help_text="US$ of the same.")
    saved = serializers.FloatField(
        required=False, allow_null=True, help_text="US$ against the premium annotator answering everything."
    )


class PlanLimitSerializer(Input):
    people = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, help_text="The most items that people get."
    )
    premium_share = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=1,
        help_text="Of a router by price: the most of the items that others than the cheap annotator get.",
    )
    extra_cost = serializers.FloatField(
        required=False, allow_null=True, min_value=0, help_text="Or: US$ an item above all cheap, on average."
    )
    w = serializers.FloatField(
        required=False, allow_null=True, min_value=0, help_text="Or: the gain that each extra US$ must bring."
    )


class PlanCreateSerializer(PlanLimitSerializer):
    spend_limit = serializers.DecimalField(
        required=False,
        allow_null=True,
        max_digits=12,
        decimal_places=4,
        help_text="US$ for each model's run.",
    )


class RoutingPlanSerializer(serializers.ModelSerializer[Plan]):
    project = serializers.IntegerField(source="router.project_id", read_only=True)
    progress = JobProgressSerializer(source="run.job", read_only=True)
    round = serializers.SerializerMethodField(
        help_text="The round of people's items; null where there are none."
    )
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = Plan
        fields = [
            "id",
            "project",
            "router",
            "run",
            "round",
            "setting",
            "expected",
            "progress",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def get_round(self, plan: Plan) -> int | None:
        round = getattr(plan.run, "routed_round", None)
        return None if round is None else int(round.pk)


def vector_choice(user: User, given: dict[str, Any]) -> VectorChoice:
    """The vectors that a body asks for. Raises Refusal."""
    connection = given.get("connection")
    return VectorChoice(
        kind=given.get("kind", VectorVersion.Kind.PLAIN),
        connection=None
        if connection is None
        else chosen(connections_of(user), connection, field="vectors", what="connection"),
        model=given.get("model", ""),
        spend_limit=given.get("spend_limit"),
    )


def deferral_choice(project: Project, user: User, given: dict[str, Any]) -> DeferralChoice:
    """What a body says. Raises Refusal."""
    runs = project.annotation_runs.select_related("project", "job", "connection")
    agents = [
        AgentChoice(
            None if each["run"] is None else chosen(runs, each["run"], field="agents", what="annotation run"),
            alpha=each.get("alpha", 1.0),
            beta=each.get("beta"),
        )
        for each in given["agents"]
    ]
    return DeferralChoice(
        agents=agents,
        mistake=given["mistake"],
        nu=given.get("nu", 1.0),
        hidden=tuple(given.get("hidden", ())),
        vectors=vector_choice(user, given.get("vectors", {})),
        name=given.get("name", ""),
        seed=given.get("seed"),
    )


class RouterEndpoint(Endpoint):
    tag = "routing"

    def router(self, router_id: int) -> Router:
        rows = Router.objects.select_related("project", "job", "created_by")
        return found_for(self.user, rows, router_id, project="project", may=self.needed)

    def plan(self, plan_id: int) -> Plan:
        rows = Plan.objects.select_related("router__project", "run__job", "run__routed_round", "created_by")
        return found_for(self.user, rows, plan_id, project="router__project", may=self.needed)


class Routers(RouterEndpoint):
    @extend_schema(summary="A project's routers, newest first", responses=RouterSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.page(project.routers.select_related("job", "created_by"), RouterSerializer)


class RouterVectorsEstimate(RouterEndpoint):
    @extend_schema(
        summary="What the embeddings that a router is to see will cost",
        request=VectorChoiceSerializer,
        responses=VectorsEstimateSerializer,
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        choice = vector_choice(self.user, self.given(VectorChoiceSerializer))
        estimate = router_vectors_estimate(project=project, user=self.user, choice=choice)
        return self.reply(VectorsEstimateSerializer, estimate)


class DeferralRouters(RouterEndpoint):
    @extend_schema(
        summary="Train a router that defers each item to one of several agents",
        request=DeferralCreateSerializer,
        responses={202: RouterDetailSerializer},
        examples=[
            OpenApiExample(
                "Two models and people",
                value={"agents": [{"run": 1}, {"run": 2}, {"run": None}], "mistake": "0.4"},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        choice = deferral_choice(project, self.user, self.given(DeferralCreateSerializer))
        router = deferral_create(project=project, user=self.user, choice=choice)
        return self.reply(RouterDetailSerializer, router, status=202)


class OneRouter(RouterEndpoint):
    @extend_schema(summary="A router with its tables", responses=RouterDetailSerializer)
    def get(self, request: Request, router_id: int) -> Response:
        return self.reply(RouterDetailSerializer, self.router(router_id))


class RouterCancel(RouterEndpoint):
    @extend_schema(
        summary="Train a router no further", request=NothingSerializer, responses=RouterDetailSerializer
    )
    def post(self, request: Request, router_id: int) -> Response:
        self.given(NothingSerializer)
        router = self.router(router_id)
        router_cancel(router=router, user=self.user)
        return self.reply(RouterDetailSerializer, router)


class RouterFile(RouterEndpoint):
    @extend_schema(
        summary="A trained router as a file",
        description="Numbers and names, and nothing that runs when it is read; `route.saving.load` reads it.",
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (409, "application/problem+json"): OpenApiResponse(ProblemSerializer, "It is not trained."),
        },
    )
    def get(self, request: Request, router_id: int) -> FileResponse:
        router = self.router(router_id)
        if not router.is_trained:
            raise JobStateError(
                f"The router has no file: its training is {router.job.get_state_display().lower()}."
            )
        return FileResponse(
            router.file.open("rb"),
            as_attachment=True,
            filename=f"overread-router-{router.pk}.zip",
            content_type="application/octet-stream",
        )


class PlanPreviews(RouterEndpoint):
    @extend_schema(
        summary="What a router's plan would do",
        request=PlanLimitSerializer,
        responses=RoutingPreviewSerializer,
    )
    def post(self, request: Request, router_id: int) -> Response:
        router = self.router(router_id)
        limits = self.given(PlanLimitSerializer)
        return self.reply(
            RoutingPreviewSerializer, plan_preview(router=router, user=self.user, limits=limits)
        )


class Plans(RouterEndpoint):
    @extend_schema(summary="A router's plans, newest first", responses=RoutingPlanSerializer(many=True))
    def get(self, request: Request, router_id: int) -> Response:
        rows = self.router(router_id).plans.select_related(
            "router", "run__job", "run__routed_round", "created_by"
        )
        return self.page(rows, RoutingPlanSerializer)

    @extend_schema(
        summary="Set a router's plan to work",
        request=PlanCreateSerializer,
        responses={202: RoutingPlanSerializer},
    )
    def post(self, request: Request, router_id: int) -> Response:
        router = self.router(router_id)
        limits = self.given(PlanCreateSerializer)
        spend_limit = limits.pop("spend_limit", None)
        plan = router_plan_start(router=router, user=self.user, limits=limits, spend_limit=spend_limit)
        return self.reply(RoutingPlanSerializer, plan, status=202)


class OnePlan(RouterEndpoint):
    @extend_schema(summary="A plan and how far it is", responses=RoutingPlanSerializer)
    def get(self, request: Request, plan_id: int) -> Response:
        return self.reply(RoutingPlanSerializer, self.plan(plan_id))
