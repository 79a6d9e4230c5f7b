"""The dashboard's numbers, counted by hand in small worlds; its page, its CSV files and its API."""

import csv
import io
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from django.core.cache import cache
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Item, Membership, Project, User
from jobs.models import Job
from review import keeping
from review.dashboard import PARTS, TABLES, is_busy, part_of, parts_shown
from review.dashboard_errors import NO_LABEL, OTHER, RANK, budget_curve_of, confusion, doubts
from review.dashboard_pipeline import Pipeline, pipeline
from review.dashboard_scope import Scope, scope_of
from review.dashboard_work import DAYS, cost, pace, runs
from review.models import Correction, ReviewRound, ReviewTask
from review.services.rounds import round_create
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_item,
    make_items,
    make_job,
    make_membership,
    make_project,
    make_round,
    make_user,
)

pytestmark = pytest.mark.django_db

A, B, C = "negative", "positive", "mixed"


def answer(
    task: ReviewTask,
    label: str = "",
    *,
    user: User | None = None,
    seconds: float | None = 10.0,
    at: datetime | None = None,
) -> Correction:
    """The task answered with a label, or skipped without one, as the queue leaves it."""
    user = user or task.round.created_by
    correction = Correction.objects.create(
        task=task,
        action="label" if label else "skip",
        label=label_named(task.round.project, label) if label else None,
        author=user,
        seconds=seconds,
        created_at=at or timezone.now(),
    )
    task.state = ReviewTask.State.ANSWERED if label else ReviewTask.State.SKIPPED
    task.holder, task.correction = user, correction
    task.save()
    return correction


def adjudicated(task: ReviewTask) -> ReviewTask:
    """An adjudication in place of the task, which counts no longer."""
    task.is_counted = False
    task.save()
    return ReviewTask.objects.create(
        round=task.round,
        item=task.item,
        annotation=task.annotation,
        criticism=task.criticism,
        rank=task.rank,
        purpose=ReviewTask.Purpose.ADJUDICATION,
    )


def task_of(round: ReviewRound, item: Item) -> ReviewTask:
    return round.counted_tasks.get(item=item)


class World:
    """Twelve items: 0 is a calibration item, 1 was refused, 2 has no criticism, 11 came after the run; all others are
    labeled negative and criticized. The round draws 1 to 8 (what is missing comes first)."""

    def __init__(self) -> None:
        self.owner = make_user("olga")
        self.other = make_user("rita")
        self.project = make_project(owner=self.owner, reviewers=[self.other], labels=(A, B, C))
        self.items = make_items(self.project, 11)
        make_calibration_label(self.items[0], A)
        self.annotations = make_annotation_run(
            self.project, {item: "" if number == 1 else A for number, item in enumerate(self.items) if number}
        )
        error_probs = [None, 0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25]
        self.criticisms = make_criticism_run(self.annotations, error_probs)
        self.items.append(make_item(self.project))
        self.round = make_round(self.criticisms, 8)
        assert {task.item_id for task in self.round.tasks.all()} == {item.pk for item in self.items[1:9]}

    def task(self, number: int) -> ReviewTask:
        return task_of(self.round, self.items[number])

    @property
    def scope(self) -> Scope:
        return scope_of(self.project)

    def review(self) -> None:
        """1 is filled in, 2 accepted, 3 and 4 corrected, 5 skipped, 6 in conflict, 7 adjudicated, 8 waits."""
        answer(self.task(1), B)
        answer(self.task(2), A)
        answer(self.task(3), B)
        answer(self.task(4), C, user=self.other)
        answer(self.task(5))
        for number in (6, 7):
            first = self.task(number)
            answer(first, A)
            second = ReviewTask.objects.create(
                round=self.round,
                item=first.item,
                annotation=first.annotation,
                criticism=first.criticism,
                rank=first.rank,
                copy=1,
                is_counted=False,
            )
            answer(second, B, user=self.other)
            adjudication = adjudicated(first)
            if number == 7:
                answer(adjudication, B)


@pytest.fixture
def world() -> World:
    return World()


def counts(found: Pipeline) -> dict[str, int]:
    return {stage.key: stage.count for stage in found.stages}


