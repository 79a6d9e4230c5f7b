"""How far a project's reviewers agree, with each other and with the machine."""

from collections.abc import Iterable
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.csv_response import csv_response
from annotate.models import Item, Project
from annotate.requests import PageRequest
from review.agreeing import Apart, MachineAgreement, Seen
from review.agreement import PairAgreement
from review.agreement_report import AgreementReport, agreement_report, rounds_with_answers
from review.display_arms import display_arms, display_context, display_table
from review.models import ReviewRound

_SEEN = {
    Seen.ALL: "Everybody",
    Seen.SHOWN: "Those who saw the machine's {thing}",
    Seen.BLIND: "Those who did not",
}


@require_GET
def agreement(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    rounds = rounds_with_answers(project)
    report = _report(request, project, rounds)
    query = urlencode({"round": report.round.pk if report.round else "", "seen": report.seen})
    pair = _pair(request, report)
    of_machine = _of_machine(request, report)
    thing = "answer" if project.task.is_written else "label"
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "report": report,
        "rounds": rounds,
        "thing": thing,
        "seen_choices": [(seen, words.format(thing=thing)) for seen, words in _SEEN.items()],
        "pair": pair,
        "pair_choices": [
            (f"{each.first}-{each.second}", report.pair_name(each), each is pair)
            for each in report.shared.pairs
        ],
        "pair_names": [report.shared.reviewers[place].name for place in (pair.first, pair.second)]
        if pair
        else [],
        "no_urls": {},  # of the cells of matrices
        "of_machine": of_machine,
        "items": _items([*report.shared.apart, *(of_machine.apart if of_machine else [])]),
        "csv_urls": {
            name: f"{reverse('agreement_csv', args=[project.pk, name])}?{query}"
            for name in (*report.tables, "display")
        },
        **(display_context(project, report.round)),
    }
    return render(request, "review/agreement.html", context)


@require_GET
def agreement_csv(request: PageRequest, project_id: int, table: str) -> StreamingHttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    report = _report(request, project, rounds_with_answers(project))
    if table == "display":
        numbers = display_table(display_arms(project, report.round))
    elif table in report.tables:
        numbers = report.tables[table]
    else:
        raise Http404("There is no such table.")
    part = f"-round-{report.round.pk}" if report.round else ""
    return csv_response(f"overread-{project.pk}{part}-agreement-{table}.csv", numbers.columns, numbers.rows)


def _items(given: Iterable[Apart]) -> dict[int, Item]:
    """The items of these answers by id."""
    return Item.objects.in_bulk({each.item_id for each in given})


def _report(request: PageRequest, project: Project, rounds: list[ReviewRound]) -> AgreementReport:
    """Of what the address asks for; a round that is not there, or a choice that is none, counts as not made."""
    asked = request.GET.get("round", "")
    round = next((round for round in rounds if str(round.pk) == asked), None)
    seen = request.GET.get("seen", "")
    return agreement_report(project, round, seen if seen in list(Seen) else Seen.ALL)


def _pair(request: PageRequest, report: AgreementReport) -> PairAgreement | None:
    """The two reviewers whose confusion is shown: those asked for, or those with most items."""
    asked = request.GET.get("pair", "")
    pairs = report.shared.pairs
    return next(
        (pair for pair in pairs if f"{pair.first}-{pair.second}" == asked), pairs[0] if pairs else None
    )


def _of_machine(request: PageRequest, report: AgreementReport) -> MachineAgreement | None:
    """Whose answers are laid beside the machine's: the reviewer asked for, or all."""
    asked = request.GET.get("reviewer", "")
    found = (each for each in report.machine if each.reviewer and str(each.reviewer.id) == asked)
    return next(found, report.machine[0] if report.machine else None)
