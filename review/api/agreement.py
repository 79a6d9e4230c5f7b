"""How far people agree, and what seeing the machine's answer does to them."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import project_for
from annotate.api.endpoint import Endpoint, Filter, chosen
from review.agreeing import Seen
from review.agreement import PairAgreement
from review.agreement_report import AgreementReport, agreement_report
from review.api.rounds import RoundEndpoint
from review.display_arms import display_arms


class AgreementFilter(Filter):
    round = serializers.IntegerField(required=False, help_text="One round alone; by default all.")
    seen = serializers.ChoiceField(
        [each.value for each in Seen],
        required=False,
        default=Seen.ALL,
        help_text="Answers of those who saw the machine's (`shown`), of those who did not (`blind`), or `all`.",
    )


class FigureSerializer(serializers.Serializer[Any]):
    """A figure with its 95% interval by resampling the items."""

    value = serializers.FloatField(allow_null=True, help_text="Null where it is not defined.")
    low = serializers.FloatField(allow_null=True, help_text="Null where resampling says nothing.")
    high = serializers.FloatField(allow_null=True)


class AgreementFiguresSerializer(serializers.Serializer[Any]):
    items = serializers.IntegerField(help_text="Items with at least two answers.")
    answers = serializers.IntegerField()
    percent = FigureSerializer(help_text="The share of pairs of answers to an item that are equal.")
    kappa = FigureSerializer(help_text="Fleiss' κ; null where there is no label set.")
    alpha = FigureSerializer(help_text="Krippendorff's α for nominal data; null where there is no label set.")


class OverallAgreementSerializer(AgreementFiguresSerializer):
    f1 = FigureSerializer(help_text="Token F1 of two answers, the mean over items; null but for spans.")


class LabelAgreementSerializer(AgreementFiguresSerializer):
    """One label against all others."""

    label = serializers.CharField()  # type: ignore[assignment]


class PairAgreementSerializer(serializers.Serializer[Any]):
    first = serializers.CharField()
    second = serializers.CharField()
    items = serializers.IntegerField(help_text="Items that both answered.")
    percent = FigureSerializer()
    kappa = FigureSerializer(help_text="Cohen's κ.")
    alpha = FigureSerializer()
    f1 = FigureSerializer(help_text="Mean token F1; null but for spans.")
    confusion = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()),
        help_text="Rows are the first's labels and columns the second's, both in the order of `labels`; empty where "
        "there are none.",
    )


class MachineAgreementSerializer(serializers.Serializer[Any]):
    """A reviewer and the machine; rows of the confusion are the reviewer's labels, where there is a label set."""

    reviewer = serializers.CharField(allow_null=True, help_text="Null: all reviewers together.")
    answers = serializers.IntegerField()
    percent = FigureSerializer()
    kappa = FigureSerializer()
    alpha = FigureSerializer()
    f1 = FigureSerializer(help_text="Mean token F1; null but for spans.")
    f1_bins = serializers.ListField(
        child=serializers.IntegerField(), help_text="Answers in ten equal bins of F1, for spans; else empty."
    )
    confusion = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))


class AgreementSerializer(serializers.Serializer[Any]):
    labels = serializers.ListField(
        child=serializers.CharField(), help_text="Empty where there are none: answers are words."
    )
    reviewers = serializers.ListField(child=serializers.CharField())
    answers_blind = serializers.IntegerField(help_text="Of the answers compared, those given blind.")
    answers_shown = serializers.IntegerField(help_text="Those given beside the machine's.")
    overall = OverallAgreementSerializer()
    f1_bins = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="Items in ten equal bins of the F1 of their answers, for spans; else all 0.",
    )
    by_label = LabelAgreementSerializer(many=True)
    pairs = PairAgreementSerializer(many=True)
    machine = MachineAgreementSerializer(many=True)


class ShareSerializer(serializers.Serializer[Any]):
    """A share with Wilson's 95% interval."""

    count = serializers.IntegerField()
    total = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class ArmSerializer(serializers.Serializer[Any]):
    arm = serializers.CharField(
        help_text="What reviewers saw: `criticism` and the answer, the answer alone (`label`), or `blind`."
    )
    answers = serializers.IntegerField()
    accepted = ShareSerializer(help_text="Of the machine's answers that are known to be wrong: given again.")
    changed = ShareSerializer(help_text="Of those that are known to be right: made wrong.")
    median_seconds = serializers.FloatField(allow_null=True)


class DifferenceSerializer(serializers.Serializer[Any]):
    value = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class DisplaySerializer(serializers.Serializer[Any]):
    arms = ArmSerializer(many=True)
    is_randomised = serializers.BooleanField(
        help_text="Chance decided for each item what its reviewers saw, so that arms compare fairly."
    )
    difference = DifferenceSerializer(
        allow_null=True, help_text="How much more often a wrong answer is given again by those who see it."
    )
    known_wrong = serializers.IntegerField()
    needed = serializers.IntegerField(help_text="In each group, to tell ten points apart.")
    sentence = serializers.CharField()


class ProjectAgreement(Endpoint):
    tag = "review rounds"

    @extend_schema(
        summary="How far people agree",
        description="On items that at least two people answered, and with the machine on all they answered.",
        parameters=[AgreementFilter],
        responses=AgreementSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        asked = self.asked(AgreementFilter)
        round = None
        if asked.get("round") is not None:
            round = chosen(project.review_rounds.all(), asked["round"], field="round", what="review round")
        return self.reply(AgreementSerializer, _told(agreement_report(project, round, asked["seen"])))


class ReviewRoundDisplay(RoundEndpoint):
    @extend_schema(
        summary="What seeing the machine's answer does to reviewers",
        description="By what they saw, on items whose right answer is known; spans are the same by exact "
        "match. Empty where answers are composed.",
        responses=DisplaySerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        found = display_arms(round.project, round)
        return self.reply(
            DisplaySerializer,
            {
                "arms": [
                    {
                        "arm": arm.arm,
                        "answers": arm.answers,
                        "accepted": arm.accepted,
                        "changed": arm.changed,
                        "median_seconds": arm.seconds[1] if arm.seconds else None,
                    }
                    for arm in found.arms
                ],
                "is_randomised": found.is_randomised,
                "difference": found.difference,
                "known_wrong": found.known_wrong,
                "needed": found.needed,
                "sentence": found.sentence,
            },
        )


def _told(report: AgreementReport) -> dict[str, Any]:
    shared = report.shared
    return {
        "labels": shared.labels,
        "reviewers": [reviewer.name for reviewer in shared.reviewers],
        "answers_blind": shared.blind,
        "answers_shown": shared.shown,
        "overall": shared.overall,
        "f1_bins": shared.f1_bins,
        "by_label": [
            {
                "label": report.label_name(each.label),
                "items": each.items,
                "answers": each.answers,
                "percent": each.percent,
                "kappa": each.kappa,
                "alpha": each.alpha,
            }
            for each in shared.by_label
        ],
        "pairs": [
            _pair(pair)
            | {"first": shared.reviewers[pair.first].name, "second": shared.reviewers[pair.second].name}
            for pair in shared.pairs
        ],
        "machine": [
            _pair(each.agreement)
            | {
                "reviewer": each.reviewer.name if each.reviewer else None,
                "answers": each.answers,
                "f1_bins": each.f1_bins,
            }
            for each in report.machine
        ],
    }


def _pair(pair: PairAgreement) -> dict[str, Any]:
    return {
        "items": pair.items,
        "percent": pair.percent,
        "kappa": pair.kappa,
        "alpha": pair.alpha,
        "f1": pair.f1,
        "confusion": pair.confusion.tolist(),
    }