def flows(found: Pipeline) -> dict[tuple[str, str], int]:
    return {(flow.source, flow.target): flow.count for flow in found.flows}


def balances(found: Pipeline) -> None:
    """What flows into a stage is what is in it, and what flows out, but at the ends."""
    count, into, out = counts(found), dict[str, int](), dict[str, int]()
    for (source, target), items in flows(found).items():
        out[source] = out.get(source, 0) + items
        into[target] = into.get(target, 0) + items
    last = {stage.key for stage in found.stages if stage.column == 5}
    assert all(into[key] == items for key, items in count.items() if key != "uploaded")
    assert all(out[key] == items for key, items in count.items() if key not in last)
    assert sum(count[key] for key in last) == found.items


class TestPipeline:
    def test_without_items_there_is_nothing(self):
        found = pipeline(scope_of(make_project()))

        assert (found.items, found.stages, found.flows) == (0, [], [])

    def test_uploaded_items_have_no_label_yet(self):
        project = make_project()
        make_items(project, 3)
        make_calibration_label(project.items.latest("pk"), A)

        found = pipeline(scope_of(project))

        assert counts(found) == {"uploaded": 3, "calibration": 1, "unlabeled": 2, "person": 1, "none": 2}
        balances(found)

    def test_annotated_items_have_the_machines_label(self):
        project = make_project()
        items = make_items(project, 3)
        make_annotation_run(project, {items[0]: A, items[1]: ""})

        found = pipeline(scope_of(project))

        assert flows(found) == {
            ("uploaded", "annotated"): 1,
            ("uploaded", "failed"): 1,
            ("uploaded", "unlabeled"): 1,
            ("annotated", "machine"): 1,
            ("failed", "none"): 1,
            ("unlabeled", "none"): 1,
        }

    def test_a_drawn_round_waits(self, world: World):
        found = pipeline(world.scope)

        assert counts(found) == {
            "uploaded": 12,
            "calibration": 1,
            "annotated": 9,
            "failed": 1,
            "unlabeled": 1,
            "criticized": 8,
            "not_criticized": 2,
            "drawn": 8,
            "not_drawn": 2,
            "waiting": 8,
            "person": 1,
            "machine": 9,
            "none": 2,
        }
        balances(found)

    def test_every_outcome_is_counted_once(self, world: World):
        world.review()

        found = pipeline(world.scope)

        assert {key: counts(found).get(key, 0) for key in ("accepted", "corrected", "skipped")} == {
            "accepted": 1,
            "corrected": 4,  # 1 (filled in), 3, 4, and 7 by adjudication
            "skipped": 1,
        }
        assert (counts(found)["conflict"], counts(found)["waiting"]) == (1, 1)
        assert flows(found)["corrected", "adjudicated"] == 1
        assert flows(found)["corrected", "person"] == 3
        assert flows(found)["accepted", "person"] == 1
        assert flows(found)["conflict", "machine"] == 1
        assert (counts(found)["person"], counts(found)["adjudicated"]) == (5, 1)
        assert (counts(found)["machine"], counts(found)["none"]) == (5, 1)
        balances(found)

    def test_copies_and_known_items_are_counted_apart(self, world: World):
        world.review()
        ReviewTask.objects.create(
            round=world.round,
            item=world.items[0],
            rank=0,
            purpose=ReviewTask.Purpose.GOLD,
            is_counted=False,
            assigned_to=world.other,
        )

        found = pipeline(world.scope)

        assert (found.further_readings, found.adjudications, found.known_items, found.picked) == (2, 2, 1, 0)
        assert counts(found)["drawn"] == 8

    def test_picked_items_may_be_of_any_kind(self, world: World):
        for number in (0, 9, 11):
            annotation = world.annotations.annotations.filter(item=world.items[number]).first()
            task = ReviewTask.objects.create(
                round=world.round,
                item=world.items[number],
                annotation=annotation,
                rank=100 + number,
                purpose=ReviewTask.Purpose.PICKED,
            )
            if number == 11:
                answer(task, B)

        found = pipeline(world.scope)

        assert found.picked == 3
        assert flows(found)["calibration", "drawn"] == 1
        assert flows(found)["unlabeled", "drawn"] == 1
        assert flows(found)["criticized", "drawn"] == 7  # 3 to 8, and 9 picked by hand
        assert counts(found)["none"] == 1  # the refused one
        balances(found)

    def test_a_skipped_adjudication_is_skipped(self, world: World):
        answer(adjudicated(world.task(3)))

        assert counts(pipeline(world.scope))["skipped"] == 1

    def test_audited_items_have_a_persons_label(self, world: World):
        audit = ReviewRound.objects.create(
            project=world.project,
            kind=ReviewRound.Kind.AUDIT,
            audited=world.round,
            criticism_run=world.criticisms,
            budget=2,
            created_by=world.owner,
        )
        for number, item in enumerate((world.items[8], world.items[9])):
            annotation = world.annotations.annotations.get(item=item)
            answer(ReviewTask.objects.create(round=audit, item=item, annotation=annotation, rank=number), A)

        found = pipeline(world.scope)

        assert flows(found)["not_drawn", "audited"] == 1
        assert flows(found)["waiting", "person"] == 1  # drawn, unanswered, and audited
        assert counts(found)["person"] == 3
        balances(found)

    def test_written_answers_flow_too(self):
        project = make_project("rated_answer", labels=())
        items = make_items(project, 2)
        run = make_annotation_run(project, dict.fromkeys(items, ""))
        run.annotations.filter(item=items[0]).update(failure="", answer="Short.")
        round = make_round(make_criticism_run(run, [0.5]), 1)
        task = round.tasks.get()
        text = {task.item_id: "Other."}[task.item_id]
        correction = Correction.objects.create(
            task=task, action="label", answer=text, author=round.created_by
        )
        task.state, task.correction = ReviewTask.State.ANSWERED, correction
        task.save()

        found = pipeline(scope_of(project))

        assert counts(found)["corrected"] == 1
        assert confusion(scope_of(project)) is None
        balances(found)


