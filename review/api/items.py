"""A project's items as the list of items shows them, what managers do to many at once, and saved views."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.urls import replace_query_param

from annotate.access import May, found_for, members_who_may, project_for
from annotate.api.endpoint import Endpoint, Filter, Input
from annotate.api.items import ItemSerializer, LabelNameSerializer
from annotate.errors import Refusal
from annotate.models import Project, SavedView
from annotate.problems import Pagination
from mllm.errors import Failure
from review.browsing import (
    COLUMN,
    DISAGREEMENTS,
    LONGEST_SEARCH,
    NAMES,
    SORTS,
    STATUSES,
    Chain,
    ItemFilter,
    cannot_tell,
    chain_of,
    parse,
)
from review.item_rows import WORDS, ItemRow, rows_of
from review.services.picking import (
    ACTIONS,
    ASSIGN,
    RELABEL,
    UNDOABLE,
    Action,
    Outcome,
    chosen_items,
    pick,
    pick_preview,
    pick_undo,
)
from review.services.saved_views import LONGEST_NAME, LONGEST_QUERY, saved_view_delete, saved_view_save
from review.walking import Place, Walk, place_from

SEARCH = "search"  # what the page calls q
_PAGING = {"cursor", "page_size", "format"}
_ASKED = {*NAMES, SEARCH} - {"q"}


class ItemQuery(Filter):
    """What `parse` takes, for the schema: each can be left out. `column.NAME` is a column of the uploads."""

    round = serializers.IntegerField(
        required=False, help_text="Of whose runs answers and error probabilities are; by default the latest."
    )
    label = serializers.IntegerField(  # type: ignore[assignment]
        required=False, help_text="Id of the machine's label, where there is a label set."
    )
    human = serializers.IntegerField(required=False, help_text="Id of a label that a person gave.")
    final = serializers.IntegerField(
        required=False, help_text="Id of the person's label, else the machine's."
    )
    status = serializers.ChoiceField(list(STATUSES.items()), required=False)
    eps_min = serializers.FloatField(required=False, help_text="The lowest error probability.")
    eps_max = serializers.FloatField(required=False, help_text="The highest error probability.")
    reviewer = serializers.CharField(
        required=False, help_text="Username of somebody who answered or skipped it."
    )
    disagreement = serializers.ChoiceField(list(DISAGREEMENTS.items()), required=False)
    failure = serializers.ChoiceField([each.value for each in Failure], required=False)
    gold = serializers.BooleanField(required=False, help_text="Whether it has a gold label or gold answers.")
    calibration = serializers.BooleanField(required=False, help_text="Whether it is a calibration item.")
    upload = serializers.IntegerField(required=False, help_text="Id of the upload it came in.")
    search = serializers.CharField(
        required=False,
        max_length=LONGEST_SEARCH,
        help_text="Part of its id, text, question or file's name, in any case.",
    )
    sort = serializers.ChoiceField(list(SORTS.items()), required=False)


class ListedItemSerializer(ItemSerializer):
    """An item as the list shows it: with the machine's answer, a person's, and where it stands.

    While it waits to be answered blind, nothing of the machine's is here.
    """

    status = serializers.ChoiceField(list(WORDS), read_only=True)
    machine_label = LabelNameSerializer(read_only=True, allow_null=True)
    machine_answer = serializers.CharField(read_only=True, help_text="Where answers are words.")
    machine_start = serializers.IntegerField(
        read_only=True,
        allow_null=True,
        help_text="First character of an answer that is a span of the text; an empty one means “no answer”.",
    )
    failure = serializers.CharField(read_only=True, help_text="Name of the machine's failure, or empty.")
    error_prob = serializers.FloatField(read_only=True, allow_null=True)
    priority = serializers.FloatField(read_only=True, allow_null=True, help_text="Higher is more suspicious.")
    human_label = LabelNameSerializer(read_only=True, allow_null=True)
    human_answer = serializers.CharField(read_only=True, help_text="Where answers are words.")
    human_start = serializers.IntegerField(read_only=True, allow_null=True, help_text="As `machine_start`.")
    reviewer = serializers.CharField(
        read_only=True, help_text="Username of whose answer or skip it is, or empty."
    )
    comments = serializers.IntegerField(read_only=True)

    class Meta(ItemSerializer.Meta):
        fields = [
            *ItemSerializer.Meta.fields,
            "status",
            "machine_label",
            "machine_answer",
            "machine_start",
            "failure",
            "error_prob",
            "priority",
            "human_label",
            "human_answer",
            "human_start",
            "reviewer",
            "comments",
        ]
        read_only_fields = fields

    def to_representation(self, instance: Any) -> dict[str, Any]:
        row: ItemRow = instance
        annotation = row.annotation
        item = ItemSerializer(row.item, context=self.context).to_representation(row.item)
        label = row.calibration.label if row.calibration else None
        return item | {
            "calibration": _name(label),
            "status": row.status,
            "machine_label": _name(row.machine_label),
            "machine_answer": annotation.answer if annotation else "",
            "machine_start": annotation.start if annotation else None,
            "failure": annotation.failure if annotation else "",
            "error_prob": row.error_prob,
            "priority": row.suspicion,
            "human_label": _name(row.human_label),
            "human_answer": row.human_answer,
            "human_start": row.human_start,
            "reviewer": row.reviewer,
            "comments": row.comments,
        }


def _name(label: Any) -> Any:
    return None if label is None else LabelNameSerializer(label).data


class PlacePagination(Pagination):
    """Pages of a walk. A cursor holds the place that the page is after or before."""

    def page_of(self, walk: Walk, request: Request) -> Sequence[int]:
        """The ids of the page that the address asks for. Raises NotFound for a cursor that somebody made up."""
        self.request = request
        size = self.get_page_size(request) or int(api_settings.PAGE_SIZE or 100)
        after, before = self._places(request.query_params.get(self.cursor_query_param, ""))
        page = walk.page(after=after, before=before, size=size)
        self.links = {
            "next": self._link("a", page.after),
            "previous": self._link("b", page.before),
        }
        return page.ids

    def _places(self, cursor: str) -> tuple[Place | None, Place | None]:
        if not cursor:
            return None, None
        try:
            text = base64.b64decode(cursor, validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise exceptions.NotFound(self.invalid_cursor_message) from error
        side, _, place = text.partition("=")
        found = place_from(place)
        if found is None or side not in ("a", "b"):
            raise exceptions.NotFound(self.invalid_cursor_message)
        return (found, None) if side == "a" else (None, found)

    def _link(self, side: str, place: Place | None) -> str | None:
        if place is None:
            return None
        cursor = base64.b64encode(f"{side}={place}".encode("ascii")).decode("ascii")
        return replace_query_param(self.request.build_absolute_uri(), self.cursor_query_param, cursor)

    def response(self, rows: Any) -> Response:
        return Response({**self.links, "results": rows})


def asked_filter(project: Project, values: dict[str, str]) -> tuple[ItemFilter, Chain]:
    """The filter of an address of the API, with its chain. Raises ValidationError where the page would say why."""
    errors: dict[str, Any] = {
        name: [f"There is no value of this name here. Known are: {', '.join(sorted(_ASKED))}, {COLUMN}NAME."]
        for name in values
        if name not in _ASKED | _PAGING and not name.startswith(COLUMN)
    }
    given = {name: value for name, value in values.items() if name not in _PAGING}
    if SEARCH in given:
        given["q"] = given.pop(SEARCH)
    parsed = parse(project, given)
    chain = chain_of(project, parsed.wanted.round)
    missing = cannot_tell(parsed.wanted, chain)
    for name, sentence in (parsed.problems | missing).items():
        errors[SEARCH if name == "q" else name] = [sentence]
    if errors:
        raise serializers.ValidationError(errors)
    return parsed.wanted, chain


class ItemsEndpoint(Endpoint):
    tag = "items"


class Items(ItemsEndpoint):
    @extend_schema(
        summary="A project's items, narrowed down and in an order",
        parameters=[
            ItemQuery,
            OpenApiParameter(
                f"{COLUMN}NAME", OpenApiTypes.STR, description="The value in this column of the uploads."
            ),
        ],
        responses=ListedItemSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        wanted, chain = asked_filter(project, request.query_params.dict())
        pages = PlacePagination()
        ids = pages.page_of(Walk(project, wanted, chain), request)
        rows = rows_of(project, chain, ids)
        return pages.response(
            ListedItemSerializer(rows, many=True, context=self.get_serializer_context()).data  # type: ignore[arg-type]
        )


class ItemActionSerializer(Input):
    action = serializers.ChoiceField(list(ACTIONS.items()))
    items = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        allow_null=True,
        max_length=20_000,
        help_text="Ids. Leave them out for all items that match the filter.",
    )
    filter = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        default=dict,
        help_text="As in the address of the list of items; needed, if only as {}, where no ids are given.",
    )
    round = serializers.IntegerField(
        required=False, allow_null=True, help_text="The review round to act in; by default the latest."
    )
    label = serializers.IntegerField(  # type: ignore[assignment]
        required=False, allow_null=True, help_text="For `relabel`, of projects with a label set: its id."
    )
    text = serializers.CharField(required=False, allow_blank=True, help_text="For `comment`.")
    reviewer = serializers.CharField(required=False, allow_blank=True, help_text="For `assign`: a username.")
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Only say what would be done."
    )


class ItemOutcomeSerializer(serializers.Serializer[Any]):
    """What was done, or with `dry_run` would be."""

    action = serializers.CharField()
    done = serializers.IntegerField(help_text="Items.")
    left_alone = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="How many items nothing was done to, by the reason's name.",
    )
    sentence = serializers.CharField()
    undo = serializers.IntegerField(
        allow_null=True,
        help_text="With this number it can be taken back within an hour; null where it cannot.",
    )


def _outcome(outcome: Outcome) -> dict[str, Any]:
    is_undoable = outcome.change is not None and outcome.action.name in UNDOABLE
    return {
        "action": outcome.action.name,
        "done": outcome.done,
        "left_alone": dict(outcome.left),
        "sentence": outcome.sentence,
        "undo": outcome.change.pk if is_undoable and outcome.change else None,
    }


class ItemActions(ItemsEndpoint):
    @extend_schema(
        summary="Do something to many items",
        description="Sends them to review, accepts the machine's answer, gives a label, asks a model again, "
        "comments or assigns. What a person said stays: such items are left alone and counted.",
        request=ItemActionSerializer,
        responses={200: ItemOutcomeSerializer},
        examples=[
            OpenApiExample(
                "Review what is most doubtful",
                value={"action": "review", "filter": {"eps_min": "0.8", "status": "machine"}},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        given = self.given(ItemActionSerializer)
        ids = given.get("items")
        if ids is None and "filter" not in request.data:
            raise Refusal("Give the ids of items, or a filter that they match.", field="items")
        values = dict(given["filter"])
        if given.get("round") is not None:
            values["round"] = str(given["round"])
        wanted, chain = asked_filter(project, values)
        chosen = chosen_items(project=project, chain=chain, wanted=wanted, ids=ids)
        act = pick_preview if given["dry_run"] else pick
        action = self._action(project, given)
        outcome = act(project=project, chain=chain, action=action, ids=chosen, user=self.user)
        return self.reply(ItemOutcomeSerializer, _outcome(outcome))

    def _action(self, project: Project, given: dict[str, Any]) -> Action:
        label = reviewer = None
        if given["action"] == RELABEL:
            label = project.labels.filter(pk=given.get("label") or 0).first()
        if given["action"] == ASSIGN:
            people = members_who_may(project, May.REVIEW)
            reviewer = people.filter(username=given.get("reviewer", "")).first()
        return Action(given["action"], label, given.get("text", ""), reviewer)


class TakenBackSerializer(serializers.Serializer[Any]):
    answers = serializers.IntegerField(help_text="That count no longer; their items wait in the round.")
    tasks = serializers.IntegerField(help_text="Items that left the round.")
    left = serializers.IntegerField(help_text="Items that somebody changed since, left alone.")
    sentence = serializers.CharField()


class ItemActionUndo(ItemsEndpoint):
    @extend_schema(
        summary="Take back what was done to many items",
        description="By who did it, within an hour. Answers are taken back by rows of their own.",
        request=None,
        responses={200: TakenBackSerializer},
    )
    def post(self, request: Request, project_id: int, change_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        back = pick_undo(project=project, user=self.user, change_id=change_id)
        return self.reply(TakenBackSerializer, back)


# --- Saved views -----------------------------------------------------------------------------------------------------


class SavedViewSerializer(serializers.ModelSerializer[SavedView]):
    """A named way to look at the project's items."""

    filter = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = SavedView
        fields = ["id", "project", "name", "query", "filter", "created_by", "created_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.DictField(child=serializers.CharField()))
    def get_filter(self, view: SavedView) -> Any:
        return QueryDict(view.query).dict()


class SavedViewCreateSerializer(Input):
    name = serializers.CharField(max_length=LONGEST_NAME)
    filter = serializers.DictField(
        child=serializers.CharField(allow_blank=True, max_length=LONGEST_QUERY),
        help_text="As in the address of the list of items.",
    )


class SavedViews(ItemsEndpoint):
    @extend_schema(summary="A project's saved views", responses=SavedViewSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        return self.page(project.saved_views.select_related("created_by"), SavedViewSerializer, order="pk")

    @extend_schema(
        summary="Save a view",
        description="A view of this name gets the new filter.",
        request=SavedViewCreateSerializer,
        responses={201: SavedViewSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        given = self.given(SavedViewCreateSerializer)
        wanted, _ = asked_filter(project, given["filter"])
        view = saved_view_save(project=project, user=self.user, name=given["name"], query=wanted.query())
        return self.reply(SavedViewSerializer, view, status=201)


class OneSavedView(ItemsEndpoint):
    @extend_schema(summary="Delete a saved view", responses={204: None})
    def delete(self, request: Request, view_id: int) -> Response:
        rows = SavedView.objects.select_related("project")
        saved_view_delete(
            view=found_for(self.user, rows, view_id, project="project", may=May.MANAGE), user=self.user
        )
        return Response(status=204)
