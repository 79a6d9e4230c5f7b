"""The grid: what each cell is measured on, what it says where there is nothing to measure, and starting its runs."""

from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Connection, Project
from annotate.services.runs import TRAINED, ModelChoice
from criticize.candidate_services import grid_plan, grid_start
from criticize.candidates import board_of, recommendation_of
from criticize.grid import CDI, COMBINED, CONFIDENCE, CRITICISM, Cell, Grid, grid_of
from criticize.metrics import area_under_budget_sensitivity
from criticize.models import CriticismRun
from jobs.models import Job
from jobs.running import run_to_end
from tests.conftest import Provider
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_criticism_run,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db

CALIBRATION = AnnotationRun.Scope.CALIBRATION


@pytest.fixture
def project() -> Project:
    """Twenty calibration items, all positive in truth."""
    project = make_project()
    for item in make_items(project, 20):
        make_calibration_label(item, "positive")
    return project


def try_out(project: Project, errors: int, *, failed: int = 0, **fields: Any) -> AnnotationRun:
    """A candidate that gets the first `errors` items wrong, the last `failed` of them by giving no label."""
    items = project.items.filter(calibration_label__isnull=False).order_by("pk")
    answers = {
        item: "" if errors - failed <= number < errors else "negative" if number < errors else "positive"
        for number, item in enumerate(items)
    }
    return make_annotation_run(project, answers, scope=CALIBRATION, **fields)


def be_sure(run: AnnotationRun, confidences: Any) -> None:
    for annotation, confidence in zip(run.annotations.order_by("item_id"), confidences, strict=True):
        annotation.confidence = confidence
        annotation.save()


def model(project: Project, **fields: Any) -> ModelChoice:
    found = Connection.objects.filter(owner=project.created_by).first() or make_connection(project.created_by)
    options = {"model": "other", "strategy": "naive", "answer_format": "bracket", **fields}
    return ModelChoice(kind="prompted", connection=found, **options)


def only_cell(grid: Grid, kind: str = CRITICISM) -> Cell:
    (row,) = [row for row in grid.rows if row.kind == kind]
    (cell,) = row.cells
    assert cell is not None
    return cell


def test_without_labels_or_finished_candidates_the_grid_is_empty(project: Project) -> None:
    for grid in (grid_of(make_project()), grid_of(project)):
        assert (grid.columns, grid.rows, grid.best(), grid.pairs()) == ([], [], [], [])
    try_out(project, 5, state=Job.State.RUNNING)
    assert grid_of(project).columns == []


def test_a_cell_is_abs_on_the_calibration_labels_with_its_interval(project: Project) -> None:
    run = try_out(project, 5)
    error_probs = list(np.linspace(0.9, 0.1, 20))
    make_criticism_run(run, error_probs)

    grid = grid_of(project)
    cell = only_cell(grid)

    expected = area_under_budget_sensitivity(error_probs, [True] * 5 + [False] * 15)
    assert cell.abs == pytest.approx(expected)
    assert cell.low is not None
    assert cell.high is not None
    assert expected is not None
    assert cell.low <= expected <= cell.high
    assert (cell.items, cell.of, cell.errors, cell.failed_share) == (20, 20, 5, 0.0)
    assert (grid.columns[0].errors, grid.columns[0].items) == (5, 20)
    assert grid.has_few_errors
    assert grid_of(project).cells == grid.cells  # the bootstrap repeats itself


def test_labels_of_today_say_what_an_error_is(project: Project) -> None:
    run = try_out(project, 1)
    make_criticism_run(run, list(np.linspace(0.9, 0.1, 20)))
    last = project.items.order_by("pk").last()
    assert last is not None
    last.calibration_label.label = label_named(project, "negative")
    last.calibration_label.save()
    first = project.items.order_by("pk").first()
    assert first is not None
    first.calibration_label.delete()

    cell = only_cell(grid_of(project))

    assert (cell.items, cell.errors) == (19, 1)
    assert cell.abs == pytest.approx(1 / 19)


def test_an_annotator_without_errors_has_none_to_find(project: Project) -> None:
    run = try_out(project, 0)
    be_sure(run, [0.9] * 20)
    make_criticism_run(run)

    grid = grid_of(project)

    assert {row.kind for row in grid.rows} == {CRITICISM, COMBINED, CONFIDENCE, CDI}
    for cell in grid.cells:
        assert (cell.abs, cell.low, cell.errors, cell.problem) == (None, None, 0, "")
    assert grid.series([cell.id for cell in grid.cells]) == []
    assert grid.pairs() == []


def test_failures_of_either_come_first_as_in_a_draw(project: Project) -> None:
    run = try_out(project, 4, failed=2)
    error_probs: list[float | None] = [0.5] * 17 + [None]
    make_criticism_run(run, error_probs)

    cell = only_cell(grid_of(project))

    # Three share the first place, two of them errors; fifteen and two errors share the rest.
    priority = [0.5, 0.5, 1.0, 1.0] + [0.5] * 15 + [1.0]
    assert cell.abs == pytest.approx(area_under_budget_sensitivity(priority, [True] * 4 + [False] * 16))
    assert cell.failed_share == pytest.approx(1 / 18)


