"""Audits and certificates of review rounds."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoint import Input
from review.api.rounds import ReviewRoundSerializer, RoundEndpoint
from review.certification import certification
from review.models import ReviewRound
from review.services.audits import audit_round_create


class AuditSerializer(ReviewRoundSerializer):
    extends = serializers.SerializerMethodField(
        help_text="The audit round that it makes one sample with; empty where it began anew."
    )

    class Meta(ReviewRoundSerializer.Meta):
        fields = [*ReviewRoundSerializer.Meta.fields, "audited", "extends"]
        read_only_fields = fields

    def is_for_a_reviewer(self, round: ReviewRound) -> bool:
        return False  # audits are listed for those who see the project

    def get_extends(self, round: ReviewRound) -> int | None:
        extended: int | None = round.parameters.get("extends")
        return extended


class AuditCreateSerializer(Input):
    count = serializers.IntegerField(min_value=1, help_text="Items to answer blind.")
    seed = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=2**31 - 1,
        help_text="By default the project's, or that of the audit that is extended.",
    )


class IntervalSerializer(serializers.Serializer[Any]):
    """An accuracy, from 0 to 1, with its interval."""

    share = serializers.FloatField(help_text="The estimate.")
    low = serializers.FloatField()
    high = serializers.FloatField()


class CertificateSerializer(serializers.Serializer[Any]):
    """How many answers are right, by a blind audit of what nobody reviewed."""

    level = serializers.FloatField(help_text="Of the intervals.")
    machine_accuracy = IntervalSerializer(help_text="Before anybody reviewed.")
    final_accuracy = IntervalSerializer(help_text="Of the final answers, as the audit met them.")
    items = serializers.IntegerField()
    reviewed = serializers.IntegerField(help_text="Had a person's answer when the audit was drawn.")
    corrected = serializers.IntegerField(help_text="Of these: another answer than the machine's.")
    unreviewed = serializers.IntegerField(help_text="The others, which the audit was drawn from.")
    audited = serializers.IntegerField()
    wrong = serializers.IntegerField(help_text="Of the audited, skipped ones included.")
    skipped = serializers.IntegerField()
    audits = serializers.ListField(child=serializers.IntegerField(), help_text="Ids of the audit rounds.")
    made_at = serializers.DateTimeField(
        allow_null=True, help_text="When its last item was answered or skipped."
    )
    notes = serializers.ListField(child=serializers.CharField(), help_text="What changed since, in words.")


class CertificationSerializer(serializers.Serializer[Any]):
    certificate = CertificateSerializer(allow_null=True)
    missing = serializers.CharField(help_text="What is missing for a certificate; empty where there is one.")


class ReviewRoundAudits(RoundEndpoint):
    @extend_schema(summary="A round's audits, newest first", responses=AuditSerializer(many=True))
    def get(self, request: Request, round_id: int) -> Response:
        audits = self.round(round_id, may=self.needed).audits.select_related("created_by")
        return self.page(audits, AuditSerializer)

    @extend_schema(
        summary="Draw an audit of a finished or closed round",
        description="A simple random sample of the items without a person's answer, to be answered blind. A further "
        "audit extends the one before, unless the round changed in between.",
        request=AuditCreateSerializer,
        responses={201: AuditSerializer},
        examples=[OpenApiExample("200 items", value={"count": 200}, request_only=True)],
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        audit = audit_round_create(round=round, user=self.user, **self.given(AuditCreateSerializer))
        return self.reply(AuditSerializer, audit, status=201)


class ReviewRoundCertificate(RoundEndpoint):
    @extend_schema(
        summary="How accurate a round's answers are, before and after",
        description="Without a complete audit there is no figure, but a sentence that says what is missing.",
        responses=CertificationSerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        said = certification(self.round(round_id, may=self.needed))
        certificate = said.certificate.as_dict() if said.certificate else None
        return self.reply(CertificationSerializer, {"certificate": certificate, "missing": said.missing})
