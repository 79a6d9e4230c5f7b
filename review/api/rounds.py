"""Review rounds: what is drawn, and where they stand."""

from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any, cast

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, permissions, project_for
from annotate.api.endpoint import Endpoint, Input, chosen
from annotate.api.runs import AccuracySerializer
from annotate.errors import Refusal
from annotate.models import Project
from criticize.models import CriticismRun
from review.accuracy import Measured, measured_final, measured_machine
from review.drawing import BETA
from review.models import ReviewRound, ReviewTask
from review.sampling import RULES
from review.selectors import (
    as_reviewers_see,
    round_progress,
)
from review.services.rounds import (
    MOST_SEED,
    calibration_round_create,
    round_close,
    round_create,
    round_preview,
    round_reopen,
)
from review.services.setups import round_setup_change
from review.setup import MOST_GOLD_MINIMUM, MOST_GOLD_RATE, MOST_OVERLAP, RoundSetup
from review.workload import round_workload

# Null for reviewers: with these they could tell the known items among theirs, or how suspicious an item is.
NOT_FOR_REVIEWERS = ("parameters", "seed", "overlap_share", "gold_rate", "gold_threshold", "gold_minimum")


# What reviewers see, as it is called for answers of every kind; the values are the same for all of them.
DISPLAYS = [(value, name.replace("label", "answer")) for value, name in ReviewRound.Display.choices]
ARMS = [
    (value, name.replace("Label and", "Answer and").replace("Label", "Answer alone"))
    for value, name in ReviewTask.Arm.choices
]


class ReviewRoundSerializer(serializers.ModelSerializer[ReviewRound]):
    """A round. Reviewers are not told its seed, its rule's parameters, or how it is checked by known items."""

    created_by = serializers.CharField(source="created_by.username", read_only=True)
    display = serializers.ChoiceField(DISPLAYS, read_only=True, help_text="What its reviewers see.")
    parameters = serializers.DictField(read_only=True, allow_null=True)
    seed = serializers.IntegerField(read_only=True, allow_null=True)
    overlap_share = serializers.FloatField(read_only=True, allow_null=True)
    gold_rate = serializers.FloatField(read_only=True, allow_null=True)
    gold_minimum = serializers.IntegerField(read_only=True, allow_null=True)

    class Meta:
        model = ReviewRound
        fields = [
            "id",
            "project",
            "kind",
            "criticism_run",
            "priority",
            "rule",
            "budget",
            "parameters",
            "seed",
            "population",
            "display",
            "overlap",
            "overlap_share",
            "gold_rate",
            "gold_threshold",
            "gold_minimum",
            "state",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def to_representation(self, instance: ReviewRound) -> dict[str, Any]:
        shown = super().to_representation(instance)
        return shown | dict.fromkeys(NOT_FOR_REVIEWERS) if self.is_for_a_reviewer(instance) else shown

    def is_for_a_reviewer(self, round: ReviewRound) -> bool:
        context = cast(dict[str, Any], self.context)
        sees: dict[int, bool] = context.setdefault("sees", {})  # by project: asked once for a page of rounds
        if round.project_id not in sees:
            sees[round.project_id] = permissions(self.context["view"].user, round.project).see
        return not sees[round.project_id]


class ReviewRoundProgressSerializer(serializers.Serializer[Any]):
    """A round at this moment."""

    budget = serializers.IntegerField()
    selected = serializers.IntegerField()
    answered = serializers.IntegerField()
    skipped = serializers.IntegerField()
    leased = serializers.IntegerField(help_text="Being looked at.")
    waiting = serializers.IntegerField()
    corrected = serializers.IntegerField(
        help_text="Answers that differ from the machine's; 0 for reviewers of a round that hides it."
    )
    mine = serializers.IntegerField(help_text="Answered or skipped by you.")


class ReviewRoundDetailSerializer(ReviewRoundSerializer):
    progress = serializers.SerializerMethodField()

    class Meta(ReviewRoundSerializer.Meta):
        fields = [*ReviewRoundSerializer.Meta.fields, "progress"]
        read_only_fields = fields

    @extend_schema_field(ReviewRoundProgressSerializer)
    def get_progress(self, round: ReviewRound) -> Any:
        return progress_of(round, self.context["view"])


def progress_of(round: ReviewRound, endpoint: Endpoint) -> Any:
    progress = round_progress(round, endpoint.user)
    if not permissions(endpoint.user, round.project).see:
        progress = as_reviewers_see(round, progress)
    return ReviewRoundProgressSerializer(progress).data


class RoundSetupSerializer(Input):
    """How a round is worked on: what reviewers see, who answers items again, and known items."""

    display = serializers.ChoiceField(
        DISPLAYS,
        required=False,
        help_text="What reviewers see; `random` draws it for each item. Calibration and audit rounds are blind.",
    )
    overlap = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_OVERLAP,
        help_text="People who answer each item of the share.",
    )
    overlap_share = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="Of the items, the share that several people answer, on top of the budget.",
    )
    gold_rate = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=MOST_GOLD_RATE,
        help_text="Of what a reviewer is handed, the share of known items.",
    )
    gold_threshold = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=1,
        help_text="A reviewer with a lower accuracy on known items is paused; null: nobody is.",
    )
    gold_minimum = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_GOLD_MINIMUM,
        help_text="Known items answered before anybody is paused.",
    )