def test_failures_come_first_where_there_is_only_an_order_too(project: Project) -> None:
    criticism = make_criticism_run(try_out(project, 1), strategy="mc")
    first, *others = criticism.criticisms.order_by("annotation__item_id")
    first.error_prob, first.priority, first.failure = None, None, "timed_out"
    first.save()
    for row in others:
        row.error_prob, row.priority = None, 4.0
        row.save()

    cell = only_cell(grid_of(project))

    assert cell.abs == pytest.approx(1.0)  # the one error is reviewed first, at every budget above 0
    assert cell.failed_share == pytest.approx(1 / 20)


def test_what_was_not_asked_yet_is_left_out_of_a_cell(project: Project) -> None:
    run = try_out(project, 5)
    criticism = make_criticism_run(run)
    criticism.criticisms.filter(annotation__in=run.annotations.order_by("-item_id")[:8]).delete()

    cell = only_cell(grid_of(project))

    assert (cell.items, cell.of, cell.errors) == (12, 20, 5)


def test_an_unfinished_or_unanswered_criticism_has_no_figure(project: Project) -> None:
    run = try_out(project, 5)
    running = make_criticism_run(run, state=Job.State.RUNNING, model="a")
    empty = make_criticism_run(run, state=Job.State.CANCELLED, model="b")
    empty.criticisms.all().delete()

    grid = grid_of(project)

    by_run = {cell.run: cell for cell in grid.cells}
    assert grid.is_running
    assert by_run[running].abs is None
    assert by_run[running].problem == ""
    assert by_run[empty].problem == "It gave no answer."
    assert grid.arrays == {}


def test_rows_are_criticizers_and_columns_annotators_whichever_pairs_exist(project: Project) -> None:
    first, second = try_out(project, 5, model="first"), try_out(project, 6, model="second")
    make_criticism_run(first, model="first")
    make_criticism_run(second, model="first")
    make_criticism_run(second, model="only here", strategy="naive")

    grid = grid_of(project)

    assert [column.run for column in grid.columns] == [first, second]
    assert [row.name for row in grid.rows] == ["first · cot", "only here · naive"]
    assert [[cell is not None for cell in row.cells] for row in grid.rows] == [[True, True], [False, True]]
    own = [cell.is_self_criticism for cell in grid.cells]
    assert own == [True, False, False]


def test_confidence_cdi_and_both_together_are_rows_of_their_own(project: Project) -> None:
    for item in make_items(project, 180):
        make_calibration_label(item, "positive")
    run = try_out(project, 60)
    rng = np.random.default_rng(0)
    is_error = np.arange(200) < 60
    be_sure(run, np.clip(0.75 - 0.25 * is_error + rng.normal(0, 0.15, 200), 0, 1))
    make_criticism_run(run, list(np.clip(0.4 + 0.2 * is_error + rng.normal(0, 0.2, 200), 0, 1)))

    grid = grid_of(project)

    areas = {kind: only_cell(grid, kind).abs or 0.0 for kind in (CRITICISM, COMBINED, CONFIDENCE, CDI)}
    confidence = np.array(run.annotations.order_by("item_id").values_list("confidence", flat=True))
    assert areas[CONFIDENCE] == pytest.approx(area_under_budget_sensitivity(1 - confidence, is_error))
    assert all(area > 0.6 for area in areas.values())
    assert areas[COMBINED] > max(areas[CRITICISM], areas[CONFIDENCE])
    assert len({only_cell(grid, kind).id for kind in areas}) == 4


def test_out_of_fold_rows_say_why_they_have_no_figure(project: Project) -> None:
    run = try_out(project, 1)
    be_sure(run, [0.5] * 20)
    make_criticism_run(run)

    grid = grid_of(project)

    for kind in (COMBINED, CDI):
        assert "At least two wrong and two right" in only_cell(grid, kind).problem
    assert only_cell(grid, CONFIDENCE).abs == pytest.approx(21 / 40)


