"""Jobs in the API: their progress, and what can be done to them."""

from typing import Any

from rest_framework import serializers

from jobs.models import Job
from jobs.selectors import job_progress


class JobProgressSerializer(serializers.Serializer[Any]):
    """A job at this moment."""

    state = serializers.ChoiceField(Job.State.choices)
    failure = serializers.CharField(
        help_text="Why it stopped by itself, as one of the failure names, or empty."
    )
    reason = serializers.CharField(help_text="The same as a sentence.")
    total = serializers.IntegerField(help_text="Subjects: items, annotations or rows.")
    done = serializers.IntegerField(help_text="Subjects with a written result, failed ones included.")
    failed = serializers.IntegerField()
    share = serializers.FloatField(help_text="What is done, between 0 and 1.")
    rate = serializers.FloatField(help_text="Subjects a second.")
    eta = serializers.FloatField(allow_null=True, help_text="Seconds left; null while unknown.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost = serializers.FloatField(help_text="US$ so far.")
    spend_limit = serializers.FloatField(allow_null=True, help_text="US$")
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    by_batch = serializers.BooleanField(
        help_text="Whether its calls are handed in as the provider's batches."
    )
    handed_in = serializers.IntegerField(help_text="By batch: calls that wait at the provider.")
    answered = serializers.IntegerField(help_text="By batch: those of them that it has answered so far.")

    def to_representation(self, instance: Job) -> dict[str, Any]:
        return super().to_representation(job_progress(instance))


class FailureCountSerializer(serializers.Serializer[Any]):
    """How many results failed in one way."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    advice = serializers.CharField()
    count = serializers.IntegerField()