SETUP = tuple(field.name for field in dataclass_fields(RoundSetup))


def setup_of(given: dict[str, Any], before: RoundSetup) -> RoundSetup:
    """The setup with what was sent of it."""
    return replace(before, **{name: given[name] for name in SETUP if name in given})


class ReviewRoundDrawSerializer(RoundSetupSerializer):
    criticism_run = serializers.IntegerField(help_text="Whose criticisms the round is drawn from.")
    budget = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="Reviews. Give this or the share."
    )
    share = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=1,
        help_text="Reviews as a share of the items.",
    )
    rule = serializers.ChoiceField(list(RULES), required=False, default="threshold")
    beta = serializers.FloatField(
        required=False,
        default=BETA,
        help_text="With the rule `exponential`: how steeply chances rise at the cut.",
    )
    seed = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MOST_SEED,
        help_text="By default the project's.",
    )
    priority = serializers.ChoiceField(
        ReviewRound.Priority.choices,
        required=False,
        default=ReviewRound.Priority.CRITICISM,
        help_text="What orders the items.",
    )
    training_share = serializers.FloatField(
        required=False,
        allow_null=True,
        help_text="With the priority `cdi` and too little to learn from: the part of the budget, above 0 and below 1, "
        "that is drawn at random first.",
    )


class ReviewRoundCreateSerializer(ReviewRoundDrawSerializer):
    kind = serializers.ChoiceField(
        [ReviewRound.Kind.REVIEW, ReviewRound.Kind.CALIBRATION],
        required=False,
        default=ReviewRound.Kind.REVIEW,
    )
    criticism_run = serializers.IntegerField(
        required=False, allow_null=True, help_text="Whose criticisms the round is drawn from."
    )


class WorkloadSerializer(serializers.Serializer[Any]):
    """Everything that people are asked for: the budget's items, further readings, and known items."""

    items = serializers.IntegerField(help_text="The planned budget.")
    further = serializers.IntegerField(help_text="Further readings of items that several people answer.")
    known = serializers.IntegerField(help_text="Known items, as expected.")
    total = serializers.IntegerField()
    cost = serializers.FloatField(help_text="US$ for all of them.")
    seconds = serializers.FloatField(allow_null=True, help_text="Of people's time for all of them.")


class ReviewRoundPreviewSerializer(serializers.Serializer[Any]):
    """What a budget would select."""

    items = serializers.IntegerField()
    budget = serializers.IntegerField()
    planned_budget = serializers.IntegerField(help_text="With what a training draw leaves for later.")
    selected = serializers.IntegerField()
    unanswered = serializers.IntegerField(
        help_text="Items without a usable error probability; they come first."
    )
    rule = serializers.CharField()
    priority = serializers.CharField()
    seed = serializers.IntegerField()
    parameters = serializers.DictField(help_text="The rule's, such as the threshold tau.")
    inclusion_sum = serializers.FloatField(help_text="The sum of the inclusion probabilities.")
    expected_errors = serializers.FloatField(
        allow_null=True, help_text="The sum of the error probabilities; null where there are none."
    )
    expected_found = serializers.FloatField(
        allow_null=True, help_text="The same, each times its inclusion probability."
    )
    scale = serializers.CharField(help_text="What the histogram is of.")
    counts = serializers.ListField(
        child=serializers.IntegerField(), help_text="Items in 20 equal bins from 0 to 1 of the scale."
    )
    selected_counts = serializers.ListField(child=serializers.IntegerField())
    cut = serializers.FloatField(allow_null=True, help_text="Tau or alpha, on the scale.")
    curve = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="Pairs of an error probability and its inclusion probability, for rules that give chances.",
    )
    cost = serializers.FloatField(help_text="US$ for the reviews of the planned budget.")
    seconds = serializers.FloatField(
        allow_null=True, help_text="Of people's time, at the median of the project's answers."
    )
    workload = WorkloadSerializer()


class RoundEndpoint(Endpoint):
    tag = "review rounds"

    def round(self, round_id: int, *, may: May = May.ENTER) -> ReviewRound:
        rows = ReviewRound.objects.select_related("project", "created_by")
        return found_for(self.user, rows, round_id, project="project", may=may)


def _criticism_run(project: Project, run_id: int | None) -> CriticismRun:
    if run_id is None:
        raise Refusal("Name the criticism run to draw from.", field="criticism_run")
    rows = CriticismRun.objects.filter(annotation_run__project=project)
    return chosen(
        rows.select_related("annotation_run__project", "job"),
        run_id,
        field="criticism_run",
        what="criticism run",
    )


