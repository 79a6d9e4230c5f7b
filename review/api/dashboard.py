"""The dashboard's numbers: all of its charts, and each as CSV."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import project_for
from annotate.api.endpoint import Endpoint, Filter
from review.dashboard import PARTS, TABLES, part_of, table_file
from review.dashboard_scope import Scope, scope_of


class _Out(serializers.Serializer[Any]):
    pass


class DashboardStageSerializer(_Out):
    key = serializers.CharField()
    title = serializers.CharField()
    column = serializers.IntegerField(help_text="How far along it lies, from 0.")
    count = serializers.IntegerField(help_text="Items that passed it or are in it.")


class DashboardFlowSerializer(_Out):
    source = serializers.CharField(help_text="A stage's key.")  # type: ignore[assignment]
    target = serializers.CharField(help_text="A stage's key.")
    count = serializers.IntegerField(help_text="Items that went from the one to the other.")


class DashboardPipelineSerializer(_Out):
    items = serializers.IntegerField()
    stages = DashboardStageSerializer(many=True, help_text="Those with items.")
    flows = DashboardFlowSerializer(many=True)
    picked = serializers.IntegerField(help_text="Items to review that were picked by hand, outside the draw.")
    further_readings = serializers.IntegerField(help_text="Turns on top of one an item.")
    adjudications = serializers.IntegerField()
    known_items = serializers.IntegerField(help_text="Turns of reviewers at items whose answer is known.")


class DashboardFailureSerializer(_Out):
    name = serializers.CharField()
    count = serializers.IntegerField()


class DashboardRunSerializer(_Out):
    kind = serializers.ChoiceField(["annotation", "criticism"])
    run = serializers.IntegerField(source="run_id")
    who = serializers.CharField()
    state = serializers.CharField()
    done = serializers.IntegerField(source="progress.done")
    total = serializers.IntegerField(source="progress.total")
    failed = serializers.IntegerField(source="progress.failed")
    failures = DashboardFailureSerializer(many=True)
    per_minute = serializers.FloatField()
    seconds_left = serializers.FloatField(source="progress.eta", allow_null=True)
    spent = serializers.FloatField(source="progress.cost", help_text="US$, as far as prices are known.")
    spend_limit = serializers.FloatField(source="progress.spend_limit", allow_null=True)


class DashboardRunsSerializer(_Out):
    is_active = serializers.BooleanField()
    runs = DashboardRunSerializer(many=True, help_text="Those under way, else the last of each kind.")


class DashboardCurveSerializer(_Out):
    source = serializers.CharField(  # type: ignore[assignment]
        help_text="Where right answers come from: gold, calibration, or empty where there are none."
    )
    items = serializers.IntegerField(help_text="That it was measured on.")
    errors = serializers.IntegerField(help_text="Of those, wrong ones.")  # type: ignore[assignment]
    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="Pairs: share of items reviewed, share of errors among them (AQG).",
    )
    population = serializers.IntegerField(help_text="Items that the round was drawn from.")
    budget = serializers.IntegerField(allow_null=True)
    budget_share = serializers.FloatField(allow_null=True)
    at_budget = serializers.FloatField(allow_null=True, help_text="AQG at the budget.")
    reviewed = serializers.IntegerField()
    found = serializers.IntegerField(help_text="Reviewed items on which the machine was wrong.")
    found_share = serializers.FloatField(
        allow_null=True, help_text="Of all errors that the measured share of errors lets expect."
    )


class DashboardBinSerializer(_Out):
    low = serializers.FloatField()
    high = serializers.FloatField()
    items = serializers.IntegerField()
    reviewed = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment]
        help_text="Reviewed items on which the machine was wrong."
    )


class DashboardDoubtsSerializer(_Out):
    scale = serializers.CharField(help_text="What the bins are of.")
    is_rank = serializers.BooleanField(help_text="Whether they are tenths of an order without probabilities.")
    bins = DashboardBinSerializer(many=True)
    cut = serializers.FloatField(allow_null=True, help_text="Tau or alpha, on the scale.")
    without = DashboardBinSerializer(
        allow_null=True, help_text="Items without a usable answer, which have no place on the scale."
    )


class DashboardPairSerializer(_Out):
    machine = serializers.CharField(help_text="A label's name, or “no label” where the annotator failed.")
    human = serializers.CharField()
    count = serializers.IntegerField()


class DashboardConfusionSerializer(_Out):
    reviewed = serializers.IntegerField()
    agreed = serializers.IntegerField()
    pairs = DashboardPairSerializer(many=True, help_text="All that occur, most frequent first.")


class DashboardMatchesSerializer(_Out):
    """The machine's answers beside people's, where answers are spans of a text."""

    reviewed = serializers.IntegerField()
    exact = serializers.IntegerField(help_text="Answers that match exactly, also in that there is none.")
    other = serializers.IntegerField(help_text="Other words.")
    found = serializers.IntegerField(help_text="Answers of the machine where people say that there is none.")
    missed = serializers.IntegerField(help_text="The other way around.")
    failed = serializers.IntegerField(help_text="Items of which the machine gave no answer; their F1 is 0.")
    f1 = serializers.FloatField(source="f1.value", allow_null=True, help_text="Mean token F1, from 0 to 1.")
    f1_low = serializers.FloatField(source="f1.low", allow_null=True, help_text="Of its 95% interval.")
    f1_high = serializers.FloatField(source="f1.high", allow_null=True)
    bins = serializers.ListField(child=serializers.IntegerField(), help_text="Items in ten bins of F1.")


class DashboardRunCostSerializer(_Out):
    kind = serializers.ChoiceField(["annotation", "criticism"])
    run = serializers.IntegerField(source="run_id")
    who = serializers.CharField()
    is_candidate = serializers.BooleanField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost = serializers.FloatField(allow_null=True, help_text="US$; null where no price is known.")


class DashboardReviewCostSerializer(_Out):
    name = serializers.CharField(
        help_text="What the turns were; `Many at once`: answers from the list of items."
    )
    reviews = serializers.IntegerField(help_text="Turns answered or skipped.")
    cost = serializers.FloatField(help_text="US$; 0 for answers given to many items at once.")


class DashboardCostSerializer(_Out):
    """US$ so far, of the whole project."""

    models = serializers.FloatField()
    people = serializers.FloatField()
    total = serializers.FloatField()
    by_hand = serializers.FloatField(help_text="Every item answered once by a person.")
    unpriced = serializers.IntegerField(help_text="Runs whose price is not known.")
    review_price = serializers.FloatField()
    runs = DashboardRunCostSerializer(many=True)
    reviews = DashboardReviewCostSerializer(many=True)


class DashboardSpanSerializer(_Out):
    start = serializers.DateTimeField()
    reviews = serializers.IntegerField()


class DashboardReviewerSerializer(_Out):
    reviewer = serializers.CharField()
    reviews = serializers.IntegerField()
    median_seconds = serializers.FloatField(allow_null=True)
    active_seconds = serializers.FloatField(help_text="In gaps between answers of under five minutes.")
    per_hour = serializers.FloatField(allow_null=True, help_text="Reviews an hour of active time.")


class DashboardPaceSerializer(_Out):
    """Answers and skips of the last 14 days, in all rounds, also those taken back."""

    hours = DashboardSpanSerializer(many=True, help_text="Of today.")
    days = DashboardSpanSerializer(many=True)
    reviewers = DashboardReviewerSerializer(many=True)


class DashboardSerializer(_Out):
    """Every chart's numbers. Null where there is nothing to say yet."""

    round = serializers.IntegerField(allow_null=True, help_text="The review round that it is of.")
    pipeline = DashboardPipelineSerializer()
    runs = DashboardRunsSerializer()
    curve = DashboardCurveSerializer(allow_null=True)
    doubts = DashboardDoubtsSerializer(allow_null=True)
    confusion = DashboardConfusionSerializer(allow_null=True)
    matches = DashboardMatchesSerializer(allow_null=True)
    cost = DashboardCostSerializer()
    pace = DashboardPaceSerializer()


