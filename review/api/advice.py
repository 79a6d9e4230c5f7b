"""The API of a round's advice, and of raising its budget."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoint import Input
from annotate.errors import Refusal
from review.advice import TITLES
from review.advising import round_advice
from review.api.rounds import ReviewRoundDetailSerializer, RoundEndpoint
from review.models import BudgetRaise, ReviewRound
from review.services.raising import raise_preview, round_raise


class ExpectedSerializer(serializers.Serializer[Any]):
    """Errors that so many reviews should find, with a 95% interval."""

    reviews = serializers.IntegerField()
    errors = serializers.FloatField()  # type: ignore[assignment]
    low = serializers.IntegerField()
    high = serializers.IntegerField()
    is_bound = serializers.BooleanField(
        help_text="Some of the items are less suspicious than all reviewed: the estimate is an upper bound."
    )


class VerdictSerializer(serializers.Serializer[Any]):
    advice = serializers.ChoiceField(list(TITLES))
    reason = serializers.CharField()


class ErrorGroupSerializer(serializers.Serializer[Any]):
    """Reviews one after another, counted from 1."""

    first = serializers.IntegerField()
    last = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    is_whole = serializers.BooleanField()


class ReliabilityBinSerializer(serializers.Serializer[Any]):
    """Reviewed items with neighboring scores, and the share wrong with its 95% interval."""

    low = serializers.FloatField()
    high = serializers.FloatField()
    mean = serializers.FloatField()
    reviewed = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    share = serializers.FloatField()
    share_low = serializers.FloatField()
    share_high = serializers.FloatField()


class CalibrationStepSerializer(serializers.Serializer[Any]):
    low = serializers.FloatField()
    high = serializers.FloatField()
    reviewed = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    error_prob = serializers.FloatField()


class BudgetRaiseSerializer(serializers.ModelSerializer[BudgetRaise]):
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = BudgetRaise
        fields = [
            "draw_number",
            "old_budget",
            "new_budget",
            "reviewed",
            "parameters",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields


class ReviewRoundAdviceSerializer(serializers.Serializer[Any]):
    """What the answers so far say about the reviews to come."""

    answered = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    evidence = serializers.IntegerField(
        help_text="Blind answers of calibration items and audits that the calibration uses too."
    )
    left = serializers.IntegerField(help_text="Reviews left in the budget.")
    axis = serializers.CharField(help_text="What the scores of bins and steps are.")
    is_probability = serializers.BooleanField(help_text="Whether those scores are error probabilities.")
    group_size = serializers.IntegerField()
    groups = ErrorGroupSerializer(many=True)
    bins = ReliabilityBinSerializer(many=True)
    steps = CalibrationStepSerializer(many=True, help_text="The calibration; none while there is too little.")
    ahead = ExpectedSerializer(allow_null=True, help_text="The next reviews in the budget, at most 100.")
    rest = ExpectedSerializer(allow_null=True, help_text="All reviews left in the budget.")
    beyond = ExpectedSerializer(
        allow_null=True, help_text="Up to 100 reviews that a larger budget would add."
    )
    verdict = VerdictSerializer()
    raises = BudgetRaiseSerializer(many=True)


class RaiseSerializer(Input):
    budget = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        help_text="The new number of reviews, or give the share.",
    )
    share = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)


class RaisePreviewSerializer(serializers.Serializer[Any]):
    old_budget = serializers.IntegerField()
    budget = serializers.IntegerField()
    more = serializers.IntegerField()
    cost = serializers.DecimalField(
        max_digits=None, decimal_places=4, help_text="US$ for the reviews it adds."
    )
    kept = serializers.IntegerField(help_text="Tasks that stay as they are.")
    waiting = serializers.IntegerField(help_text="Tasks that would wait then.")
    reopens = serializers.BooleanField(help_text="Whether a closed round opens again.")


class ReviewRoundAdvice(RoundEndpoint):
    @extend_schema(
        summary="Whether more review is worth it",
        description="Errors found so far, how right the error probabilities are, and what the next reviews should "
        "find. For a review round; blind rounds have none.",
        responses=ReviewRoundAdviceSerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        if round.kind != ReviewRound.Kind.REVIEW:
            raise Refusal("There is advice on review rounds alone.")
        raises = round.budget_raises.select_related("created_by")
        advice = round_advice(round)
        said = {**vars(advice), "steps": advice.steps, "raises": raises}
        return self.reply(ReviewRoundAdviceSerializer, said)


class ReviewRoundRaise(RoundEndpoint):
    @extend_schema(
        summary="Raise a round's budget",
        description="What is answered, skipped or held stays; the rest of the larger budget is drawn anew among the "
        "other items. A closed round opens again. A budget cannot be lowered.",
        request=RaiseSerializer,
        responses={200: ReviewRoundDetailSerializer},
        examples=[OpenApiExample("To 300 reviews", value={"budget": 300}, request_only=True)],
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        given = self.given(RaiseSerializer)
        round_raise(round=round, user=self.user, count=given.get("budget"), share=given.get("share"))
        return self.reply(ReviewRoundDetailSerializer, self.round(round_id))


class ReviewRoundRaisePreview(RoundEndpoint):
    @extend_schema(
        summary="What raising a round's budget would do",
        request=RaiseSerializer,
        responses={200: RaisePreviewSerializer},
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        given = self.given(RaiseSerializer)
        preview = raise_preview(round=round, count=given.get("budget"), share=given.get("share"))
        return self.reply(RaisePreviewSerializer, preview)