class ReviewRounds(RoundEndpoint):
    @extend_schema(summary="A project's rounds, newest first", responses=ReviewRoundSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id)
        return self.page(project.review_rounds.select_related("created_by"), ReviewRoundSerializer)

    @extend_schema(
        summary="Draw a round within a budget",
        description="Of kind `review` from a criticism run; of kind `calibration` random items to answer blind.",
        request=ReviewRoundCreateSerializer,
        responses={201: ReviewRoundDetailSerializer},
        examples=[
            OpenApiExample(
                "A tenth of the items", value={"criticism_run": 1, "share": 0.1}, request_only=True
            ),
            OpenApiExample(
                "100 items to answer blind", value={"kind": "calibration", "budget": 100}, request_only=True
            ),
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        round = _round_create(self, project, self.given(ReviewRoundCreateSerializer))
        return self.reply(ReviewRoundDetailSerializer, round, status=201)


def _round_create(endpoint: Endpoint, project: Project, given: dict[str, Any]) -> ReviewRound:
    setup = setup_of(given, RoundSetup())
    if given["kind"] == ReviewRound.Kind.CALIBRATION:
        if given.get("budget") is None:
            raise Refusal("Say how many items to label.", field="budget")
        return calibration_round_create(
            project=project, user=endpoint.user, count=given["budget"], setup=setup
        )
    run = _criticism_run(project, given.get("criticism_run"))
    return round_create(run=run, user=endpoint.user, setup=setup, **_plan(given))


def _plan(given: dict[str, Any]) -> dict[str, Any]:
    """What was sent about the draw, as `round_preview` and `round_create` take it."""
    names = ("share", "rule", "beta", "seed", "priority", "training_share")
    return {"count": given.get("budget")} | {name: given.get(name) for name in names}


class ReviewRoundPreview(RoundEndpoint):
    @extend_schema(
        summary="What a budget would select",
        description="Commits nothing. The round drawn of the same selects exactly this.",
        request=ReviewRoundDrawSerializer,
        responses={200: ReviewRoundPreviewSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        given = self.given(ReviewRoundDrawSerializer)
        run = _criticism_run(project, given["criticism_run"])
        preview = round_preview(run=run, **_plan(given))
        work = round_workload(run, setup_of(given, RoundSetup()), preview.planned_budget)
        return self.reply(ReviewRoundPreviewSerializer, {**vars(preview), "workload": work.workload})


class ReviewRoundSetup(RoundEndpoint):
    @extend_schema(
        summary="Change what an open round's reviewers see, and its known items",
        description="What is not sent stays. It holds for what waits: what is answered or looked at stays as it was "
        "shown. How many people answer an item is fixed once a round is drawn.",
        request=RoundSetupSerializer,
        responses={200: ReviewRoundDetailSerializer},
        examples=[
            OpenApiExample(
                "A tenth known items", value={"gold_rate": 0.1, "gold_threshold": 0.7}, request_only=True
            )
        ],
    )
    def patch(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        setup = setup_of(self.given(RoundSetupSerializer), RoundSetup.of(round))
        round_setup_change(round=round, user=self.user, setup=setup)
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class OneReviewRound(RoundEndpoint):
    @extend_schema(summary="A round and its progress", responses=ReviewRoundDetailSerializer)
    def get(self, request: Request, round_id: int) -> Response:
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class MeasuredSerializer(AccuracySerializer):
    """Answers against gold, with 95% intervals."""

    low = serializers.FloatField(allow_null=True, help_text="Of the share: Wilson's interval.")
    high = serializers.FloatField(allow_null=True)
    f1_low = serializers.FloatField(
        allow_null=True, help_text="Of F1, by drawing the items again; null where that says nothing."
    )
    f1_high = serializers.FloatField(allow_null=True)


class RoundAccuracySerializer(MeasuredSerializer):
    """Of the final answers."""

    machine = MeasuredSerializer(allow_null=True, help_text="Of the machine's alone.")


def _told(found: Measured) -> dict[str, Any]:
    return {
        "right": found.right,
        "judged": found.judged,
        "share": found.share,
        "low": found.low,
        "high": found.high,
        "f1": found.f1.value,
        "f1_low": found.f1.low,
        "f1_high": found.f1.high,
    }


class ReviewRoundAccuracy(RoundEndpoint):
    @extend_schema(
        summary="The final answers against gold",
        description="Over all items of the round's annotation run that have gold.",
        responses=RoundAccuracySerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        run = round.criticism_run
        machine = measured_machine(run.annotation_run) if run is not None else None
        final = measured_final(round)
        return self.reply(RoundAccuracySerializer, _told(final) | {"machine": machine and _told(machine)})


class ReviewRoundClose(RoundEndpoint):
    @extend_schema(
        summary="Hand out no more items", request=None, responses={200: ReviewRoundDetailSerializer}
    )
    def post(self, request: Request, round_id: int) -> Response:
        round_close(round=self.round(round_id, may=self.needed), user=self.user)
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class ReviewRoundReopen(RoundEndpoint):
    @extend_schema(summary="Hand out items again", request=None, responses={200: ReviewRoundDetailSerializer})
    def post(self, request: Request, round_id: int) -> Response:
        round_reopen(round=self.round(round_id, may=self.needed), user=self.user)
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))
