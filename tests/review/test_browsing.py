"""The list of items: each filter and each order against plain Python over everything, and pages in both directions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from annotate.models import Annotation, CalibrationLabel, Item
from criticize.models import Criticism
from review import walking
from review.browsing import SORTS, STATUSES, Chain, ItemFilter, cannot_tell, chain_of, parse
from review.models import ReviewTask
from review.walking import Neighbors, Place, Walk, place_from
from tests.factories import (
    make_annotation_run,
    make_criticism_run,
    make_item,
    make_items,
    make_project,
    make_round,
)
from tests.review.browsing_world import BrowsingWorld, Purpose, State, make_browsing_world

pytestmark = pytest.mark.django_db

DONE = (State.ANSWERED, State.SKIPPED)
OPEN = (State.WAITING, State.LEASED)


@dataclass
class Facts:
    """What is known of an item, read plainly."""

    item: Item
    world: BrowsingWorld

    @cached_property
    def annotation(self) -> Annotation | None:
        return Annotation.objects.filter(run=self.world.run, item=self.item).first()

    @cached_property
    def criticism(self) -> Criticism | None:
        found = Criticism.objects.filter(run=self.world.criticism, annotation=self.annotation, failure="")
        return found.first() if self.annotation else None

    @cached_property
    def turns(self) -> list[ReviewTask]:
        tasks = ReviewTask.objects.filter(item=self.item).select_related("correction", "holder")
        return [task for task in tasks if task.purpose != Purpose.GOLD]

    @property
    def in_round(self) -> list[ReviewTask]:
        return [task for task in self.turns if task.round_id == self.world.round.pk]

    @property
    def counted(self) -> ReviewTask | None:
        return next((task for task in self.in_round if task.is_counted), None)

    @property
    def calibration(self) -> CalibrationLabel | None:
        return CalibrationLabel.objects.filter(item=self.item).first()

    @property
    def machine(self) -> int | None:
        return self.annotation.label_id if self.annotation else None

    @property
    def human(self) -> int | None:
        for task in self.turns:
            if task.is_counted and task.state == State.ANSWERED and task.correction:
                return task.correction.label_id
        return self.calibration.label_id if self.calibration else None

    @property
    def failed(self) -> bool:
        return self.annotation is not None and self.annotation.failure != ""

    @property
    def error_prob(self) -> float | None:
        return self.criticism.error_prob if self.criticism else None

    @property
    def labels_of_people(self) -> set[int | None]:
        answered = [task for task in self.in_round if task.state == State.ANSWERED and task.correction]
        return {task.correction.label_id for task in answered if task.correction}

    def has_status(self, status: str) -> bool:
        task = self.counted
        answered = task is not None and task.state == State.ANSWERED
        adjudicates = task is not None and task.purpose == Purpose.ADJUDICATION
        agrees = answered and self.machine is not None and self.human == self.machine
        return {
            "unlabeled": self.annotation is None and self.calibration is None,
            "machine": self.machine is not None and self.human is None,
            "failed": self.failed,
            "waiting": task is not None and task.state in OPEN and not adjudicates,
            "reviewed": answered,
            "accepted": agrees,
            "corrected": answered and not agrees,
            "skipped": task is not None and task.state == State.SKIPPED,
            "conflict": adjudicates and task is not None and task.state in OPEN,
            "adjudicated": adjudicates and answered,
            "picked": any(task.purpose == Purpose.PICKED for task in self.in_round),
            "calibration": self.calibration is not None,
            "audited": any(
                task.round_id == self.world.audit.pk and task.state == State.ANSWERED for task in self.turns
            ),
            "commented": self.item.comments.exists(),
        }[status]


Check = Callable[[Facts], bool]


def checks(world: BrowsingWorld) -> list[tuple[dict[str, str], Check]]:
    """Filters as addresses have them, with what each means."""
    label, person = world.labels[1], world.people[1]
    found: list[tuple[dict[str, str], Check]] = [
        ({}, lambda facts: True),
        ({"label": str(label.pk)}, lambda facts: facts.machine == label.pk),
        ({"human": str(label.pk)}, lambda facts: facts.human == label.pk),
        (
            {"final": str(label.pk)},
            lambda facts: (facts.human if facts.human is not None else facts.machine) == label.pk,
        ),
        ({"eps_min": "0.25"}, lambda facts: facts.error_prob is not None and facts.error_prob >= 0.25),
        ({"eps_max": "0.25"}, lambda facts: facts.error_prob is not None and facts.error_prob <= 0.25),
        ({"eps_min": "0.2", "eps_max": "0.8"}, lambda facts: 0.2 <= (facts.error_prob or 0) <= 0.8),
        (
            {"reviewer": person.username},
            lambda facts: any(t.holder_id == person.pk and t.state in DONE for t in facts.turns),
        ),
        ({"disagreement": "people"}, lambda facts: len(facts.labels_of_people) > 1),
        ({"disagreement": "machine"}, lambda facts: facts.has_status("corrected") and not facts.failed),
        (
            {"disagreement": "gold"},
            lambda facts: (
                None not in (facts.machine, facts.item.gold_id) and facts.machine != facts.item.gold_id
            ),
        ),
        ({"failure": "refused"}, lambda facts: facts.failed),
        ({"failure": "timed_out"}, lambda facts: False),
        ({"gold": "yes"}, lambda facts: facts.item.gold_id is not None),
        ({"gold": "no"}, lambda facts: facts.item.gold_id is None),
        ({"calibration": "no"}, lambda facts: facts.calibration is None),
        ({"upload": str(world.uploads[1].pk)}, lambda facts: facts.item.upload_id == world.uploads[1].pk),
        ({"column.source": "web"}, lambda facts: facts.item.columns["source"] == "web"),
        ({"column.a b": "2"}, lambda facts: facts.item.columns["a b"] == 2),
        ({"column": "source", "value": "mail"}, lambda facts: facts.item.columns["source"] == "mail"),
        ({"q": "FINE"}, lambda facts: facts.item.text.startswith("Fine")),
        ({"q": "100%"}, lambda facts: facts.item.text.startswith("100%")),
        ({"q": "item-"}, lambda facts: True),
    ]
    found += [({"status": key}, lambda facts, key=key: facts.has_status(key)) for key in STATUSES]  # type: ignore[misc]
    return found


def walk_of(world: BrowsingWorld, values: dict[str, str]) -> Walk:
    parsed = parse(world.project, values)
    assert parsed.problems == {}
    chain = chain_of(world.project, parsed.wanted.round)
    return Walk(world.project, parsed.wanted, chain)


@pytest.fixture(params=["few", "many", "many, and none near"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sorted in memory, or walked in the database; with what comes next always near, or hardly ever."""
    if request.param != "few":
        monkeypatch.setattr(walking, "FEW", -1)
    if request.param == "many, and none near":
        monkeypatch.setattr(walking, "_AHEAD", 12)
    return str(request.param)


