"""Candidates: the leaderboard of annotators, the grid of annotators and criticizers, and what to choose."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import project_for
from annotate.api.endpoint import Endpoint, Input, chosen
from annotate.api.runs import (
    AnnotationRunSerializer,
    AnnotatorSerializer,
    ModelChoiceSerializer,
    choice_of,
)
from annotate.models import AnnotationRun, Project, User
from annotate.services.runs import ModelChoice
from criticize.api.runs import CriticismRunSerializer
from criticize.candidate_services import (
    Plan,
    Started,
    candidates_plan,
    candidates_start,
    grid_plan,
    grid_start,
)
from criticize.candidates import Board, board_of, recommendation_of
from criticize.grid import Grid, grid_of
from criticize.strategies import CHOICES as STRATEGY_CHOICES


class CandidateSerializer(serializers.Serializer[Any]):
    """A candidate annotator against the calibration answers; shares are null until it is finished."""

    annotation_run = serializers.IntegerField(source="run.pk")
    name = serializers.CharField()
    state = serializers.CharField(source="run.job.state")
    asked = serializers.IntegerField(help_text="Calibration items that it was asked about.")
    items = serializers.IntegerField(help_text="Calibration items.")
    place = serializers.IntegerField(source="score.place", default=None, allow_null=True)
    right = serializers.IntegerField(source="score.tally.right", default=None, allow_null=True)
    accuracy = serializers.FloatField(
        source="score.accuracy",
        default=None,
        allow_null=True,
        help_text="Items without an answer count as wrong.",
    )
    f1 = serializers.FloatField(
        source="score.tally.f1",
        default=None,
        allow_null=True,
        help_text="Mean token F1 where answers are spans: then `accuracy` is the share of exact matches.",
    )
    low = serializers.FloatField(
        source="score.low", default=None, allow_null=True, help_text="Of Wilson's 95% interval."
    )
    high = serializers.FloatField(source="score.high", default=None, allow_null=True)
    failed_share = serializers.FloatField(source="score.failed_share", default=None, allow_null=True)
    unparseable_share = serializers.FloatField(
        source="score.unparseable_share", default=None, allow_null=True
    )
    cost_per_thousand = serializers.FloatField(
        source="score.cost_per_thousand",
        default=None,
        allow_null=True,
        help_text="US$; null without a price.",
    )
    seconds_per_item = serializers.FloatField(source="score.tally.seconds", default=None, allow_null=True)
    input_tokens = serializers.IntegerField(source="score.tally.input_tokens", default=None, allow_null=True)
    output_tokens = serializers.IntegerField(
        source="score.tally.output_tokens", default=None, allow_null=True
    )


class RecommendedSerializer(serializers.Serializer[Any]):
    annotation_run = serializers.IntegerField(help_text="The candidate that this rests on.")
    model = serializers.CharField()
    strategy = serializers.CharField(help_text="Empty for what takes no prompts.")


class RecommendationSerializer(serializers.Serializer[Any]):
    """The most accurate model annotates, the second most accurate other model criticizes."""

    annotator = RecommendedSerializer()
    criticizer = RecommendedSerializer(allow_null=True)
    is_self_criticism = serializers.BooleanField()
    is_established = serializers.BooleanField(
        help_text="False where intervals overlap so that the order may be another."
    )
    reasons = serializers.ListField(child=serializers.CharField())
    grid = serializers.CharField(help_text="What measured pairs add; empty before any was measured.")


class CellSerializer(serializers.Serializer[Any]):
    """A criticizer on an annotator's answers. ABS is null without errors to find, and until the run is finished."""

    id = serializers.CharField(help_text="For the curves.")
    annotation_run = serializers.IntegerField(source="annotator")
    criticism_run = serializers.IntegerField(source="run.pk", default=None, allow_null=True)
    items = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    abs = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True, help_text="Of the 95% bootstrap interval.")
    high = serializers.FloatField(allow_null=True)
    failed_share = serializers.FloatField(allow_null=True)
    is_self_criticism = serializers.BooleanField()
    problem = serializers.CharField(help_text="Why it has no figure, where that has a reason.")


class GridRowSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.ChoiceField(["criticism", "combined", "confidence", "cdi"])
    cells = serializers.SerializerMethodField(help_text="Of the annotators that this was measured on.")

    @extend_schema_field(CellSerializer(many=True))
    def get_cells(self, row: Any) -> Any:
        return CellSerializer([cell for cell in row.cells if cell is not None], many=True).data


class CandidatesSerializer(serializers.Serializer[Any]):
    calibration_items = serializers.IntegerField()
    candidates = CandidateSerializer(many=True)
    order = serializers.CharField(help_text="What the order of the candidates is worth, in words.")
    recommendation = RecommendationSerializer(allow_null=True)
    grid = GridRowSerializer(many=True)


class CandidateLimitSerializer(Input):
    spend_limit = serializers.DecimalField(
        max_digits=12,
        decimal_places=4,
        required=False,
        allow_null=True,
        help_text="US$ for each run; it pauses before it would spend more.",
    )


class CandidatesCreateSerializer(CandidateLimitSerializer):
    choices = AnnotatorSerializer(many=True, allow_empty=False)


class CriticizerSerializer(ModelChoiceSerializer):
    strategy = serializers.ChoiceField(
        STRATEGY_CHOICES,
        required=False,
        help_text="`cot` by default.",
    )


class GridCreateSerializer(CandidateLimitSerializer):
    choices = CriticizerSerializer(many=True, allow_empty=False)
    annotation_runs = serializers.ListField(
        child=serializers.IntegerField(),
        allow_empty=False,
        help_text="Finished candidates whose answers are criticized.",
    )


class LeftOutSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    problem = serializers.CharField()


class PlanSerializer(serializers.Serializer[Any]):
    """What would be asked."""

    runs = serializers.IntegerField()
    calls = serializers.IntegerField()
    cost = serializers.FloatField(allow_null=True, help_text="US$; null where a model has no price.")
    seconds = serializers.FloatField(help_text="As if one run followed another.")
    tried = serializers.ListField(
        child=serializers.CharField(), help_text="Not asked again, since nothing is new."
    )
    refused = LeftOutSerializer(many=True)


class StartedSerializer(serializers.Serializer[Any]):
    tried = serializers.ListField(
        child=serializers.CharField(), help_text="Not asked again, since nothing is new."
    )
    refused = LeftOutSerializer(many=True)


class CandidatesStartedSerializer(StartedSerializer):
    created = AnnotationRunSerializer(many=True)
    extended = AnnotationRunSerializer(
        many=True, help_text="Go on with the items that they were not asked about."
    )


class GridStartedSerializer(StartedSerializer):
    created = CriticismRunSerializer(many=True)
    extended = CriticismRunSerializer(
        many=True, help_text="Go on with the answers that they did not judge yet."
    )


class CurvesFilter(Input):
    cell = serializers.CharField(help_text="Ids of the grid's cells, with commas between them.")


class CurveSerializer(serializers.Serializer[Any]):
    cell = serializers.CharField(source="id")
    name = serializers.CharField()
    error_share = serializers.FloatField(help_text="The ideal order has found every error at this budget.")
    points = serializers.SerializerMethodField(help_text="Pairs of budget share and AQG.")

    def get_points(self, series: Any) -> list[list[float]]:
        return [list(point) for point in series.points]


class CurvesSerializer(serializers.Serializer[Any]):
    curves = CurveSerializer(many=True, help_text="In the grid's order; cells without a figure have none.")


def _choices(user: User, given: dict[str, Any]) -> list[ModelChoice]:
    return [choice_of(user, each) for each in given["choices"]]


def _annotation_runs(project: Project, given: dict[str, Any]) -> list[AnnotationRun]:
    rows = project.annotation_runs.filter(scope=AnnotationRun.Scope.CALIBRATION).select_related(
        "project", "job"
    )
    return [
        chosen(rows, pk, field="annotation_runs", what="candidate annotation run")
        for pk in dict.fromkeys(given["annotation_runs"])
    ]


