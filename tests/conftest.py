"""What every test with a database runs on: no broker (sent wake-ups are listed), nothing remembered between tests."""

import sys
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import override_settings

from jobs import calling, health, liveness
from mllm import registry, retry
from mllm.adapters.scripted import Script, ScriptedAdapter
from tests.mllm.wire import Wire

Provider = Callable[..., ScriptedAdapter]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a database or a broker of another kind can change: CI runs that once more, on PostgreSQL and Redis."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.get_closest_marker("django_db") or "django_db_setup" in fixtures or "db" in fixtures:
            item.add_marker("stored")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite in a file, as in production: threads that share a database in memory do not wait for its locks."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(settings.DATA_DIR / "tests.sqlite3")


@pytest.fixture(scope="session", autouse=True)
def _static_files_by_their_own_names() -> Iterator[None]:
    """Pages are tested without collecting static files, whose hashed names would otherwise have to be known."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}):
        yield


@pytest.fixture(autouse=True)
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ids of the jobs that workers were told of."""
    from jobs.tasks import run_chunk

    sent: list[int] = []
    monkeypatch.setattr(run_chunk, "delay", sent.append)
    return sent


@pytest.fixture(autouse=True)
def _broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as pages can see: no test but that of the check itself is about a broker that is gone."""
    monkeypatch.setattr(health, "_look_for_broker", lambda: "")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Processes keep signs of life and what they cached by id or name, and each test's ids begin at 1 again."""
    liveness._last_beat = 0.0
    cache.clear()
    for module, name in (
        ("annotate.training", "annotator_of"),
        ("annotate.example_pool", "example_pool"),
        ("criticize.training", "fitted_criticizer"),
    ):
        if module in sys.modules:
            getattr(sys.modules[module], name).cache_clear()
    yield
    if calling._thread is not None:
        calling._thread.run(calling._thread.close())


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Call it with a script (and `latency`): then every model call is answered from it, once, without retries."""

    def answer(script: Script, *, latency: float = 0.0) -> ScriptedAdapter:
        adapter = ScriptedAdapter(script, latency=latency)
        monkeypatch.setattr(registry, "build", lambda connection: adapter)
        calling.loop_thread().adapters.clear()
        return adapter

    monkeypatch.setattr(retry, "DEFAULT_POLICY", retry.NO_RETRY)
    return answer


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A fake of a provider: real HTTP on loopback."""
    with Wire() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that is as slow as it should be would be most of the suite's time."""
    monkeypatch.setattr(settings, "PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])