@pytest.mark.parametrize("seed", [1, 2])
def test_each_filter_leaves_what_it_says(seed: int, way: str) -> None:
    world = make_browsing_world(seed)
    facts = [Facts(item, world) for item in world.items]
    found_any = 0

    for values, is_wanted in checks(world):
        expected = [each.item.pk for each in facts if is_wanted(each)]
        walk = walk_of(world, values)
        assert walk.ids(1000) == expected, values
        assert walk.count() == len(expected), values
        found_any += bool(expected)

    assert found_any > 30


def test_filters_narrow_each_other_in_every_order(way: str) -> None:
    world = make_browsing_world(3)
    facts = [Facts(item, world) for item in world.items]
    everything = [pair for pair in checks(world) if pair[0]]

    for number, (values, is_wanted) in enumerate(everything):
        others, is_also_wanted = everything[(number * 7 + 3) % len(everything)]
        if set(values) & set(others) or {"column", "column.source"} & (set(values) & set(others)):
            continue
        expected = {each.item.pk for each in facts if is_wanted(each) and is_also_wanted(each)}
        for sort in SORTS:
            assert set(walk_of(world, values | others | {"sort": sort}).ids(1000)) == expected, (
                values,
                others,
            )


def order_of(facts: Facts, sort: str) -> tuple[Any, ...]:
    """What the order sorts by, as Python compares it; items without the value come last, by id."""
    pk = facts.item.pk
    value: Any
    tie: Any
    if sort.startswith("error"):
        value, tie = facts.criticism and facts.criticism.priority, facts.annotation and facts.annotation.pk
    elif sort.startswith("confidence"):
        value, tie = facts.annotation and facts.annotation.confidence, pk
    elif sort == "reviewed":
        value, tie = facts.counted and facts.counted.correction_id, pk
    else:
        value, tie = 0, pk
    if value is None:
        return (1, pk)
    falls = sort in ("error_high", "reviewed", "confidence_high")
    return (0, -value, -(tie or 0)) if falls else (0, value, tie)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("narrowed", [{}, {"status": "reviewed"}, {"gold": "yes"}, {"eps_min": "0.25"}])
