"""Routers that share what is bought for them, changed at the same moment: on PostgreSQL, where both get to write."""

import pytest
from django.db import transaction

from annotate import vectors
from annotate.errors import Refusal
from annotate.models import Project
from annotate.vectors import ensure_vectors
from jobs.models import Job
from route.models import ComparisonSet, Router
from route.router_vectors import vector_choice
from route.services.comparison_sets import UploadedChoice, comparison_set_discard, uploaded_router_create
from route.services.routers import router_cancel
from tests.route.test_router_vectors import paused, project, user
from tests.route.uploaded import make_comparisons
from tests.waiting import Meanwhile, needs_row_locks

__all__ = ["paused", "project", "user"]  # fixtures

pytestmark = [pytest.mark.django_db(transaction=True), needs_row_locks]


def test_embeddings_asked_for_while_who_waited_for_them_is_cancelled(
    project: Project, paused: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelling: list[Meanwhile[None]] = []
    ids_of = vectors._ids

    def ids_while_it_is_cancelled(project: Project, item_ids: object) -> list[int]:
        cancelling.append(Meanwhile(lambda: router_cancel(router=paused, user=project.created_by)))
        return ids_of(project, None)

    monkeypatch.setattr(vectors, "_ids", ids_while_it_is_cancelled)
    version = ensure_vectors(project, vector_choice(paused), user=project.created_by)

    cancelling[0].end()
    version.job.refresh_from_db()
    paused.job.refresh_from_db()
    assert (version.job.state, paused.job.state) == (Job.State.QUEUED, Job.State.CANCELLED)


def train_from(comparisons: ComparisonSet) -> Router:
    user = comparisons.created_by
    return uploaded_router_create(comparisons=comparisons, user=user, choice=UploadedChoice())


class TestComparisons:
    @pytest.fixture
    def comparisons(self) -> ComparisonSet:
        return make_comparisons()

    def test_thrown_away_twice_they_are_gone(self, comparisons: ComparisonSet) -> None:
        user = comparisons.created_by
        again = ComparisonSet.objects.get(pk=comparisons.pk)

        with transaction.atomic():
            comparison_set_discard(comparisons=comparisons, user=user)
            other = Meanwhile(lambda: comparison_set_discard(comparisons=again, user=user))
        other.end()

        assert not ComparisonSet.objects.exists()

    def test_thrown_away_while_a_router_is_to_learn_from_them_they_are_refused(
        self, comparisons: ComparisonSet
    ) -> None:
        again = ComparisonSet.objects.get(pk=comparisons.pk)

        with transaction.atomic():
            comparison_set_discard(comparisons=comparisons, user=comparisons.created_by)
            other = Meanwhile(lambda: train_from(again))

        with pytest.raises(Refusal, match="thrown away"):
            other.end()

    def test_a_router_that_is_to_learn_from_them_keeps_them(self, comparisons: ComparisonSet) -> None:
        with transaction.atomic():
            train_from(comparisons)
            again = ComparisonSet.objects.get(pk=comparisons.pk)
            user = comparisons.created_by
            other = Meanwhile(lambda: comparison_set_discard(comparisons=again, user=user))

        with pytest.raises(Refusal, match="A router learned from these comparisons"):
            other.end()