def _recommendation(board: Board, grid: Grid) -> dict[str, Any] | None:
    advice = recommendation_of(board, grid.pairs())
    if advice is None:
        return None

    def recommended(candidate: Any, strategy: str) -> dict[str, Any]:
        return {
            "annotation_run": candidate.score.tally.key,
            "model": candidate.model_name,
            "strategy": strategy,
        }

    return {
        "annotator": recommended(advice.annotator, advice.annotator_strategy),
        "criticizer": None
        if advice.criticizer is None
        else recommended(advice.criticizer, advice.criticizer_strategy),
        "is_self_criticism": advice.is_self_criticism,
        "is_established": advice.is_established,
        "reasons": advice.reasons,
        "grid": advice.grid,
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "runs": len(plan.to_ask),
        "calls": plan.calls,
        "cost": plan.cost,
        "seconds": plan.seconds,
        "tried": [each.name for each in plan.tried],
        "refused": plan.refused,
    }


def _started(started: Started) -> dict[str, Any]:
    return {
        "created": started.created,
        "extended": started.extended,
        "tried": [each.name for each in started.tried],
        "refused": started.refused,
    }


class CandidatesEndpoint(Endpoint):
    tag = "candidates"


_EXAMPLE = {"kind": "prompted", "connection": 1, "model": "gpt-5-mini"}


class Candidates(CandidatesEndpoint):
    @extend_schema(
        summary="The leaderboard of candidate annotators, the grid of criticizers, and the recommended pair",
        responses=CandidatesSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        board, grid = board_of(project), grid_of(project)
        return self.reply(
            CandidatesSerializer,
            {
                "calibration_items": board.items,
                "candidates": board.rows,
                "order": board.words,
                "recommendation": _recommendation(board, grid),
                "grid": grid.rows,
            },
        )

    @extend_schema(
        summary="Try annotators on the calibration items; those tried before are asked what is new alone",
        request=CandidatesCreateSerializer,
        responses={201: CandidatesStartedSerializer},
        examples=[
            OpenApiExample(
                "Two strategies of a model, and the trained classifier",
                value={
                    "choices": [
                        {**_EXAMPLE, "strategy": "cot"},
                        {**_EXAMPLE, "strategy": "naive"},
                        {"kind": "trained"},
                    ]
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(CandidatesCreateSerializer)
        started = candidates_start(
            project=project,
            user=self.user,
            choices=_choices(self.user, given),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(CandidatesStartedSerializer, _started(started), status=201)


class CandidateEstimate(CandidatesEndpoint):
    @extend_schema(
        summary="What trying annotators would take",
        request=CandidatesCreateSerializer,
        responses={200: PlanSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(CandidatesCreateSerializer)
        plan = candidates_plan(project=project, choices=_choices(self.user, given))
        return self.reply(PlanSerializer, _plan(plan))


class CandidateGrid(CandidatesEndpoint):
    @extend_schema(
        summary="Let each of some criticizers judge each of some candidate annotators",
        request=GridCreateSerializer,
        responses={201: GridStartedSerializer},
        examples=[
            OpenApiExample(
                "One criticizer on two annotators",
                value={"annotation_runs": [1, 2], "choices": [{**_EXAMPLE, "strategy": "cot"}]},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(GridCreateSerializer)
        started = grid_start(
            annotation_runs=_annotation_runs(project, given),
            user=self.user,
            choices=_choices(self.user, given),
            spend_limit=given.get("spend_limit"),
        )
        return self.reply(GridStartedSerializer, _started(started), status=201)


class CandidateGridEstimate(CandidatesEndpoint):
    @extend_schema(
        summary="What measuring cells of the grid would take",
        request=GridCreateSerializer,
        responses={200: PlanSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(GridCreateSerializer)
        plan = grid_plan(annotation_runs=_annotation_runs(project, given), choices=_choices(self.user, given))
        return self.reply(PlanSerializer, _plan(plan))


class CandidateCurves(CandidatesEndpoint):
    @extend_schema(
        summary="AQG against the budget of cells of the grid",
        parameters=[CurvesFilter],
        responses=CurvesSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        cells = self.asked(CurvesFilter)["cell"].split(",")
        return self.reply(CurvesSerializer, {"curves": grid_of(project).series(cells)})
