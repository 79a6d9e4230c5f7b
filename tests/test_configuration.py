"""The configuration page, docker-compose.yml and the settings name the same variables; what is imported is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("config", "mllm", "jobs", "annotate", "criticize", "review", "route")
READERS = ("config/settings.py", "jobs/management/commands/up.py")


def variables_read() -> set[str]:
    source = "".join((ROOT / path).read_text() for path in READERS)
    return set(re.findall(r"""\benv\.\w+\(\s*"([A-Z][A-Z_]+)\"""", source))


def variables_documented() -> list[str]:
    return re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_variable_that_is_read_is_documented_once_and_no_other():
    assert sorted(variables_documented()) == sorted(variables_read())


def test_the_pattern_finds_the_variables_of_the_settings():
    assert {"OVERREAD_SECRET_KEY", "DATABASE_URL", "OVERREAD_PORT"} <= variables_read()


def test_compose_hands_on_known_variables_only(compose):
    known = variables_read() | set(settings.KEY_VARIABLES)

    assert set(compose["x-overread"]["environment"]) <= known


def test_compose_hands_on_what_a_team_can_set(compose):
    # Settings for who develops, the image's own folder, a port of the host, and model files, which need `make gguf`.
    not_for_teams = {"OVERREAD_DEBUG", "OVERREAD_DATA_DIR", "OVERREAD_PORT", "OVERREAD_GGUF_MODEL_DIRS"}
    assert set(variables_documented()) - not_for_teams <= set(compose["x-overread"]["environment"])


def test_compose_has_no_default_for_a_secret_and_is_never_local(compose):
    environment = compose["x-overread"]["environment"]

    assert environment["OVERREAD_LOCAL"] == "false"
    assert environment["OVERREAD_SECRET_KEY"].startswith("${OVERREAD_SECRET_KEY:?")
    assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]
    assert compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD:?"
    )


def test_web_and_worker_share_the_uploads(compose):
    mounts = [compose["services"][name]["volumes"] for name in ("web", "worker")]

    assert mounts == [["uploads:/data/media"]] * 2


def test_lock_files_name_no_address():
    locks = sorted(ROOT.glob("requirements*.lock"))

    assert [lock.name for lock in locks] == [
        "requirements-dev.lock",
        "requirements-encoder.lock",
        "requirements-gguf.lock",
        "requirements.lock",
    ]
    assert not any("://" in lock.read_text() for lock in locks)


def test_the_development_lock_pins_what_the_other_locks_pin():
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        # A package that another one needs everywhere has no marker.
        return {line.split(" ")[0] for line in lines if "==" in line}

    others = {lock.name for lock in ROOT.glob("requirements*.lock")} - {"requirements-dev.lock"}
    assert set.union(*map(pins, others)) <= pins("requirements-dev.lock")


def test_every_extra_of_make_has_its_pins():
    extras = re.search(r"^EXTRAS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert extras is not None
    for extra in extras[1].split():
        lines = (ROOT / f"requirements-{extra}.lock").read_text().splitlines()
        assert {line.split(" ")[0] for line in lines if "==" in line} == set(declared[extra])


def test_what_the_rooms_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in ("local", "gguf", "encoder"):
        wanted += project["optional-dependencies"][extra]
    declared = {re.split(r"[^\w.-]", name, maxsplit=1)[0].lower() for name in wanted}
    homes = packages_distributions()
    undeclared = set()

    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for name in imported_by(path) - set(sys.stdlib_module_names) - set(ROOMS):
                distributions = {home.lower() for home in homes.get(name, [name])}
                if not distributions & declared:
                    undeclared.add(name)
    # Celery's own transport and processes: they have the versions that it asks for.
    assert undeclared <= {"kombu", "billiard"}


def imported_by(path: Path) -> set[str]:
    """Top names of what the file imports from outside its own package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
