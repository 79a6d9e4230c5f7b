"""The budget plan of a project."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import project_for
from annotate.api.endpoint import Input, chosen
from review.api.rounds import RoundEndpoint
from review.planning import BUFFER, budget_plan
from review.selectors import (
    drawable_runs,
)


class BudgetPlanFilter(Input):
    criticism_run = serializers.IntegerField(
        required=False, help_text="By default the project's latest finished one."
    )
    budget = serializers.IntegerField(
        required=False, min_value=1, help_text="Reviews. Without it and the share, the recommended budget."
    )
    share = serializers.FloatField(required=False, min_value=0, max_value=1)
    buffer = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="Added to the ideal budget, as a share; 0.1."
    )


class BudgetMeasuredSerializer(serializers.Serializer[Any]):
    """How often the annotator is right, with a 95% interval."""

    annotation_run = serializers.IntegerField(source="run.pk")
    right = serializers.IntegerField(source="accuracy.right")
    judged = serializers.IntegerField(source="accuracy.judged")
    share = serializers.FloatField(source="accuracy.share")
    low = serializers.FloatField()
    high = serializers.FloatField()
    on_gold = serializers.BooleanField(
        help_text="Whether by gold answers of the project's items; else by calibration answers."
    )


class BudgetPriceSerializer(serializers.Serializer[Any]):
    amount = serializers.FloatField(allow_null=True, help_text="US$; null without a price.")
    is_estimate = serializers.BooleanField()


class BudgetFindingSerializer(serializers.Serializer[Any]):
    """What reviewing the most suspicious first should find."""

    errors = serializers.FloatField(help_text="Expected in all.")  # type: ignore[assignment]
    found = serializers.FloatField(help_text="Expected among the items of the budget.")
    known = serializers.IntegerField(
        help_text="Annotations that people judged, on which error probabilities are calibrated; 0: they are not."
    )
    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="Pairs of a share of the items and a share of the errors.",
    )


class BudgetPlanSerializer(serializers.Serializer[Any]):
    """What a budget of reviews comes to. Amounts are in US$."""

    items = serializers.IntegerField()
    budget = serializers.IntegerField()
    share = serializers.FloatField()
    buffer = serializers.FloatField()
    annotation_run = serializers.IntegerField(source="annotation_run.pk", allow_null=True, default=None)
    criticism_run = serializers.IntegerField(source="criticism_run.pk", allow_null=True, default=None)
    measured = BudgetMeasuredSerializer(allow_null=True)
    ideal = serializers.FloatField(allow_null=True, help_text="1 − the annotator's accuracy.")
    ideal_low = serializers.FloatField(allow_null=True)
    ideal_high = serializers.FloatField(allow_null=True)
    recommended = serializers.IntegerField(allow_null=True, help_text="Reviews: ideal and buffer.")
    review_price = serializers.FloatField()
    annotation = BudgetPriceSerializer()
    criticism = BudgetPriceSerializer()
    models = serializers.FloatField(help_text="As far as prices are known.")
    reviews = serializers.FloatField()
    total = serializers.FloatField()
    all_human = serializers.FloatField()
    saved = serializers.FloatField(allow_null=True, help_text="Share of the all-human price.")
    finding = BudgetFindingSerializer(allow_null=True)


class ProjectBudgetPlan(RoundEndpoint):
    @extend_schema(
        summary="How many reviews to buy, what they cost and what they should find",
        parameters=[BudgetPlanFilter],
        responses=BudgetPlanSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        asked = self.asked(BudgetPlanFilter)
        run_id = asked.pop("criticism_run", None)
        run = (
            None
            if run_id is None
            else chosen(drawable_runs(project), run_id, field="criticism_run", what="finished criticism run")
        )
        plan = budget_plan(
            project,
            criticism_run=run,
            count=asked.get("budget"),
            share=asked.get("share"),
            buffer=asked.get("buffer", BUFFER),
        )
        return self.reply(BudgetPlanSerializer, plan)
