"""Which items a list shows: the filters and the order in its address, shared by the page, the API and bulk actions.

Labels and suspicion are those of one chain: an annotation run, the criticism of it, and the review round drawn from
that. `review.walking` finds the items.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet

from annotate.models import AnnotationRun, Project, User
from criticize.models import CriticismRun
from jobs.models import Job
from mllm.errors import Failure
from review.models import ReviewRound

STATUSES = {
    "unlabeled": "Nothing yet",
    "machine": "Machine's",
    "failed": "Failed",
    "waiting": "Waits for review",
    "reviewed": "Reviewed",
    "accepted": "Accepted",
    "corrected": "Corrected",
    "skipped": "Skipped",
    "conflict": "In conflict",
    "adjudicated": "Adjudicated",
    "picked": "Picked by hand",
    "calibration": "Calibration item",
    "audited": "Audited",
    "commented": "With comments",
}
DISAGREEMENTS = {
    "people": "People differ",
    "machine": "Person and machine differ",
    "gold": "Machine and gold differ",
}
BY_ID, ERROR_HIGH, ERROR_LOW = "id", "error_high", "error_low"
REVIEWED, CONFIDENCE_LOW, CONFIDENCE_HIGH = "reviewed", "confidence_low", "confidence_high"
SORTS = {
    BY_ID: "As uploaded",
    ERROR_HIGH: "Most suspicious first",
    ERROR_LOW: "Least suspicious first",
    REVIEWED: "Last reviewed first",
    CONFIDENCE_LOW: "Least confident first",
    CONFIDENCE_HIGH: "Most confident first",
}
COLUMN = "column."  # before the name of an upload's column, in an address
LONGEST_SEARCH = 200
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


@dataclass(frozen=True)
class ItemFilter:
    """What a list of items is narrowed to, and its order; the default is all items as they were uploaded.

    Labels are ids; `human` is a label that a person gave, `final` the person's or else the machine's. `eps_min` and
    `eps_max` bound the error probability, both included. `columns` are (name, value) of the uploads' columns.
    """

    round: int | None = None
    label: int | None = None
    human: int | None = None
    final: int | None = None
    status: str = ""
    eps_min: float | None = None
    eps_max: float | None = None
    reviewer: str = ""
    disagreement: str = ""
    failure: str = ""
    gold: bool | None = None
    calibration: bool | None = None
    upload: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    q: str = ""
    sort: str = BY_ID

    @property
    def narrows(self) -> bool:
        """Whether it leaves items out."""
        return any(
            getattr(self, each.name) != each.default
            for each in fields(self)
            if each.name not in ("round", "sort")
        )

    def as_pairs(self) -> list[tuple[str, str]]:
        """As names and values of an address, without what is at its default."""
        pairs: list[tuple[str, str]] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "columns":
                pairs += [(f"{COLUMN}{name}", wanted) for name, wanted in value]
            elif value != each.default:
                pairs.append((each.name, _written(value)))
        return pairs

    def query(self) -> str:
        return urlencode(self.as_pairs())


NAMES = tuple(each.name for each in fields(ItemFilter) if each.name != "columns")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Parsed:
    """A filter, and a sentence for each value that could not be used, by its name. Those have no effect."""

    wanted: ItemFilter
    problems: dict[str, str] = field(default_factory=dict)


class _Unusable(Exception):
    """The sentence that says why."""


def parse(project: Project, values: Mapping[str, str]) -> Parsed:
    """The filter of an address. What makes no sense falls away and is said, never an error."""
    readers: dict[str, Callable[[str], Any]] = {
        "round": lambda text: _one_of(
            project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW), text, "round"
        ),
        "label": lambda text: _one_of(project.labels.all(), text, "label"),
        "human": lambda text: _one_of(project.labels.all(), text, "label"),
        "final": lambda text: _one_of(project.labels.all(), text, "label"),
        "upload": lambda text: _one_of(project.uploads.all(), text, "upload"),
        "status": lambda text: _choice(STATUSES, text, "status"),
        "disagreement": lambda text: _choice(DISAGREEMENTS, text, "disagreement"),
        "failure": lambda text: _choice(dict.fromkeys(Failure), text, "failure"),
        "sort": lambda text: _choice(SORTS, text, "order"),
        "eps_min": _probability,
        "eps_max": _probability,
        "reviewer": _reviewer,
        "gold": _yes_or_no,
        "calibration": _yes_or_no,
        "q": _search,
    }
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, read in readers.items():
        if not (text := values.get(name, "").strip()):
            continue
        try:
            found[name] = read(text)
        except _Unusable as problem:
            problems[name] = str(problem)
    low, high = found.get("eps_min"), found.get("eps_max")
    if low is not None and high is not None and low > high:
        found["eps_min"], found["eps_max"] = high, low
    found["columns"], unusable = _columns(values)
    return Parsed(ItemFilter(**found), problems | unusable)


def _one_of(rows: QuerySet[Any], text: str, what: str) -> int:
    # Longer numbers are no ids, and a database refuses them.
    if not (text.isdecimal() and text.isascii() and len(text) < 16 and rows.filter(pk=int(text)).exists()):
        raise _Unusable(f"The project has no {what} “{text[:40]}”.")
    return int(text)


def _choice(known: Mapping[str, Any], text: str, what: str) -> str:
    if text not in known:
        raise _Unusable(f"There is no {what} “{text[:40]}”; known are: {', '.join(known)}.")
    return text


def _probability(text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _Unusable(f"An error probability is a number from 0 to 1, and “{text[:40]}” is none.")
    return value


def _reviewer(text: str) -> str:
    if "\0" in text or not User.objects.filter(username=text).exists():
        raise _Unusable("There is no reviewer of this name.")
    return text


def _yes_or_no(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise _Unusable(f"This is yes or no, and “{text[:40]}” is neither.")
    return text.lower() in _YES


def _search(text: str) -> str:
    if "\0" in text:
        raise _Unusable("The text to search for has characters that no text has.")
    if len(text) > LONGEST_SEARCH:
        raise _Unusable(f"A search is {LONGEST_SEARCH} characters long at most.")
    return text


def _columns(values: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Columns named in the address, `column.source=web`, or by the two fields of a form, `column` and `value`."""
    named = {
        name.removeprefix(COLUMN): values[name]
        for name in values
        if name.startswith(COLUMN) and name != COLUMN
    }
    if values.get("column", "").strip() and values.get("value", "").strip():
        named[values["column"].strip()] = values["value"].strip()
    wanted: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, value in named.items():
        if not value:
            continue
        if "\0" in name + value or '"' in name or len(name) > LONGEST_SEARCH or len(value) > LONGEST_SEARCH:
            problems[COLUMN + name[:40]] = "This column's name or value cannot be searched for."
        else:
            wanted[name] = value
    return tuple(sorted(wanted.items())), problems


