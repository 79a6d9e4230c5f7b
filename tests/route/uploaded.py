"""A file of comparisons: the premium response is better where a query is about metal."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import Project
from jobs.running import run_next_chunk
from route.comparison_rows import ComparisonMapping
from route.models import ComparisonSet, Router
from route.services.comparison_sets import (
    UploadedChoice,
    comparison_set_import,
    comparison_set_receive,
    uploaded_router_create,
)
from tests.factories import make_project, make_user

GOLD, PREFERRED, LEFT = 40, 60, 10
FRUIT = ("ripe", "sweet", "banana", "apple", "pear")
METAL = ("copper", "iron", "zinc", "tin", "bronze")
MAPPING = ComparisonMapping(
    query="query",
    response_a="response_a",
    response_b="response_b",
    gold_a="gold_a",
    gold_b="gold_b",
    preference="preference",
)


def is_metal(query: str) -> bool:
    return any(word in query.split() for word in METAL)


def comparison_rows(gold: int = GOLD, preferred: int = PREFERRED, left: int = LEFT) -> list[dict[str, str]]:
    """Rows with gold scores, then some with a judge's preference, then some with neither."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(gold + preferred + left):
        words = METAL if number % 2 else FRUIT
        query = f"{' '.join(rng.choice(words, 4))} number {number}"
        row = {"query": query, "response_a": "short", "response_b": "long"}
        row |= {"gold_a": "", "gold_b": "", "preference": ""}
        better = number % 2 or rng.random() < 0.1
        if number < gold:
            row |= {"gold_a": "0.5", "gold_b": "1" if better else "0.25"}
        elif number < gold + preferred:
            row["preference"] = "b" if better else str(rng.choice(["a", "tie"]))
        rows.append(row)
    return rows


def as_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows = list(rows)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def as_json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def receive(project: Project, content: bytes, name: str = "comparisons.csv") -> ComparisonSet:
    return comparison_set_receive(
        project=project, user=project.created_by, file=SimpleUploadedFile(name, content)
    )


def streamed(response: Any) -> str:
    """The text of an answer that is sent while it is written."""
    return b"".join(response.streaming_content).decode()


def work(job_id: int | None) -> None:
    assert job_id is not None
    while run_next_chunk(job_id):
        pass


def make_comparisons(
    rows: Iterable[Mapping[str, Any]] | None = None,
    mapping: ComparisonMapping = MAPPING,
    project: Project | None = None,
) -> ComparisonSet:
    """Imported."""
    project = project or make_project(owner=make_user())
    received = receive(project, as_csv(comparison_rows() if rows is None else rows))
    comparisons = comparison_set_import(comparisons=received, mapping=mapping, user=project.created_by)
    work(comparisons.job_id)
    comparisons.refresh_from_db()
    return comparisons


def train_from(comparisons: ComparisonSet, **choice: Any) -> Router:
    router = uploaded_router_create(
        comparisons=comparisons, user=comparisons.created_by, choice=UploadedChoice(**choice)
    )
    work(router.job_id)
    router.refresh_from_db()
    return router