class TestScope:
    def test_the_newest_round_is_the_default(self, world: World):
        newer = make_round(world.criticisms, 2)

        assert scope_of(world.project).round == newer
        assert scope_of(world.project, world.round.pk).round == world.round

    def test_rounds_of_other_kinds_and_projects_are_not_found(self, world: World, client: Client):
        client.force_login(world.owner)
        elsewhere = World.__new__(World)
        elsewhere.project = make_project()
        make_items(elsewhere.project, 2)
        other = make_round(make_criticism_run(make_annotation_run(elsewhere.project)), 1)
        url = reverse("dashboard", args=[world.project.pk])

        for wrong in (str(other.pk), "x", "9" * 30):
            assert client.get(url, {"round": wrong}).status_code == 404


class TestCurve:
    def test_without_a_criticism_there_is_none(self):
        assert budget_curve_of(scope_of(make_project())) is None

    def test_gold_says_what_the_order_finds(self, world: World):
        for number in (2, 4, 9):  # comes first (no criticism), third and ninth
            Item.objects.filter(pk=world.items[number].pk).update(gold=label_named(world.project, B))
        for number in (1, 3, 5, 6, 7, 8, 10):
            Item.objects.filter(pk=world.items[number].pk).update(gold=label_named(world.project, A))
        answer(world.task(4), B)
        answer(world.task(3), A)

        found = budget_curve_of(world.scope)

        assert found is not None
        assert (found.source, found.items, found.errors, found.population) == ("gold", 10, 4, 10)
        assert (found.budget, found.budget_share, found.at_budget) == (8, 0.8, 0.75)
        assert (found.reviewed, found.found, found.found_share) == (2, 1, 0.25)
        # 1 (refused) and 2 tie for the first place; both are errors.
        assert dict(found.points)[0.1] == pytest.approx(0.25)
        assert dict(found.points)[0.2] == pytest.approx(0.5)
        assert dict(found.points)[1.0] == 1.0

    def test_only_items_with_gold_are_measured(self, world: World):
        for number, gold in ((4, B), (5, A)):
            Item.objects.filter(pk=world.items[number].pk).update(gold=label_named(world.project, gold))

        found = budget_curve_of(world.scope)

        assert found is not None
        assert (found.items, found.errors, found.points) == (2, 1, [(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)])

    def test_calibration_items_that_the_same_pair_judged_say_it_too(self, world: World):
        more = make_item(world.project)
        make_calibration_label(more, B)
        candidate = make_annotation_run(world.project, {world.items[0]: A, more: A}, scope="calibration")
        make_criticism_run(candidate, [0.2, 0.8])

        found = budget_curve_of(world.scope)

        assert found is not None
        assert (found.source, found.items, found.errors) == ("calibration", 2, 1)
        assert dict(found.points)[0.5] == 1.0

    def test_without_known_labels_the_found_errors_are_left(self, world: World):
        answer(world.task(4), B)

        found = budget_curve_of(world.scope)

        assert found is not None
        assert (found.source, found.points, found.found, found.found_share) == ("", [], 1, None)


