"""What managers do about a round's reviewers: how they work, pausing them, and what they were to answer."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from annotate.access import May, project_for
from annotate.errors import Refusal
from annotate.models import User
from annotate.requests import PageRequest
from review.forms import WorkForm
from review.models import ReviewRound
from review.services.assignment import tasks_hand_back
from review.services.pauses import pause, pause_lift, pause_of
from review.services.setups import round_setup_change
from review.setup import RoundSetup
from review.views.rounds import round_of, round_page


@require_POST
def round_setup(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    """Change what reviewers see and the known items of an open round."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    round = round_of(project, round_id)
    form = WorkForm(request.POST, project=project, blind=round.is_blind)
    if form.is_valid():
        try:
            setup = form.changed(RoundSetup.of(round))
            round_setup_change(round=round, user=request.user, setup=setup)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The settings hold for what waits to be answered.")
            return redirect("review_round", project.pk, round.pk)
    return round_page(request, round, more={"work_form": form, "is_changing": True})


@require_POST
def round_reviewer(
    request: PageRequest, project_id: int, round_id: int, user_id: int, action: str
) -> HttpResponse:
    """Pause a person in the round, lift the pause, or open to all what they were to answer."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    round = round_of(project, round_id)
    person = get_object_or_404(User, pk=user_id, memberships__project=project)
    try:
        messages.success(request, _done(round, person, request.user, action))
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    return redirect("review_round", project.pk, round.pk)


def _done(round: ReviewRound, person: User, by: User, action: str) -> str:
    """Do it, and say so. Raises Refusal."""
    if action == "pause":
        pause(round=round, user=person, by=by)
        return f"{person} is handed nothing more of this round until you lift the pause."
    if action == "lift":
        paused = pause_of(round, person)
        if paused is None:
            raise Refusal(f"{person} is not paused in this round.")
        pause_lift(pause=paused, by=by)
        return f"{person} can go on. Known items are counted anew."
    if action == "hand-back":
        count = tasks_hand_back(project=round.project, user=person, by=by, round=round)
        return f"{count:,} items of {person} are open to all again."
    raise Http404("There is no such action.")
