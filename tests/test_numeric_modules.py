"""Numeric modules, prompts and parsers know no Django, queue, network, clock or files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODULES = [
    "annotate/extracted.py",
    "annotate/features.py",
    "annotate/nearest.py",
    "annotate/parsing.py",
    "annotate/prompts.py",
    "annotate/spans.py",
    "annotate/task_types.py",
    "annotate/trained.py",
    "annotate/vectors_plain.py",
    "annotate/voting.py",
    "annotate/written.py",
    "criticize/cdi.py",
    "criticize/combination.py",
    "criticize/fact_checking.py",
    "criticize/facts.py",
    "criticize/features.py",
    "criticize/leaderboard.py",
    "criticize/logprobs.py",
    "criticize/metrics.py",
    "criticize/parsing.py",
    "criticize/prompts.py",
    "criticize/quality.py",
    "criticize/recommendation.py",
    "criticize/span_prompts.py",
    "criticize/strategies.py",
    "criticize/trained.py",
    "review/acceptance.py",
    "review/advice.py",
    "review/agreement.py",
    "review/certificate.py",
    "review/sampling.py",
    "review/weights.py",
    "route/deferral.py",
    "route/deferral_baselines.py",
    "route/meta.py",
    "route/meta_allocation.py",
    "route/meta_baselines.py",
    "route/meta_metrics.py",
    "route/meta_several.py",
    "route/meta_sharing.py",
    "route/replay.py",
    "route/retrieval.py",
    "route/risk.py",
    "route/router_prompts.py",
    "route/splits.py",
    "route/trace.py",
    "route/trace_baselines.py",
    "route/training_data.py",
]

# What they may use: pure parts of the standard library, arrays, and each other. Everything else is forbidden.
ALLOWED_PACKAGES = {
    "collections",
    "dataclasses",
    "decimal",
    "hashlib",
    "itertools",
    "json",
    "math",
    "numbers",
    "re",
    "threading",
    "types",
    "typing",
    "unicodedata",
    "warnings",
} | {
    "numpy",
    "PIL",
    "scipy",
    "sklearn",
    "threadpoolctl",
}
ALLOWED_MODULES = {path.removesuffix(".py").replace("/", ".") for path in MODULES} | {
    "annotate.array_files",
    "mllm.messages",
}

ROOMS = ["annotate", "criticize", "review", "route"]


def imported(path: str) -> set[str]:
    """Full names of the modules that the file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", MODULES)
def test_only_pure_modules_are_imported(path):
    foreign = {
        name
        for name in imported(path)
        if name.split(".")[0] not in ALLOWED_PACKAGES and name not in ALLOWED_MODULES
    }

    assert foreign == set()


@pytest.mark.parametrize("path", [*MODULES, "mllm/messages.py"])
def test_imports_point_back_along_the_rooms(path):
    room = path.split("/")[0]
    later = ROOMS if room == "mllm" else ROOMS[ROOMS.index(room) + 1 :]

    assert {name.split(".")[0] for name in imported(path)}.isdisjoint(later)


@pytest.mark.parametrize("path", MODULES)
def test_randomness_is_passed_in_and_nothing_seeds_globally(path):
    source = (ROOT / path).read_text()

    assert "np.random.seed" not in source
    assert "import random" not in source
    assert "default_rng()" not in source
    assert "open(" not in source