# --- The chain -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """The run, its criticism and its round, each made from the one before; None where there is none yet."""

    annotation: AnnotationRun | None = None
    criticism: CriticismRun | None = None
    round: ReviewRound | None = None

    @cached_property
    def audits(self) -> list[int]:
        """Ids of the round's audits."""
        return list(self.round.audits.order_by("pk").values_list("pk", flat=True)) if self.round else []

    @property
    def rounds(self) -> list[int]:
        """Ids of the round and its audits: where people's labels of the chain are."""
        return [self.round.pk, *self.audits] if self.round else []

    @property
    def has_probabilities(self) -> bool:
        """Whether suspicion is on a scale from 0 to 1, and not an order alone."""
        return self.criticism is not None and not self.criticism.ranks_only


def chain_of(project: Project, round_id: int | None = None) -> Chain:
    """The chain of one of the project's review rounds; by default the latest, as `review.standing` finds it."""
    if round_id is not None:
        rounds = project.review_rounds.select_related("criticism_run__annotation_run__job")
        round = rounds.get(pk=round_id)
        round.project = project
        run = round.criticism_run
        return Chain(run.annotation_run if run else None, run, round)
    annotation = (
        project.annotation_runs.filter(scope=AnnotationRun.Scope.PROJECT)
        .exclude(job__state=Job.State.CANCELLED)
        .select_related("job")
        .order_by("-pk")
        .first()
    )
    if annotation is None:
        return Chain()
    criticism = (
        CriticismRun.objects.filter(annotation_run=annotation)
        .exclude(job__state=Job.State.CANCELLED)
        .select_related("annotation_run")
        .order_by("-pk")
        .first()
    )
    if criticism is None:
        return Chain(annotation)
    latest = criticism.review_rounds.filter(kind=ReviewRound.Kind.REVIEW).order_by("-pk").first()
    if latest is not None:
        latest.project = project
        latest.criticism_run = criticism
    return Chain(annotation, criticism, latest)


def cannot_tell(wanted: ItemFilter, chain: Chain) -> dict[str, str]:
    """By name of a filter: why it has nothing to go by yet."""
    missing: dict[str, str] = {}
    if wanted.eps_min is not None or wanted.eps_max is not None:
        name = "eps_min" if wanted.eps_min is not None else "eps_max"
        if chain.criticism is None:
            missing[name] = "Nothing is criticized yet, so there are no error probabilities."
        elif not chain.has_probabilities:
            missing[name] = "This criticizer only ranks items: there are no error probabilities to filter by."
    if wanted.sort in (ERROR_HIGH, ERROR_LOW) and chain.criticism is None:
        missing["sort"] = "Nothing is criticized yet, so the items are as they were uploaded."
    if wanted.sort in (CONFIDENCE_LOW, CONFIDENCE_HIGH) and chain.annotation is None:
        missing["sort"] = "Nothing is annotated yet, so the items are as they were uploaded."
    if wanted.sort == REVIEWED and chain.round is None:
        missing["sort"] = "No round is drawn yet, so the items are as they were uploaded."
    return missing