def test_pages_in_both_directions_are_the_sorted_list(sort: str, narrowed: dict[str, str], way: str) -> None:
    world = make_browsing_world(4)
    values = narrowed | {"sort": sort}
    wanted = {tuple(each.items()): check for each, check in checks(world)}[tuple(narrowed.items())]
    expected = [
        facts.item.pk
        for facts in sorted(
            (each for each in (Facts(item, world) for item in world.items) if wanted(each)),
            key=lambda each: order_of(each, sort),
        )
    ]

    forward: list[list[int]] = []
    page = walk_of(world, values).page(size=7)
    while True:
        forward.append(page.ids)
        if page.after is None:
            break
        page = walk_of(world, values).page(after=place_from(str(page.after)), size=7)
    assert [pk for ids in forward for pk in ids] == expected

    backward = [page.ids]
    while page.before is not None:
        page = walk_of(world, values).page(before=place_from(str(page.before)), size=7)
        backward.insert(0, page.ids)
        if page.ids == expected[:7]:
            break
    assert backward == forward


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("narrowed", [{}, {"status": "reviewed"}, {"gold": "yes"}, {"eps_min": "0.25"}])
def test_an_items_neighbors_are_those_of_the_list(sort: str, narrowed: dict[str, str], way: str) -> None:
    world = make_browsing_world(4, count=20)
    walk = walk_of(world, narrowed | {"sort": sort})
    ids = walk.ids(1000)
    beside = [None, *ids, None]

    assert walk.is_counted == (way == "few" and bool(narrowed))
    for place, pk in enumerate(ids):
        assert walk.neighbors(pk) == Neighbors(beside[place], beside[place + 2])
        assert walk.number(pk) == place + 1
        assert walk.number(pk, most=3) == min(place, 3) + 1
    for pk in {item.pk for item in world.items} - set(ids):
        assert walk.neighbors(pk) is None
        assert walk.number(pk) is None


def test_a_place_beyond_what_is_left_shows_the_first_page(way: str) -> None:
    world = make_browsing_world(5, count=10)
    walk = walk_of(world, {})
    first = walk.page(size=4).ids

    assert walk.page(after=Place(0, (10**9,)), size=4).ids == first
    assert walk.page(before=Place(0, (0,)), size=4).ids == first
    assert walk.page(after=Place(1, (3,)), size=4).ids == first
    assert walk.page(after=Place(0, (0.5, 3)), size=4).ids == first


@pytest.mark.parametrize(
    "text", ["", "x", "0", "0~", "0~x", "2~1", "-1~1", "0~1~2~3", "0~nan~1", "0~1e999~1", "0~" + "9" * 40]
)
def test_a_place_that_somebody_made_up_is_none(text: str) -> None:
    assert place_from(text) is None


def test_a_filter_comes_back_from_its_address() -> None:
    world = make_browsing_world(6, count=5)
    label = str(world.labels[0].pk)
    values = {
        "round": str(world.round.pk),
        "label": label,
        "human": label,
        "final": label,
        "status": "corrected",
        "eps_min": "0.1",
        "eps_max": "0.9",
        "reviewer": world.people[0].username,
        "disagreement": "gold",
        "failure": "refused",
        "gold": "no",
        "calibration": "yes",
        "upload": str(world.uploads[0].pk),
        "q": "a & b",
        "sort": "reviewed",
        "column.a b": "x=y",
    }
    wanted = parse(world.project, values).wanted

    again = parse(world.project, QueryDict(wanted.query()))

    assert again.problems == {}
    assert again.wanted == wanted
    assert dict(wanted.as_pairs()) == values
    assert wanted.narrows
    assert not ItemFilter(round=1, sort="reviewed").narrows


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("round", "x"),
        ("round", "999999"),
        ("round", "9" * 30),
        ("label", "positive"),
        ("human", "-1"),
        ("final", "٣"),
        ("status", "nice"),
        ("eps_min", "high"),
        ("eps_max", "1.5"),
        ("eps_max", "nan"),
        ("reviewer", "nobody"),
        ("reviewer", "\0"),
        ("disagreement", "all"),
        ("failure", "boredom"),
        ("gold", "perhaps"),
        ("calibration", "2"),
        ("upload", "0"),
        ("q", "\0"),
        ("q", "x" * 201),
        ("sort", "random"),
        ('column.a"b', "1"),
        ("column.a", "\0"),
    ],
)
def test_what_makes_no_sense_falls_away_and_is_said(name: str, value: str) -> None:
    project = make_project()

    parsed = parse(project, {name: value})

    assert parsed.wanted == ItemFilter()
    assert list(parsed.problems) == [name]
    assert parsed.problems[name].endswith(".")


