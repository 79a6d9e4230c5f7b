"""The list of projects, and a project's overview: where it stands and what to do next."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.cache import cache
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, Permissions, connections_of, permissions, project_for, projects_of
from annotate.models import AnnotationRun, Project, User
from annotate.requests import PageRequest, number_of
from annotate.selectors import Accuracy, machine_accuracy, machine_f1
from criticize.models import CriticismRun
from criticize.selectors import Quality, criticism_quality
from review import keeping
from review.blindness import names_for_reviewers
from review.certification import certification
from review.figures import figures_of, latest_answers, own_known, reviews_by_day, today
from review.models import Export, ReviewRound
from review.own_work import kept_for, left_by_project, own_rounds
from review.services.assignment import tasks_hand_back
from review.standing import Standing, counts_of_rounds, standing_of, standings

_LISTED = 5
_LATEST = 20
_QUALITY_KEPT = 600  # seconds


@dataclass(frozen=True)
class Goodness:
    """What gold says about the chain of runs; each part None while there is nothing to say. `f1` of spans alone."""

    accuracy: Accuracy | None
    quality: Quality | None
    budget_share: float | None
    found_at_budget: float | None
    f1: float | None = None


@require_GET
def projects(request: PageRequest) -> HttpResponse:
    mine = list(projects_of(request.user))
    roles = dict(request.user.memberships.values_list("project_id", "role"))
    can = {project_id: Permissions(role) for project_id, role in roles.items()}
    left = left_by_project([each for each in mine if not can[each.pk].see], request.user)
    context = {
        "rows": [
            (standing, can[standing.project.pk], left.get(standing.project.pk, 0))
            for standing in standings(mine)
        ],
        "may_connect": any(each.manage for each in can.values())
        and not connections_of(request.user).exists(),
    }
    return render(request, "projects/list.html", context)


@require_GET
def project(request: PageRequest, project_id: int) -> HttpResponse:
    """The overview; asked by htmx, its live part alone, or the rest of it, which a large project's page leaves out."""
    row = project_for(request.user, project_id)
    can = permissions(request.user, row)
    if not can.see:
        return _reviewers_overview(request, row)
    standing = standing_of(row)
    context: dict[str, Any] = {
        "project": row,
        "can": can,
        "open_rounds": _open_rounds(row),
        "standing": standing,
        "next": standing.next,
        "is_live": standing.is_live,
        "may_try_candidates": can.manage and _may_try_candidates(request, standing),
    }
    wants_rest = request.GET.get("part") == "rest"
    if request.htmx and not wants_rest:
        return render(request, "review/overview_state.html", context)
    context["is_counted"] = wants_rest or "wait" in request.GET or not _is_large(standing)
    if context["is_counted"]:
        context |= _owner_context(request, standing) | _certificate_context(row)
        if can.review:
            context["kept"] = kept_for(row, request.user)
            context["own"] = own_figures(row, request.user)
    template = "review/overview_rest.html" if request.htmx else "review/overview.html"
    return render(request, template, context)


def _is_large(standing: Standing) -> bool:
    """Whether the page comes first and what takes long to count after it."""
    return standing.items >= keeping.LARGE


def _reviewers_overview(request: PageRequest, row: Project) -> HttpResponse:
    """What reviewers see: what is left for them, and their own figures. Nothing about others or the machine."""
    rounds = own_rounds(row, request.user)
    latest = latest_answers(row, request.user, _LATEST)
    names = names_for_reviewers(row, [answer.task.item for answer in latest])
    context = {
        "project": row,
        "own_rounds": rounds,
        "kept": kept_for(row, request.user),
        "go_on": next((each for each in rounds if each.left and each.pause is None), None),
        "own": own_figures(row, request.user),
        "latest": [(answer, names[answer.task.item_id]) for answer in latest],
    }
    return render(request, "review/overview_reviewer.html", context)