class TestDoubts:
    def test_without_a_round_there_are_none(self):
        assert doubts(scope_of(make_project())) is None

    def test_bins_count_items_reviews_and_errors(self, world: World):
        world.review()

        found = doubts(world.scope)

        assert found is not None
        assert not found.is_rank
        by_low = {each.low: (each.items, each.reviewed, each.errors) for each in found.bins if each.items}
        assert by_low == {
            0.95: (1, 1, 1),
            0.85: (1, 1, 1),
            0.75: (1, 0, 0),  # skipped
            0.65: (1, 0, 0),  # in conflict
            0.55: (1, 1, 1),  # adjudicated
            0.45: (1, 0, 0),
            0.35: (1, 0, 0),
            0.25: (1, 0, 0),
        }
        assert found.without is not None
        assert (found.without.items, found.without.reviewed, found.without.errors) == (2, 2, 1)
        assert (found.reviewed, found.errors) == (5, 4)
        assert found.cut == pytest.approx(world.round.parameters["tau"])

    def test_an_order_alone_is_shown_by_tenths(self):
        project = make_project()
        make_items(project, 20)
        run = make_criticism_run(make_annotation_run(project), strategy="mc")
        round = make_round(run, 4)
        for task in round.tasks.order_by("rank")[:3]:
            answer(task, B)

        found = doubts(scope_of(project))

        assert found is not None
        assert (found.is_rank, found.scale, len(found.bins)) == (True, RANK, 10)
        assert [each.items for each in found.bins] == [2] * 10
        assert [(each.reviewed, each.errors) for each in found.bins[8:]] == [(1, 1), (2, 2)]
        assert found.cut == pytest.approx(16.5 / 20)

    def test_a_picked_item_outside_the_draw_is_in_no_bin(self, world: World):
        task = ReviewTask.objects.create(
            round=world.round, item=world.items[11], rank=99, purpose=ReviewTask.Purpose.PICKED
        )
        answer(task, B)

        found = doubts(world.scope)

        assert found is not None
        assert (found.reviewed, found.errors) == (0, 0)


class TestConfusion:
    def test_pairs_are_those_of_the_final_answers(self, world: World):
        world.review()

        found = confusion(world.scope)

        assert found is not None
        assert {(pair.machine, pair.human): pair.count for pair in found.pairs} == {
            (A, B): 2,
            (A, A): 1,
            (A, C): 1,
            (NO_LABEL, B): 1,
        }
        assert (found.reviewed, found.agreed) == (5, 1)
        assert found.columns == [A, B, C]
        assert [(row.name, [cell.count for cell in row.cells]) for row in found.rows] == [
            (A, [1, 2, 1]),
            (B, [0, 0, 0]),
            (C, [0, 0, 0]),
            (NO_LABEL, [0, 1, 0]),
        ]
        assert [(pair.machine, pair.human) for pair in found.confused] == [(A, B), (A, C)]

    def test_of_many_labels_the_busiest_are_shown(self):
        names = [f"label {number:02}" for number in range(30)]
        project = make_project(labels=names)
        items = make_items(project, 60)
        run = make_annotation_run(project, {item: names[n % 30] for n, item in enumerate(items)})
        round = make_round(make_criticism_run(run), 60)
        for number, item in enumerate(items):
            answer(task_of(round, item), names[0] if number % 30 < 10 else names[number % 30])

        found = confusion(scope_of(project))

        assert found is not None
        assert (found.labels, found.is_cut, len(found.columns), len(found.rows)) == (30, True, 21, 21)
        assert found.columns[-1] == OTHER
        assert found.rows[0].name == names[0]
        assert sum(row.total for row in found.rows) == found.reviewed == 60
        assert found.columns[0] == names[0]
        assert sum(row.cells[0].count for row in found.rows) == 20  # all that people called label 00
        assert len(found.confused) == 9