def test_bounds_in_the_wrong_order_are_meant_the_other_way() -> None:
    wanted = parse(make_project(), {"eps_min": "0,9", "eps_max": "0.2"}).wanted

    assert (wanted.eps_min, wanted.eps_max) == (0.2, 0.9)


def test_labels_rounds_and_uploads_of_other_projects_do_not_exist() -> None:
    world, other = make_browsing_world(7, count=3), make_project()
    values = {
        "label": str(world.labels[0].pk),
        "round": str(world.round.pk),
        "upload": str(world.uploads[0].pk),
    }

    assert set(parse(other, values).problems) == set(values)


def test_the_chain_is_the_latest_or_that_of_a_round() -> None:
    project = make_project()
    assert chain_of(project) == Chain()
    make_items(project, 3)
    runs = [make_annotation_run(project) for _ in range(2)]
    assert chain_of(project) == Chain(runs[1])
    old = make_round(make_criticism_run(runs[0]))
    assert chain_of(project) == Chain(runs[1])
    newest = make_criticism_run(runs[1])
    assert chain_of(project) == Chain(runs[1], newest)
    rounds = [make_round(newest) for _ in range(2)]
    assert chain_of(project) == Chain(runs[1], newest, rounds[1])
    assert chain_of(project, old.pk) == Chain(runs[0], old.criticism_run, old)
    make_annotation_run(project, state="cancelled")
    make_annotation_run(project, scope="calibration")
    assert chain_of(project).annotation == runs[1]


@pytest.mark.parametrize("way", ["few", "many"], indirect=True)
def test_filters_work_before_anything_was_run(way: str) -> None:
    project = make_project()
    items = make_items(project, 3)
    label = str(project.labels.latest("pk").pk)

    def ids(**values: str) -> list[int]:
        wanted = parse(project, values).wanted
        return Walk(project, wanted, chain_of(project)).ids(10)

    everything = [item.pk for item in items]
    for sort in SORTS:
        assert ids(sort=sort) == everything
    for name, value in (("label", label), ("human", label), ("final", label), ("eps_min", "0")):
        assert ids(**{name: value}) == []
    for status in STATUSES:
        assert ids(status=status) == (everything if status == "unlabeled" else [])
    assert ids(disagreement="people") == ids(disagreement="machine") == ids(disagreement="gold") == []


def test_what_there_is_nothing_to_go_by_for_is_said() -> None:
    project = make_project()
    make_items(project, 3)

    def missing(**values: str) -> list[str]:
        return list(cannot_tell(parse(project, values).wanted, chain_of(project)))

    assert missing(eps_max="0.5", sort="error_high") == ["eps_max", "sort"]
    assert missing(sort="confidence_low") == missing(sort="reviewed") == ["sort"]
    ranked = make_criticism_run(make_annotation_run(project), strategy="cot_ppl")
    assert ranked.ranks_only
    assert (missing(eps_min="0.5"), missing(sort="error_high")) == (["eps_min"], [])


def test_a_page_takes_the_same_few_queries_at_any_size(way: str) -> None:
    def queries(count: int) -> int:
        world = make_browsing_world(8, count=count)
        walk = walk_of(world, {"status": "reviewed", "sort": "error_high"})
        with CaptureQueriesContext(connection) as captured:
            walk.page(size=20)
        return len(captured)

    assert queries(80) <= 5


def test_pages_never_skip_with_offset(way: str) -> None:
    world = make_browsing_world(9)
    for sort in SORTS:
        with CaptureQueriesContext(connection) as captured:
            page = walk_of(world, {"sort": sort}).page(size=5)
            walk_of(world, {"sort": sort}).page(after=page.after, size=5)
        assert all("OFFSET" not in query["sql"] for query in captured)


def test_an_id_is_searched_for_as_it_is(way: str) -> None:
    project = make_project()
    exact = make_item(project, external_id="a_b%c")
    make_item(project, external_id="aXbYc")
    wanted = parse(project, {"q": "A_B%C"}).wanted

    assert Walk(project, wanted, Chain()).ids(5) == [exact.pk]