class DashboardRoundSerializer(Filter):
    round = serializers.IntegerField(
        required=False, min_value=1, max_value=2**62, help_text="A review round; by default the newest."
    )


class DashboardTableChoiceSerializer(DashboardRoundSerializer):
    name = serializers.ChoiceField(list(TABLES), help_text="The chart.")


class DashboardEndpoint(Endpoint):
    tag = "dashboard"

    def scope(self, project_id: int, round_id: int | None) -> Scope:
        return scope_of(project_for(self.user, project_id, may=self.needed), round_id)


class Dashboard(DashboardEndpoint):
    @extend_schema(
        summary="The numbers of all charts of a project's dashboard",
        description="Those that take long to count are kept for up to a minute.",
        parameters=[DashboardRoundSerializer],
        responses=DashboardSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project_for(self.user, project_id, may=self.needed)
        scope = self.scope(project_id, self.asked(DashboardRoundSerializer).get("round"))
        parts = {name: part_of(scope, name) for name in PARTS}
        return self.reply(DashboardSerializer, {"round": scope.round.pk if scope.round else None, **parts})


class DashboardTable(DashboardEndpoint):
    @extend_schema(
        summary="The numbers of one chart as CSV",
        parameters=[DashboardTableChoiceSerializer],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request, project_id: int) -> StreamingHttpResponse:
        project_for(self.user, project_id, may=self.needed)
        asked = self.asked(DashboardTableChoiceSerializer)
        return table_file(self.scope(project_id, asked.get("round")), asked["name"])