class TestCost:
    def test_models_and_people_against_labeling_by_hand(self, world: World):
        world.review()
        Job.objects.filter(pk=world.annotations.job_id).update(cost=Decimal("1.25"), input_tokens=900)
        Job.objects.filter(pk=world.criticisms.job_id).update(output_tokens=7)  # of a model without a price
        gold = ReviewTask.objects.create(
            round=world.round,
            item=world.items[0],
            rank=0,
            purpose=ReviewTask.Purpose.GOLD,
            is_counted=False,
            assigned_to=world.other,
        )
        answer(gold, A, user=world.other)
        world.project.review_price = Decimal("0.10")
        world.project.save()

        found = cost(scope_of(Project.objects.get(pk=world.project.pk)))

        assert {part.name: part.reviews for part in found.reviews} == {
            "Review": 7,  # one skipped and the first readings of both that differ
            "Further readings": 2,
            "Adjudication": 1,
            "Known items": 1,
        }
        assert (found.models, found.people, found.total) == (
            Decimal("1.25"),
            Decimal("1.10"),
            Decimal("2.35"),
        )
        assert (found.by_hand, found.unpriced) == (Decimal("1.20"), 1)

    def test_calibration_and_audit_rounds_cost_too(self, world: World):
        for kind, name in (("calibration", "Calibration"), ("audit", "Audit")):
            round = ReviewRound.objects.create(
                project=world.project,
                kind=kind,
                budget=1,
                criticism_run=world.criticisms,
                audited=world.round if kind == "audit" else None,
                created_by=world.owner,
            )
            answer(ReviewTask.objects.create(round=round, item=world.items[9], rank=0), A)

            assert {part.name: part.reviews for part in cost(world.scope).reviews}[name] == 1


class TestRuns:
    def test_without_active_runs_the_last_of_each_kind(self, world: World):
        newer = make_annotation_run(world.project)

        found = runs(world.scope)

        assert [(run.kind, run.run_id) for run in found.runs] == [
            ("annotation", newer.pk),
            ("criticism", world.criticisms.pk),
        ]
        assert not found.is_active
        (failure,) = found.runs[1].failures
        assert (failure.label, failure.count) == ("Timed out", 1)

    def test_active_runs_say_their_pace_and_money(self, world: World):
        begun = timezone.now() - timedelta(minutes=2)
        job = make_job(
            state=Job.State.RUNNING,
            total=100,
            done=40,
            pace_since=begun,
            cost=Decimal("0.5"),
            spend_limit=Decimal(2),
        )
        world.annotations.job = job
        world.annotations.save()

        (first, _) = (found := runs(world.scope)).runs

        assert found.is_active
        assert first.per_minute == pytest.approx(20, rel=0.01)
        assert first.progress.eta == pytest.approx(180, rel=0.01)
        assert (first.progress.cost, first.progress.spend_limit) == (0.5, 2.0)
        assert is_busy(world.scope)


