"""The registry of what jobs can do. Each room registers its kinds of work when Django starts."""

from abc import ABC, abstractmethod

from jobs.leases import Lease
from jobs.models import Job


class CannotGoOn(Exception):
    """The whole job must stop: `pause` it (the user can mend the cause and resume) or fail it."""

    def __init__(self, reason: str, *, failure: str = "", pause: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.failure = failure
        self.pause = pause


class Work(ABC):
    """One kind of job."""

    kind: str

    @abstractmethod
    def run(self, lease: Lease) -> bool:
        """Work on the leased chunk; True when all of it is written, False when it stopped early."""

    def finished(self, job: Job) -> None:  # noqa: B027 (most kinds have nothing to do)
        """Called once, in the transaction that marks the job done."""


_kinds: dict[str, Work] = {}


def register(work: Work) -> None:
    _kinds[work.kind] = work


def work_of(kind: str) -> Work:
    return _kinds[kind]
