"""The work that trains a router."""

from datetime import timedelta

from django.utils import timezone

from annotate.errors import Refusal
from annotate.full_disk import pausing_on_full_disk
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work

_LOOK_AGAIN = timedelta(seconds=2)


class _Between:
    """Keeps the lease, and the job's counters at the fits that are done: one more is that it is kept."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._said = (0, 0)

    def __call__(self, done: int = 0, total: int = 0) -> None:
        self._lease.renew_if_due()
        if total and self._said != (done, total):
            self._said = done, total
            self._lease.write(self._count)

    def _count(self) -> Progress:
        done, total = self._said
        Job.objects.filter(pk=self._lease.job.pk).update(done=done, total=total + 1)
        return Progress()


class RouterTraining(Work):
    kind = "router_training"

    def run(self, lease: Lease) -> bool:
        with pausing_on_full_disk():
            return self._train(lease)

    def _train(self, lease: Lease) -> bool:
        # scikit-learn takes a second to import: only a process that needs it pays.
        from route.router_vectors import VectorsMissing
        from route.training import keep, train

        router = lease.job.router
        if router.is_trained:
            return True
        try:
            trained, scores = train(router, _Between(lease))
        except VectorsMissing:
            lease.release(until=timezone.now() + _LOOK_AGAIN)
            return False
        except (ValueError, Refusal) as error:
            raise CannotGoOn(str(error), failure="bad_request", pause=False) from error
        if not lease.may_go_on():
            return False
        lease.write(lambda: keep(router, trained, scores))
        return True