class TestPace:
    now = timezone.make_aware(datetime(2026, 3, 20, 15, 30))

    def at(self, **ago: float) -> datetime:
        return self.now - timedelta(**ago)

    def test_hours_days_and_people(self, world: World):
        tasks = [world.task(number) for number in range(1, 9)]
        answer(tasks[0], A, at=self.at(minutes=60), seconds=5)
        answer(tasks[1], A, at=self.at(minutes=59), seconds=7)
        answer(tasks[2], A, at=self.at(minutes=57), seconds=30)
        answer(tasks[3], at=self.at(minutes=40), seconds=None)  # a pause of 17 minutes before it
        answer(tasks[4], A, at=self.at(days=2), user=world.other, seconds=None)
        answer(tasks[5], A, at=self.at(days=DAYS), user=world.other)
        Correction.objects.create(
            task=tasks[0], action="undo", author=world.owner, created_at=self.at(minutes=58)
        )

        found = pace(world.scope, self.now)

        assert (len(found.hours), len(found.days)) == (24, DAYS)
        assert [(span.start.hour, span.reviews) for span in found.hours if span.reviews] == [(14, 4)]
        assert [(span.start.day, span.reviews) for span in found.days if span.reviews] == [(18, 1), (20, 4)]
        olga, rita = found.reviewers
        assert (olga.reviewer, olga.reviews, olga.median_seconds, olga.active_seconds) == ("olga", 4, 7, 180)
        assert olga.per_hour == pytest.approx(2 / 180 * 3600)
        assert (rita.reviewer, rita.reviews, rita.median_seconds, rita.per_hour) == ("rita", 1, None, None)

    def test_times_count_to_the_microsecond(self, world: World):
        whole = self.now.replace(minute=0)
        for number, at in enumerate(
            [whole, whole - timedelta(microseconds=1), whole - timedelta(seconds=2.25)], 1
        ):
            answer(world.task(number), A, at=at)

        found = pace(world.scope, self.now)

        assert found.reviewers[0].active_seconds == pytest.approx(2.25, abs=1e-6)
        assert [(span.start.hour, span.reviews) for span in found.hours if span.reviews] == [(14, 2), (15, 1)]

    def test_nobody_has_reviewed(self, world: World):
        found = pace(world.scope, self.now)

        assert (found.reviews, found.today, found.reviewers) == (0, 0, [])


