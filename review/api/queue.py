"""The queue of a round: claiming tasks, answering, undoing."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, permissions
from annotate.api.endpoint import Endpoint, Input, ProblemSerializer, chosen
from annotate.api.items import LabelNameSerializer, image_url
from annotate.errors import Refusal
from annotate.models import Project, User
from review.api.rounds import ARMS, ReviewRoundProgressSerializer, RoundEndpoint
from review.blindness import names_for_reviewers
from review.commenting import comment_counts
from review.models import Correction, ReviewRound, ReviewTask
from review.selectors import (
    answer_taken_back,
    history,
    quick_progress,
    span_taken_back,
    task_for_reviewer,
)
from review.services.queue import (
    MOST_CLAIMED,
    Answer,
    answer_undo,
    task_submit,
    tasks_claim,
    tasks_release,
)


class TaskItemSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    external_id = serializers.CharField(
        help_text="The item's own id; a folder in it that is named like a label is given as “…”."
    )
    text = serializers.CharField()
    question = serializers.CharField()
    image_url = serializers.CharField(allow_null=True)
    image_width = serializers.IntegerField(allow_null=True)
    image_height = serializers.IntegerField(allow_null=True)
    columns = serializers.DictField()


class SpanSerializer(serializers.Serializer[Any]):
    """Characters of the item's text (Unicode code points) from `start` up to `end`, without the latter."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()


class TaskMachineSerializer(serializers.Serializer[Any]):
    """What the machine said."""

    label_id = serializers.IntegerField(allow_null=True, help_text="Null where answers are written.")
    label = serializers.CharField()  # type: ignore[assignment]
    answer = serializers.CharField(
        help_text="Where answers are words. An empty one with `start` 0 says that the text holds no answer."
    )
    start = serializers.IntegerField(
        allow_null=True,
        help_text="Of an answer that is a span of the text: its first character, counted from 0.",
    )
    end = serializers.IntegerField(allow_null=True, help_text="The character behind its last one.")
    occurrences = SpanSerializer(
        many=True, help_text="Every place where the words of such an answer stand in the text."
    )
    reasoning = serializers.CharField()
    confidence = serializers.FloatField(allow_null=True)
    who = serializers.CharField()


class FactSerializer(serializers.Serializer[Any]):
    """A statement of a written answer: the characters from `start` up to `end`."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()
    error_prob = serializers.FloatField()


class TaskCriticismSerializer(serializers.Serializer[Any]):
    error_prob = serializers.FloatField(allow_null=True)
    quality = serializers.FloatField(
        allow_null=True, help_text="From 0 to 1, the best, where written answers are rated."
    )
    facts = FactSerializer(many=True, help_text="Where written answers are checked fact by fact.")
    reasoning = serializers.CharField()
    who = serializers.CharField()


class TaskFailureSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    message = serializers.CharField()


class ReviewTaskSerializer(serializers.Serializer[Any]):
    """An item to review, with as much of the machine's as its arm shows."""

    id = serializers.IntegerField()
    version = serializers.IntegerField(
        help_text="Send it with the answer: it tells whether anything changed."
    )
    rank = serializers.IntegerField(
        allow_null=True,
        help_text="0 is the most suspicious; null where the criticism is not shown, and in rounds with known items.",
    )
    purpose = serializers.ChoiceField(
        [str(ReviewTask.Purpose.REVIEW), str(ReviewTask.Purpose.ADJUDICATION)],
        help_text="An adjudication decides between answers that differ; managers alone see it.",
    )
    arm = serializers.ChoiceField(
        ARMS,
        help_text="What whoever answers it sees.",
    )
    state = serializers.ChoiceField(ReviewTask.State.choices)
    lease_until = serializers.DateTimeField(allow_null=True)
    blind = serializers.BooleanField(help_text="Whether its arm shows nothing of the machine's.")
    item = TaskItemSerializer()
    machine = TaskMachineSerializer(allow_null=True)
    criticism = TaskCriticismSerializer(allow_null=True)
    failure = TaskFailureSerializer(allow_null=True)
    steps = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="The annotator's reasoning, where a router read it step by step.",
    )
    stopped_at = serializers.IntegerField(
        allow_null=True,
        help_text="After which of the steps, counted from 1, the router stopped the annotator.",
    )
    comments = serializers.IntegerField(help_text="Of the item, as many as you may read now.")


class CorrectionSerializer(serializers.ModelSerializer[Correction]):
    label = LabelNameSerializer(read_only=True, allow_null=True)  # type: ignore[assignment]
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Correction
        fields = [
            *("id", "action", "label", "answer", "start", "end"),
            *("reason", "author", "seconds", "late", "created_at"),
        ]
        read_only_fields = fields


