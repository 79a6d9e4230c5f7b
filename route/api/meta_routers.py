"""Judge runs, which compare two annotators' answers, and routers between a cheap and a premium annotator."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import found_for, project_for
from annotate.api.endpoint import Input, chosen
from annotate.api.runs import (
    MODEL_RUN_FIELDS,
    CallFilter,
    EstimateSerializer,
    ModelChoiceSerializer,
    ModelRunSerializer,
    NothingSerializer,
    ResumeSerializer,
    calls_filtered,
    choice_of,
)
from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project
from annotate.services.runs import run_act
from route.api.routers import RouterDetailSerializer, RouterEndpoint, VectorChoiceSerializer, vector_choice
from route.models import JudgeRun, Preference
from route.services.judge_runs import (
    gold_count,
    judge_run_create,
    judge_run_estimate,
    judge_run_retry,
    preferences_with_answers,
)
from route.services.meta_routers import MOST_AGENTS, MetaChoice, meta_create
from route.services.missing_comparisons import missing_comparisons, missing_comparisons_start


class JudgeRunSerializer(ModelRunSerializer, serializers.ModelSerializer[JudgeRun]):
    class Meta:
        model = JudgeRun
        fields = ["project", "cheap", "premium", *MODEL_RUN_FIELDS]
        read_only_fields = fields


class PreferenceSerializer(serializers.ModelSerializer[Preference]):
    external_id = serializers.CharField(source="item.external_id", read_only=True)
    cheap_answer = serializers.CharField(
        read_only=True, allow_null=True, help_text="In words; null where it is gone."
    )
    premium_answer = serializers.CharField(read_only=True, allow_null=True)
    cost = serializers.FloatField(read_only=True, allow_null=True, help_text="US$; null without a price.")

    class Meta:
        model = Preference
        fields = [
            "id",
            "item",
            "external_id",
            "cheap_answer",
            "premium_answer",
            "value",
            "premium_first",
            "failure",
            "message",
            "reasoning",
            "cost",
            "attempts",
            "recorded_at",
        ]
        read_only_fields = fields


class JudgeChoiceSerializer(ModelChoiceSerializer):
    """Whose answers a model compares, and which model."""

    cheap = serializers.IntegerField(help_text="An annotation run of the cheap annotator.")
    premium = serializers.IntegerField(help_text="An annotation run of the premium annotator.")


class GoldCountSerializer(serializers.Serializer[Any]):
    """What a router between the two annotators could learn from people's answers so far."""

    known = serializers.IntegerField(help_text="Items with a person's answer and one of both annotators.")
    known_needed = serializers.IntegerField()
    unlike = serializers.IntegerField(help_text="Of them, those on which one is right and the other wrong.")
    unlike_needed = serializers.IntegerField()
    warning = serializers.CharField(help_text="What is missing for a router; empty where nothing is.")


class JudgeEstimateSerializer(EstimateSerializer):
    gold = GoldCountSerializer()


class JudgeRunCreateSerializer(JudgeChoiceSerializer):
    spend_limit = serializers.DecimalField(
        required=False,
        allow_null=True,
        max_digits=12,
        decimal_places=4,
        help_text="US$; the run pauses before it would spend more.",
    )


class MissingChoiceSerializer(ModelChoiceSerializer):
    """Among whom every two are compared, and by which model."""

    agents = serializers.ListField(
        child=serializers.IntegerField(),
        max_length=MOST_AGENTS,
        help_text="An annotation run of each annotator, two or more, in any order: the cheaper one of two is `cheap`.",
    )


class MissingCreateSerializer(MissingChoiceSerializer):
    spend_limit = serializers.DecimalField(
        required=False,
        allow_null=True,
        max_digits=12,
        decimal_places=4,
        help_text="US$ for each comparison; it pauses before it would spend more.",
    )


class PairSerializer(serializers.Serializer[Any]):
    """Two annotators that no model has compared yet."""

    cheap = serializers.IntegerField(source="cheap.pk", help_text="An annotation run.")
    premium = serializers.IntegerField(source="premium.pk", help_text="An annotation run.")
    problem = serializers.CharField(help_text="Why there is nothing to compare; empty where there is.")


class EstimatedPairSerializer(PairSerializer):
    estimate = EstimateSerializer(allow_null=True, help_text="null where there is nothing to compare.")