class TestKeeping:
    def test_what_is_quick_to_count_is_counted_anew(self, world: World):
        assert part_of(world.scope, "confusion").reviewed == 0

        answer(world.task(3), B)

        cache.clear()
        assert part_of(world.scope, "confusion").reviewed == 1

    def test_what_takes_long_is_kept(self, world: World, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(keeping, "LARGE", 1)
        ticks = iter(np.arange(0, 100, 0.4))
        monkeypatch.setattr("review.keeping.time.perf_counter", lambda: next(ticks))
        calls: list[str] = []
        monkeypatch.setitem(PARTS, "pace", lambda scope: calls.append(scope.key))

        assert part_of(world.scope, "pace") is None
        assert part_of(world.scope, "pace") is None

        assert len(calls) == 1

    def test_reviews_under_way_make_it_busy(self, world: World):
        assert not is_busy(world.scope)

        correction = answer(world.task(3), B)
        assert is_busy(world.scope)

        Correction.objects.filter(pk=correction.pk).update(created_at=timezone.now() - timedelta(hours=1))
        assert not is_busy(world.scope)

        world.round.tasks.filter(state="waiting").update(state="leased")
        assert is_busy(world.scope)


def rows_of(response) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


class TestPage:
    def url(self, project: Project) -> str:
        return reverse("dashboard", args=[project.pk])

    def test_every_state_of_a_project_has_a_page(self, client: Client):
        owner = make_user()
        client.force_login(owner)
        project = make_project(owner=owner)
        assert b"No items yet" in client.get(self.url(project)).content

        make_items(project, 4)
        assert b"Not annotated" in client.get(self.url(project)).content
        run = make_annotation_run(project)
        assert b"Choose a criticizer" in client.get(self.url(project)).content
        criticisms = make_criticism_run(run)
        assert b"Draw a round" in client.get(self.url(project)).content
        make_round(criticisms, 2)
        assert b"Shown once people have reviewed some labels" in client.get(self.url(project)).content

    def test_everything_is_there(self, world: World, client: Client):
        world.review()
        client.force_login(world.owner)

        page = client.get(self.url(world.project)).content.decode()

        for part in parts_shown(world.project.task):
            assert f'id="dash-{part}"' in page
        items = reverse("items", args=[world.project.pk])
        assert f"{items}?round={world.round.pk}&amp;status=corrected" in page
        a, b = label_named(world.project, A).pk, label_named(world.project, B).pk
        assert f"{items}?round={world.round.pk}&amp;label={a}&amp;human={b}" in page
        assert "style=" not in page

    def test_only_what_changed_is_sent(self, world: World, client: Client):
        client.force_login(world.owner)
        page = client.get(self.url(world.project)).content.decode()
        live = page.split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
        htmx = {"HX-Request": "true"}

        assert client.get(live, headers=htmx).status_code == 204

        answer(world.task(3), B)
        cache.clear()
        changed = client.get(live, headers=htmx).content.decode()

        assert 'id="dash-confusion"' in changed
        assert 'hx-swap-oob="true"' in changed
        assert 'id="dash-runs"' not in changed
        assert 'id="dashboard-live"' in changed

    def test_each_chart_is_a_csv_file(self, world: World, client: Client):
        world.review()
        client.force_login(world.owner)

        found = {name: rows_of(client.get(self.url(world.project), {"csv": name})) for name in TABLES}

        assert {"from": "To review", "to": "Corrected", "items": "4"} in found["pipeline"]
        assert found["confusion"][0] == {"machine": A, "human": B, "items": "2"}
        assert found["doubts"][-1] == {
            "from": "",
            "to": "",
            "items": "2",
            "reviewed": "2",
            "errors_found": "1",
        }
        assert [row["cost_usd"] for row in found["cost"] if row["what"] == "Review"] == ["0.56"]
        assert found["runs"][0]["failures"] == "Refused: 1"
        assert {row["reviewer"] for row in found["reviewers"]} == {"olga", "rita"}
        assert sum(int(row["reviews"]) for row in found["pace"] if row["span"] == "day") == 10
        assert found["curve"] == []

    def test_there_is_no_file_of_another_name(self, world: World, client: Client):
        client.force_login(world.owner)

        assert client.get(self.url(world.project), {"csv": "nothing"}).status_code == 404

    def test_formulas_do_not_run_in_a_spreadsheet(self, world: World, client: Client):
        User.objects.filter(pk=world.owner.pk).update(username="=1+1")
        world.review()
        client.force_login(world.owner)

        rows = rows_of(client.get(self.url(world.project), {"csv": "reviewers"}))

        assert "'=1+1" in {row["reviewer"] for row in rows}

    def test_viewers_see_it_and_reviewers_do_not(self, world: World, client: Client):
        viewer, stranger = make_user(), make_user()
        make_membership(world.project, viewer, Membership.Role.VIEWER)

        for user, status in ((viewer, 200), (world.other, 403), (stranger, 404)):
            client.force_login(user)
            assert client.get(self.url(world.project)).status_code == status
            assert client.get(self.url(world.project), {"csv": "cost"}).status_code == status

    def test_a_page_of_many_parts_takes_few_queries(
        self, world: World, client: Client, django_assert_max_num_queries
    ):
        world.review()
        client.force_login(world.owner)
        client.get(self.url(world.project))

        cache.clear()
        with django_assert_max_num_queries(60):
            client.get(self.url(world.project))


class TestApi:
    def test_all_numbers(self, world: World, client: Client):
        world.review()
        client.force_login(world.owner)

        found = client.get(reverse("api:dashboard", args=[world.project.pk])).json()

        assert found["round"] == world.round.pk
        assert {"source": "drawn", "target": "skipped", "count": 1} in found["pipeline"]["flows"]
        assert found["confusion"]["agreed"] == 1
        assert found["doubts"]["without"]["items"] == 2
        assert found["curve"]["found"] == 4
        assert found["cost"]["by_hand"] == pytest.approx(0.96)
        assert [run["kind"] for run in found["runs"]["runs"]] == ["annotation", "criticism"]
        assert {each["reviewer"] for each in found["pace"]["reviewers"]} == {"olga", "rita"}

    def test_a_project_without_anything(self, client: Client):
        owner = make_user()
        client.force_login(owner)

        found = client.get(reverse("api:dashboard", args=[make_project(owner=owner).pk])).json()

        assert (found["round"], found["curve"], found["doubts"], found["confusion"]) == (None,) * 4

    def test_one_table(self, world: World, client: Client):
        client.force_login(world.owner)
        url = reverse("api:dashboard_table", args=[world.project.pk])

        response = client.get(url, {"name": "pipeline", "round": str(world.round.pk)})

        assert response.headers["Content-Type"].startswith("text/csv")
        assert {"from": "To review", "to": "Waiting", "items": "8"} in rows_of(response)
        assert client.get(url, {"name": "nothing"}).status_code == 400
        assert client.get(url, {"name": "cost", "round": "1000000"}).status_code == 404
        assert client.get(url, {"nam": "cost"}).status_code == 400


class TestSankey:
    def drawn(self, world: World) -> str:
        found = pipeline(world.scope)
        template = Template('{% load charts %}{% sankey part.stages part.flows urls "Items" %}')
        return template.render(Context({"part": found, "urls": {"waiting": "/waiting/"}}))

    def test_every_flow_is_a_band_with_its_count(self, world: World):
        page = self.drawn(world)

        assert "<title>To review → Waiting: 8</title>" in page
        assert "<title>Calibration → By a person: 1</title>" in page
        assert '<a href="/waiting/"' in page

    def test_words_of_a_column_do_not_overlap(self, world: World):
        world.review()
        found = pipeline(world.scope)

        from annotate.templatetags.charts import sankey

        nodes = sankey(found.stages, found.flows, {})["nodes"]

        by_column: dict[str, list[float]] = {}
        for node in nodes:
            by_column.setdefault(node["x"], []).append(float(node["y"]))
        gaps = [np.diff(sorted(tops)).min() for tops in by_column.values() if len(tops) > 1]
        assert min(gaps) >= 34


def test_cdi_training_rounds_have_no_cut(world: World):
    world.round.parameters = {"phase": "training"}
    world.round.save()

    found = doubts(world.scope)

    assert found is not None
    assert found.cut is None


def test_a_chance_rule_has_its_alpha_as_cut(world: World):
    round = round_create(run=world.criticisms, user=world.owner, count=4, rule="exponential")

    found = doubts(scope_of(world.project, round.pk))

    assert found is not None
    alpha = round.parameters["alpha"]
    assert found.cut == (alpha if 0 <= alpha <= 1 else None)


class TestLargeProjects:
    """A page never waits while a large project is counted."""

    @pytest.fixture(autouse=True)
    def everything_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "LARGE", 1)

    def live_of(self, page: str) -> str:
        return page.split('hx-get="')[1].split('"')[0].replace("&amp;", "&")

    def test_the_page_comes_first_and_its_numbers_after_it(self, world: World, client: Client):
        world.review()
        client.force_login(world.owner)
        url = reverse("dashboard", args=[world.project.pk])

        page = client.get(url).content.decode()
        assert "are being counted" in page
        assert 'hx-trigger="load' in page
        assert 'id="dash-pipeline"' not in page

        found = client.get(self.live_of(page), headers={"HX-Request": "true"}).content.decode()
        for part in parts_shown(world.project.task):
            assert f'id="dash-{part}"' in found
        assert "hx-swap-oob" not in found
        assert 'hx-trigger="every' in found

        page = client.get(url).content.decode()
        assert "are being counted" not in page
        assert 'id="dash-pipeline"' in page

    def test_without_scripts_there_is_a_page_that_waits(self, world: World, client: Client):
        client.force_login(world.owner)
        url = reverse("dashboard", args=[world.project.pk])
        assert f"?round={world.round.pk}&amp;wait=yes" in client.get(url).content.decode()

        page = client.get(url, {"wait": "yes"}).content.decode()

        assert 'id="dash-pipeline"' in page

    def test_old_numbers_are_shown_until_new_ones_are_counted(
        self, world: World, client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(keeping, "_KEPT_AT_MOST", 0)
        client.force_login(world.owner)
        url = reverse("dashboard", args=[world.project.pk])
        client.get(url, {"wait": "yes"})
        answer(world.task(3), B)

        page = client.get(url).content.decode()
        assert "Shown once people have reviewed some labels" in page
        assert 'hx-trigger="load, every' in page

        changed = client.get(self.live_of(page), headers={"HX-Request": "true"}).content.decode()
        assert 'id="dash-confusion"' in changed
        assert 'hx-swap-oob="true"' in changed
        assert 'hx-trigger="every' in changed

    def test_of_all_who_ask_one_has_it_counted(self, world: World, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(keeping, "_KEPT_AT_MOST", 0)
        asked: list[Scope] = []

        def count(scope: Scope) -> int:
            asked.append(scope)
            return len(asked) if len(asked) == 1 else 10 * part_of(scope, "pipeline")

        monkeypatch.setitem(PARTS, "pipeline", count)

        assert part_of(world.scope, "pipeline") == 1
        # Whoever asks while it is counted a second time gets the first.
        assert part_of(world.scope, "pipeline") == 10
        assert len(asked) == 2