class ReviewTaskDetailSerializer(ReviewTaskSerializer):
    history = CorrectionSerializer(
        many=True,
        help_text="Everything that people did with it, first to last. Reviewers are sent what they did themselves.",
    )


class TaskVersionSerializer(serializers.ModelSerializer[ReviewTask]):
    class Meta:
        model = ReviewTask
        fields = ["id", "state", "version"]
        read_only_fields = fields


class ClaimSerializer(Input):
    count = serializers.IntegerField(required=False, default=1, min_value=1, max_value=MOST_CLAIMED)


class ClaimedSerializer(serializers.Serializer[Any]):
    tasks = ReviewTaskSerializer(many=True)
    progress = ReviewRoundProgressSerializer(
        allow_null=True, help_text="Null while a large round is counted for the first time."
    )
    closed = serializers.BooleanField(help_text="Whether the round is closed: then it hands out nothing.")


class AnswerSerializer(Input):
    action = serializers.ChoiceField([Correction.Action.LABEL, Correction.Action.SKIP])
    label = serializers.IntegerField(  # type: ignore[assignment]
        required=False,
        allow_null=True,
        help_text="A label's id, with action `label`, where there is a label set.",
    )
    answer = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="The whole text, with action `label`, where answers are words: the machine's again to accept it. "
        "Where they are spans, exactly what stands in the item's text from `start` up to `end`.",
    )
    start = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="Of an answer that is a span: its first character in the item's text, in Unicode code points from 0.",
    )
    end = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, help_text="The character behind its last one."
    )
    no_answer = serializers.BooleanField(
        required=False,
        default=False,
        help_text="With action `label`, where answers are spans: that the text holds none.",
    )
    reason = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Why it is skipped."
    )
    seconds = serializers.FloatField(
        required=False, allow_null=True, help_text="From showing the item to the answer."
    )
    version = serializers.IntegerField(
        required=False, allow_null=True, help_text="The task's version when it was shown."
    )
    key = serializers.UUIDField(
        required=False, allow_null=True, help_text="Your name for the answer: sent twice, it counts once."
    )
    next = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_CLAIMED,
        help_text="Take the next items in the same request, so that you hold so many; they come back as `tasks`.",
    )


class AnswerReplySerializer(serializers.Serializer[Any]):
    correction = CorrectionSerializer()
    task = TaskVersionSerializer()
    progress = ReviewRoundProgressSerializer(
        allow_null=True, help_text="Null while a large round is counted for the first time."
    )
    tasks = ReviewTaskSerializer(
        many=True,
        required=False,
        help_text="With `next`: what you hold now, as of taking the next items. Missing where you are paused.",
    )


class UndoSerializer(serializers.Serializer[Any]):
    task = ReviewTaskSerializer()
    answer = serializers.CharField(help_text="The answer in words that was taken back.")
    start = serializers.IntegerField(allow_null=True, help_text="Of an answer that is a span of the text.")
    end = serializers.IntegerField(allow_null=True)
    progress = ReviewRoundProgressSerializer(
        allow_null=True, help_text="Null while a large round is counted for the first time."
    )


class ReleaseSerializer(Input):
    tasks = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        max_length=1000,
        help_text="Ids of the tasks to hand back; by default all.",
    )


class ReleasedSerializer(serializers.Serializer[Any]):
    released = serializers.IntegerField()


class ReviewRoundNext(RoundEndpoint):
    @extend_schema(
        summary="Take the next items to review",
        description="They are yours for ten minutes; those that you hold already come back first.",
        request=ClaimSerializer,
        responses={
            200: ClaimedSerializer,
            (503, "application/problem+json"): OpenApiResponse(
                ProblemSerializer, "A larger budget is being drawn: ask again in a moment."
            ),
        },
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=May.REVIEW)
        tasks = tasks_claim(round=round, user=self.user, **self.given(ClaimSerializer))
        progress = quick_progress(round, self.user)
        closed = round.state == ReviewRound.State.CLOSED
        return self.reply(
            ClaimedSerializer, {"tasks": shown_to(self.user, tasks), "progress": progress, "closed": closed}
        )


class ReviewRoundUndo(RoundEndpoint):
    @extend_schema(summary="Take back your last answer", request=None, responses={200: UndoSerializer})
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=May.REVIEW)
        task = task_rows().get(pk=answer_undo(round=round, user=self.user).pk)
        (shown,) = shown_to(self.user, [task])
        start, end = span_taken_back(task)
        return self.reply(
            UndoSerializer,
            {
                "task": shown,
                "answer": answer_taken_back(task),
                "start": start,
                "end": end,
                "progress": quick_progress(round, self.user),
            },
        )


