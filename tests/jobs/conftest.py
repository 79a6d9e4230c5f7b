import pytest

from jobs import work
from tests.jobs.counting_work import CountingWork


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> CountingWork:
    """The counting work, registered for the test."""
    registered = CountingWork()
    monkeypatch.setitem(work._kinds, "counting", registered)
    return registered