@require_POST
def hand_back(request: PageRequest, project_id: int) -> HttpResponse:
    """Open to all what the signed-in person looks at or was to answer, in one round where the form names it."""
    row = project_for(request.user, project_id, may=May.REVIEW)
    named = request.POST.get("round", "")
    round = None
    if named:
        round = get_object_or_404(row.review_rounds, pk=number_of(named) or 0)
    count = tasks_hand_back(project=row, user=request.user, by=request.user, round=round)
    what = "1 item is" if count == 1 else f"{count:,} items are"
    messages.success(request, f"{what} open to all again." if count else "There was nothing to hand back.")
    return redirect("project", row.pk)


def own_figures(row: Project, user: User) -> dict[str, Any]:
    """What the card of somebody's own figures shows."""
    days = reviews_by_day(row, user)
    return {
        "today": figures_of(row, user, since=today()),
        "total": figures_of(row, user),
        "known": own_known(row, user),
        "days": days,
        "counts": [count for _, count in days],
    }


def _may_try_candidates(request: PageRequest, standing: Standing) -> bool:
    """Whether models can be compared on the calibration items before one of them annotates everything."""
    is_calibrated = standing.calibration > 0 and not standing.calibration_counts.left
    return is_calibrated and standing.annotation is None and connections_of(request.user).exists()


def _open_rounds(row: Project) -> list[Any]:
    rounds = list(row.review_rounds.filter(state=ReviewRound.State.OPEN).order_by("-kind", "-pk"))
    counts = counts_of_rounds(rounds)
    return [(round, counts[round.pk]) for round in rounds]


def _certificate_context(row: Project) -> dict[str, Any]:
    """The newest review round's certificate, or what is missing for one."""
    round = row.review_rounds.filter(kind=ReviewRound.Kind.REVIEW).order_by("-pk").first()
    if round is None:
        return {}
    return {"certified_round": round, "certification": certification(round)}


def _owner_context(request: PageRequest, standing: Standing) -> dict[str, Any]:
    row = standing.project
    # Candidates have a page of their own; here is what became, or may become, the project's labels.
    annotations = row.annotation_runs.filter(scope=AnnotationRun.Scope.PROJECT)
    criticisms = CriticismRun.objects.filter(annotation_run__in=annotations)
    return {
        "has_connection": connections_of(request.user).exists(),
        "labels": row.labels.all(),
        "goodness": goodness_of(standing),
        "annotation_runs": annotations.select_related("job")[:_LISTED],
        "criticism_runs": criticisms.select_related("job", "annotation_run")[:_LISTED],
        "rounds": row.review_rounds.filter(kind=ReviewRound.Kind.REVIEW)[:_LISTED],
        "exports": Export.objects.filter(project=row).select_related("job", "round")[:_LISTED],
    }


def goodness_of(standing: Standing) -> Goodness | None:
    """Accuracy, AQG and ABS of the runs that are finished; None without gold labels or finished runs."""
    annotation, criticism, round = standing.annotation, standing.criticism, standing.round
    if annotation is None or not annotation.job.is_finished:
        return None
    quality = _quality(criticism) if criticism is not None and criticism.job.is_finished else None
    # Both read every annotation, so that one of them is enough.
    accuracy = _accuracy(annotation) if quality is None else Accuracy(quality.right, quality.items)
    if not accuracy.judged:
        return None
    share = round.budget / round.population if round is not None and round.population else None
    found = None
    if quality is not None and quality.abs is not None and share is not None:
        found = min(quality.curve, key=lambda point: abs(point[0] - share))[1]
    f1 = machine_f1(annotation) if standing.project.task.is_span else None
    return Goodness(accuracy, quality, share, found, f1)


def _accuracy(run: AnnotationRun) -> Accuracy:
    """Kept for some minutes: it reads every annotation, and a finished run's change only with a retry."""
    key = f"accuracy-{run.pk}-{run.job.done}-{run.job.failed}"
    kept: Accuracy | None = cache.get(key)
    if kept is None:
        kept = machine_accuracy(run)
        cache.set(key, kept, _QUALITY_KEPT)
    return kept


def _quality(run: CriticismRun) -> Quality:
    key = f"quality-{run.pk}-{run.job.done}-{run.job.failed}"
    kept: Quality | None = cache.get(key)
    if kept is None:
        kept = criticism_quality(run)
        cache.set(key, kept, _QUALITY_KEPT)
    return kept
