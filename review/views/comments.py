"""Comments that nobody resolved yet, over a project's items."""

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, permissions, project_for
from annotate.models import Comment
from annotate.requests import PageRequest, number_of
from annotate.services.comments import comment_reopen, comment_resolve
from review.commenting import comments_shown, may_read_all, open_comments, require_may_resolve

COMMENTS_A_PAGE = 50


@require_GET
def comments(request: PageRequest, project_id: int) -> HttpResponse:
    """Newest first; `?before=` the id of a comment goes on after it."""
    project = project_for(request.user, project_id, may=May.SEE)
    rows = open_comments(project)
    before = number_of(request.GET.get("before", ""))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    page = list(rows[: COMMENTS_A_PAGE + 1])
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "comments": page[:COMMENTS_A_PAGE],
        "count": open_comments(project).count(),
        "older": page[COMMENTS_A_PAGE - 1].pk if len(page) > COMMENTS_A_PAGE else None,
        "is_first": not before,
    }
    return render(request, "review/comments.html", context)


@require_POST
def comment_resolve_page(request: PageRequest, project_id: int, comment_id: int) -> HttpResponse:
    """Resolve a comment, or with `resolved=0` open it again."""
    project = project_for(request.user, project_id, may=May.ENTER)
    rows = Comment.objects.select_related("item__project", "author").filter(item__project=project)
    comment = get_object_or_404(rows, pk=comment_id)
    if not comments_shown(request.user, comment.item).filter(pk=comment.pk).exists():
        raise Http404("There is no such comment, or you may not read it yet.")
    require_may_resolve(request.user, comment)
    change = comment_reopen if request.POST.get("resolved") == "0" else comment_resolve
    change(comment=comment, user=request.user)
    if request.POST.get("back") == "comments" and permissions(request.user, project).see:
        return redirect("comments", project.pk)
    if not may_read_all(request.user, comment.item):
        return redirect("project", project.pk)
    return redirect(reverse("item", args=[project.pk, comment.item_id]) + "#comments")
