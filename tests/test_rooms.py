"""Data walks one way through the rooms, and imports point back up the way: a room knows those before it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("mllm", "jobs", "annotate", "criticize", "review", "route")


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "migrations" in path.parts, f"{path} imports relatively"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def files_of(room: str) -> list[Path]:
    return [path for path in sorted((ROOT / room).rglob("*.py")) if "migrations" not in path.parts]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_before_it(room):
    later = {*ROOMS[ROOMS.index(room) + 1 :], "tests", "benchmarks", "config"}
    files = files_of(room)
    assert len(files) > 5

    wrong = {str(path.relative_to(ROOT)): imported(path) & later for path in files}

    assert {path: names for path, names in wrong.items() if names} == {}


def test_talking_to_models_knows_no_django():
    known = {path.name: imported(path) & {"django", "celery", "rest_framework"} for path in files_of("mllm")}

    assert {path: names for path, names in known.items() if names} == {}


def test_the_walk_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "late.py"
    file.write_text("def f():\n    import review.models\n    from annotate import access\n")

    assert imported(file) == {"review", "annotate"}