class MissingEstimateSerializer(serializers.Serializer[Any]):
    pairs = EstimatedPairSerializer(many=True)
    there = serializers.IntegerField(
        help_text="Pairs that have a comparison, or whose comparison is under way."
    )
    estimate = EstimateSerializer(help_text="All pairs together.")
    gold = GoldCountSerializer()


class StartedSerializer(serializers.Serializer[Any]):
    created = JudgeRunSerializer(many=True)
    left_out = PairSerializer(many=True)


class MetaCreateSerializer(Input):
    judge_run = serializers.IntegerField(
        required=False, help_text="A comparison, which says who the cheap and the premium annotator are."
    )
    agents = serializers.ListField(
        child=serializers.IntegerField(),
        required=False,
        max_length=MOST_AGENTS,
        help_text="Instead, to choose among two or more: annotation runs of the annotators, the default (the cheapest) "
        "first. Each of the others must have been compared with it.",
    )
    judge_runs = serializers.ListField(
        child=serializers.IntegerField(),
        required=False,
        help_text="With `agents`: the comparisons to learn from; left out, the newest of each two of them.",
    )
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
    vectors = VectorChoiceSerializer(required=False)
    name = serializers.CharField(required=False, max_length=120)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)


def _pair(project: Project, given: dict[str, Any]) -> dict[str, AnnotationRun]:
    runs = project.annotation_runs.select_related("project", "job", "connection")
    return {
        field: chosen(runs, given[field], field=field, what="annotation run")
        for field in ("cheap", "premium")
    }


def _among(project: Project, given: dict[str, Any]) -> tuple[list[JudgeRun], list[AnnotationRun]]:
    """The comparisons and the annotators that a body names. Raises Refusal."""
    if ("judge_run" in given) == bool(given.get("agents")):
        raise Refusal(
            "Name a comparison as judge_run, or the annotators as agents: one of the two.", field="agents"
        )
    judge_runs = project.judge_runs.select_related(
        "project", "job", "cheap__project", "cheap__job", "premium__project", "premium__job"
    )
    runs = project.annotation_runs.select_related("project", "job", "connection")
    if "judge_run" in given:
        return [chosen(judge_runs, given["judge_run"], field="judge_run", what="comparison")], []
    return (
        [chosen(judge_runs, pk, field="judge_runs", what="comparison") for pk in given.get("judge_runs", [])],
        [chosen(runs, pk, field="agents", what="annotation run") for pk in given["agents"]],
    )


class JudgeRunEndpoint(RouterEndpoint):
    def judge_run(self, judge_run_id: int) -> JudgeRun:
        rows = JudgeRun.objects.select_related("project", "job", "created_by", "connection")
        return found_for(self.user, rows, judge_run_id, project="project", may=self.needed)


