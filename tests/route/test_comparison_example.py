"""The worked example of docs/routing.md does what the page says."""

import re
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from route.services.comparison_sets import (
    comparison_set_import,
    comparison_set_preview,
    comparison_set_receive,
)
from route.services.meta_plans import MetaLimit
from route.serving import route_texts
from tests.factories import make_project, make_user
from tests.route.uploaded import train_from, work

pytestmark = [pytest.mark.django_db, pytest.mark.computed]

PAGE = Path(__file__).resolve().parents[2] / "docs/routing.md"


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text().partition("### An example with 400 comparisons")[2]
    [program] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:1]
    exec(program, {})
    project = make_project(owner=make_user())
    file = SimpleUploadedFile("comparisons.csv", (tmp_path / "comparisons.csv").read_bytes())

    comparisons = comparison_set_receive(project=project, user=project.created_by, file=file)
    mapping = comparison_set_preview(comparisons).mapping
    comparisons = comparison_set_import(comparisons=comparisons, mapping=mapping, user=project.created_by)
    work(comparisons.job_id)
    comparisons.refresh_from_db()
    router = train_from(comparisons)

    assert (comparisons.imported, comparisons.rejected) == (400, 0)
    assert [router.metrics[name] for name in ("items", "preferences", "left")] == [80, 300, 20]
    asked = ["Prove a lemma about groups", "Greet a customer"]
    routed = route_texts(router, asked, MetaLimit(premium_share=0.5))
    assert routed.is_premium.tolist() == [True, False]