class ReviewRoundRelease(RoundEndpoint):
    @extend_schema(
        summary="Hand back what you hold and have not answered",
        description="Ids of tasks that you do not hold are passed over.",
        request=ReleaseSerializer,
        responses={200: ReleasedSerializer},
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=May.REVIEW)
        given = self.given(ReleaseSerializer)
        released = tasks_release(round=round, user=self.user, task_ids=given.get("tasks"))
        return self.reply(ReleasedSerializer, {"released": released})


def task_rows() -> QuerySet[ReviewTask]:
    return ReviewTask.objects.select_related(
        "round__project", "item__image", "annotation__label", "annotation__run", "criticism__run"
    )


class TaskEndpoint(Endpoint):
    tag = "review tasks"

    def task(self, task_id: int, *parts: str) -> ReviewTask:
        """The task, with these parts of it, or all that a review screen shows."""
        rows = ReviewTask.objects.select_related("round__project", *parts) if parts else task_rows()
        return found_for(self.user, rows, task_id, project="round__project", may=May.REVIEW)


class OneReviewTask(TaskEndpoint):
    @extend_schema(summary="A task and what people did with it", responses=ReviewTaskDetailSerializer)
    def get(self, request: Request, task_id: int) -> Response:
        task = self.task(task_id)
        may_see = permissions(self.user, task.round.project).see
        # Of an item's other turns, or those in other rounds, somebody who labels it blind would learn too much.
        if not may_see and (
            task.purpose == ReviewTask.Purpose.ADJUDICATION or task.holder_id != self.user.pk
        ):
            raise Http404("There is no such review task, or it is not yours.")
        # Who answers an item too must not know what others said.
        rows = [row for row in history(task) if may_see or row.author_id == self.user.pk]
        (shown,) = shown_to(self.user, [task])
        return self.reply(ReviewTaskDetailSerializer, shown | {"history": rows})


class ReviewTaskSubmit(TaskEndpoint):
    @extend_schema(
        summary="Answer a task",
        request=AnswerSerializer,
        responses={200: AnswerReplySerializer},
        examples=[
            OpenApiExample(
                "A label",
                value={
                    "action": "label",
                    "label": 2,
                    "seconds": 3.2,
                    "version": 0,
                    "key": "6f0c9c0e-8a7e-4c5e-9d3a-0b8f4f0f9b1e",
                },
                request_only=True,
            ),
            OpenApiExample(
                "A span of the text",
                value={"action": "label", "answer": "Denver Broncos", "start": 177, "end": 191, "version": 0},
                request_only=True,
            ),
            OpenApiExample(
                "No answer in the text", value={"action": "label", "no_answer": True}, request_only=True
            ),
            OpenApiExample("A skip", value={"action": "skip", "reason": "unreadable"}, request_only=True),
        ],
    )
    def post(self, request: Request, task_id: int) -> Response:
        task = self.task(task_id, "item", "annotation", "criticism")
        given = self.given(AnswerSerializer)
        wanted = given.pop("next", None)
        round = task.round
        correction = task_submit(task=task, user=self.user, answer=_answer(round.project, given))
        reply = {"correction": correction, "task": correction.task}
        if wanted is not None:
            reply |= self._next(round, wanted)
        return self.reply(AnswerReplySerializer, reply | {"progress": quick_progress(round, self.user)})

    def _next(self, round: ReviewRound, count: int) -> dict[str, Any]:
        try:
            return {"tasks": shown_to(self.user, tasks_claim(round=round, user=self.user, count=count))}
        except Refusal:
            return {}  # The answer is kept all the same; asking for items says why there are none.


def shown_to(user: User, tasks: Sequence[ReviewTask]) -> list[dict[str, Any]]:
    """The tasks of a project as `ReviewTaskSerializer` has them."""
    if not tasks:
        return []
    comments = comment_counts(user, tasks)
    names = names_for_reviewers(tasks[0].round.project, [task.item for task in tasks])
    shown = []
    for task in tasks:
        row = task_for_reviewer(task, image_url(task.item))
        row["item"]["external_id"] = names[task.item_id]
        shown.append(row | {"comments": comments[task.item_id]})
    return shown


def _answer(project: Project, given: dict[str, Any]) -> Answer:
    label_id = given.pop("label", None)
    label = None if label_id is None else chosen(project.labels.all(), label_id, field="label", what="label")
    text = given.pop("answer", "")
    if given.pop("no_answer", False):
        if not project.task.is_span or text or given.get("start") or given.get("end"):
            raise Refusal(
                "Only of a text in which answers are looked for can it be said that it holds none, and then without "
                "an answer.",
                field="no_answer",
            )
        given |= {"start": 0, "end": 0}
    return Answer(label=label, text=text, **given)