def test_a_criticizer_that_only_ranks_can_be_combined(project: Project) -> None:
    run = try_out(project, 6)
    be_sure(run, np.linspace(0.3, 0.9, 20))
    criticism = make_criticism_run(run, strategy="mc")
    for number, row in enumerate(criticism.criticisms.order_by("annotation__item_id")):
        row.error_prob, row.priority = None, 5.0 - number // 4
        row.save()

    grid = grid_of(project)

    assert only_cell(grid).abs == pytest.approx(
        area_under_budget_sensitivity([5 - number // 4 for number in range(20)], [True] * 6 + [False] * 14)
    )
    assert only_cell(grid, COMBINED).abs is not None


def test_series_are_the_curves_of_the_chosen_cells(project: Project) -> None:
    run = try_out(project, 5)
    good = make_criticism_run(run, model="good")
    bad = make_criticism_run(run, list(np.linspace(0.1, 0.9, 20)), model="bad")

    grid = grid_of(project)
    ids = {cell.run: cell.id for cell in grid.cells}

    assert grid.best() == [ids[good]]
    (series,) = grid.series([ids[good], "criticism-999", "nonsense"])
    assert series.points[0] == (0.0, 0.0)
    assert series.points[5] == (0.25, 1.0)
    assert series.error_share == 0.25
    assert series.name == "good · cot on small · cot"
    assert [each.id for each in grid.series([ids[bad], ids[good]])] == [ids[good], ids[bad]]


def test_the_recommendation_hears_of_the_grid(project: Project) -> None:
    best = try_out(project, 2, model="best")
    try_out(project, 6, model="next")
    make_criticism_run(best, model="next")
    make_criticism_run(best, list(np.linspace(0.1, 0.9, 20)), model="best")

    advice = recommendation_of(board_of(project), grid_of(project).pairs())

    assert advice is not None
    assert advice.annotator.model_name == "best"
    assert advice.criticizer is not None
    assert advice.criticizer.model_name == "next"
    assert "The grid agrees" in advice.grid


def test_a_larger_grid_takes_no_more_queries(project: Project) -> None:
    make_criticism_run(try_out(project, 5, model="a"))
    with CaptureQueriesContext(connection) as few:
        grid_of(project)
    for name in "bcd":
        run = try_out(project, 4, model=name)
        make_criticism_run(run)
        make_criticism_run(run, model="third")

    with CaptureQueriesContext(connection) as many:
        grid_of(project)

    assert len(many) == len(few)


# --- Starting --------------------------------------------------------------------------------------------------------


def start(project: Project, runs: list[AnnotationRun], *choices: ModelChoice, **fields: Any) -> Any:
    return grid_start(annotation_runs=runs, user=project.created_by, choices=choices, **fields)


def test_every_cell_becomes_a_criticism_run(project: Project, provider: Provider) -> None:
    provider(lambda request: "[0.250]")
    runs = [try_out(project, 5, model="a"), try_out(project, 6, model="b")]

    plan = grid_plan(annotation_runs=runs, choices=[model(project), model(project, strategy="cot")])
    started = start(project, runs, model(project), model(project, strategy="cot"))
    for run in started.created:
        run_to_end(run.job_id)

    assert (len(plan.to_ask), plan.calls) == (4, 80)
    assert len(started.created) == 4
    grid = grid_of(project)
    assert [row.name for row in grid.rows] == ["other · naive", "other · cot"]
    assert grid.rows[0].cells[0] is not None
    assert grid.rows[0].cells[0].abs == pytest.approx(21 / 40)  # all alike: a random order


def test_measured_cells_are_not_asked_again_but_for_new_labels(project: Project, provider: Provider) -> None:
    asked = provider(lambda request: "[0.250]").requests
    run = try_out(project, 5)
    (criticism,) = start(project, [run], model(project)).created
    run_to_end(criticism.job_id)
    again = start(project, [run], model(project))
    (item,) = make_items(project, 1)
    make_calibration_label(item, "positive")
    run.annotations.create(item=item, label=label_named(project, "positive"))

    extended = start(project, [run], model(project)).extended
    run_to_end(criticism.job_id)

    assert (again.created, again.extended, len(again.tried)) == ([], [], 1)
    assert extended == [criticism]
    assert len(asked) == 21
    assert CriticismRun.objects.get().job.total == 21


def test_what_a_cell_cannot_do_is_left_out_with_a_sentence(project: Project, provider: Provider) -> None:
    provider(lambda request: "[0.250]")
    reasoning, silent = try_out(project, 5, model="a"), try_out(project, 5, model="b", strategy="naive")
    silent.annotations.update(reasoning="")

    started = start(project, [reasoning, silent], model(project, strategy="devil"))

    assert [run.annotation_run for run in started.created] == [reasoning]
    (left_out,) = started.refused
    assert left_out.name == "other · devil on b · naive"
    assert "reasoning" in left_out.problem


def test_nobody_to_criticize_is_refused(project: Project) -> None:
    with pytest.raises(Refusal, match="at least one finished annotator"):
        start(project, [], model(project))
    with pytest.raises(Refusal, match="not finished yet"):
        start(project, [try_out(project, 5, state=Job.State.RUNNING)], model(project))
    with pytest.raises(Refusal, match="no labels that could be criticized"):
        start(project, [try_out(project, 20, failed=20, model="c")], model(project))
    assert not CriticismRun.objects.exists()


def test_the_trained_criticizer_judges_candidates_too(project: Project) -> None:
    for item in make_items(project, 20):
        make_calibration_label(item, "negative")
    run = try_out(project, 30)

    (criticism,) = start(project, [run], TRAINED).created
    run_to_end(criticism.job_id)

    cell = only_cell(grid_of(project))
    assert cell.items == 40
    assert cell.abs is not None