class JudgeRuns(JudgeRunEndpoint):
    @extend_schema(
        summary="A project's comparisons of two annotators, newest first",
        responses=JudgeRunSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.page(project.judge_runs.select_related("job", "created_by"), JudgeRunSerializer)

    @extend_schema(
        summary="Let a model compare two annotators' answers to the items that no person has answered",
        request=JudgeRunCreateSerializer,
        responses={201: JudgeRunSerializer},
        examples=[
            OpenApiExample(
                "A model compares",
                value={
                    "cheap": 1,
                    "premium": 2,
                    "kind": "prompted",
                    "connection": 1,
                    "model": "gpt-5-mini",
                    "spend_limit": "5",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(JudgeRunCreateSerializer)
        run = judge_run_create(
            project=project,
            user=self.user,
            choice=choice_of(self.user, given),
            spend_limit=given.get("spend_limit"),
            **_pair(project, given),
        )
        return self.reply(JudgeRunSerializer, run, status=201)


class JudgeRunEstimate(JudgeRunEndpoint):
    @extend_schema(
        summary="What comparing two annotators' answers would take",
        request=JudgeChoiceSerializer,
        responses={200: JudgeEstimateSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(JudgeChoiceSerializer)
        pair = _pair(project, given)
        estimate = judge_run_estimate(project=project, choice=choice_of(self.user, given), **pair)
        gold = gold_count(project=project, agents=list(pair.values()))
        return self.reply(JudgeEstimateSerializer, asdict(estimate) | {"gold": gold})


def _agents(project: Project, given: dict[str, Any]) -> list[AnnotationRun]:
    runs = project.annotation_runs.select_related("project", "job", "connection")
    return [chosen(runs, pk, field="agents", what="annotation run") for pk in given["agents"]]


class MissingJudgeRuns(JudgeRunEndpoint):
    @extend_schema(
        summary="Let a model compare every two of several annotators that have not been compared yet",
        description="Pairs between which there is nothing to compare are left out, with why; it is refused where that "
        "is so of all.",
        request=MissingCreateSerializer,
        responses={201: StartedSerializer},
        examples=[
            OpenApiExample(
                "Every two of three",
                value={
                    "agents": [1, 2, 3],
                    "kind": "prompted",
                    "connection": 1,
                    "model": "gpt-5-mini",
                    "spend_limit": "5",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(MissingCreateSerializer)
        started = missing_comparisons_start(
            project=project,
            user=self.user,
            agents=_agents(project, given),
            choice=choice_of(self.user, given),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(StartedSerializer, started, status=201)


class MissingJudgeRunsEstimate(JudgeRunEndpoint):
    @extend_schema(
        summary="What comparing every two of several annotators would take",
        request=MissingChoiceSerializer,
        responses={200: MissingEstimateSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(MissingChoiceSerializer)
        found = missing_comparisons(
            project=project, agents=_agents(project, given), choice=choice_of(self.user, given)
        )
        return self.reply(MissingEstimateSerializer, found)


class OneJudgeRun(JudgeRunEndpoint):
    @extend_schema(summary="Read a comparison", responses=JudgeRunSerializer)
    def get(self, request: Request, judge_run_id: int) -> Response:
        return self.reply(JudgeRunSerializer, self.judge_run(judge_run_id))


class JudgeRunAction(JudgeRunEndpoint):
    """Pause, cancel or retry; which one is said where the address is."""

    action_name = ""
    input_serializer: type[Input] = NothingSerializer

    @extend_schema(
        summary="Pause, cancel or retry a comparison", request=None, responses={200: JudgeRunSerializer}
    )
    def post(self, request: Request, judge_run_id: int) -> Response:
        run = self.judge_run(judge_run_id)
        given = self.given(self.input_serializer)
        run_act(
            project=run.project,
            run=run,
            user=self.user,
            action=self.action_name,
            retry=lambda: judge_run_retry(run=run),
            **given,
        )
        return self.reply(JudgeRunSerializer, run)


class JudgeRunResume(JudgeRunAction):
    action_name = "resume"
    input_serializer = ResumeSerializer

    @extend_schema(
        summary="Go on with a paused comparison",
        request=ResumeSerializer,
        responses={200: JudgeRunSerializer},
    )
    def post(self, request: Request, judge_run_id: int) -> Response:
        return super().post(request, judge_run_id)


class Preferences(JudgeRunEndpoint):
    @extend_schema(
        summary="Which answers a comparison found better, by item",
        description="1: the premium annotator's, −1: the cheap one's, 0: neither, null where it failed. Equal answers "
        "are 0 without a call: `attempts` is 0.",
        parameters=[CallFilter],
        responses=PreferenceSerializer(many=True),
    )
    def get(self, request: Request, judge_run_id: int) -> Response:
        rows = preferences_with_answers(self.judge_run(judge_run_id))
        return self.page(calls_filtered(rows, self.asked(CallFilter)), PreferenceSerializer, order="item_id")


class MetaRouters(RouterEndpoint):
    @extend_schema(
        summary="Train a router between a cheap and a premium annotator, or among several",
        request=MetaCreateSerializer,
        responses={202: RouterDetailSerializer},
        examples=[
            OpenApiExample("Premium or cheap", value={"judge_run": 1}, request_only=True),
            OpenApiExample("One of three", value={"agents": [1, 2, 3]}, request_only=True),
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(MetaCreateSerializer)
        judge_runs, agents = _among(project, given)
        choice = MetaChoice(
            judge_runs=judge_runs,
            agents=agents,
            learner=given.get("learner", "dr"),
            regressor=given.get("regressor", "forest"),
            scaling=given.get("scaling", "variance"),
            vectors=vector_choice(self.user, given.get("vectors", {})),
            name=given.get("name", ""),
            seed=given.get("seed"),
        )
        router = meta_create(project=project, user=self.user, choice=choice)
        return self.reply(RouterDetailSerializer, router, status=202)
