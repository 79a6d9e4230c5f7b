"""Real labeled items, what annotators and routers see of them, and the annotators that are trained on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from annotate.features import image_features
from annotate.vectors_plain import PlainVectors
from benchmarks.downstream.data import DATA_SETS, IndexArray, LabelArray

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

THUMBNAIL = 7  # pixels, side of what a cheap annotator sees of a digit
COMMON_WORDS = 100  # that a cheap annotator knows of tweets
_AIRLINES = ("@united", "@usairways", "@americanair", "@southwestair", "@jetblue", "@virginamerica")


@dataclass(frozen=True)
class RealItems:
    """All n items of a data set.

    `gold` (n,) people's labels; `little` and `much` (n, …), what a cheap and what a good annotator sees; `vectors`
    (n, d), what the product's routers see by default; `is_first_part` (n,), whether an item belongs to the part that
    one specialist knows, the other one knowing the rest; `part_names` of the two parts. Words, vectors and their
    weights come from all items, as in the product, labels from none.
    """

    key: str
    gold: LabelArray
    little: Any
    much: Any
    vectors: FloatArray
    is_first_part: BoolArray
    part_names: tuple[str, str]
    strength: float  # inverse strength of the L2 penalty of annotators that see much
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)


@dataclass(frozen=True)
class Annotator:
    """A trained classifier and what it says of every item: `probabilities` (n, classes), in the order of `classes`."""

    classes: LabelArray
    probabilities: FloatArray

    @property
    def answers(self) -> LabelArray:
        """Its label for every item, (n,)."""
        said: LabelArray = self.classes[self.probabilities.argmax(axis=1)]
        return said

    @property
    def confidences(self) -> FloatArray:
        """The probability of its label, (n,)."""
        highest: FloatArray = self.probabilities.max(axis=1)
        return highest

    def probability_of(self, labels: LabelArray) -> FloatArray:
        """How likely it finds a label for each item, (n,); 0 for one that it never met."""
        matches = self.classes[None] == labels[:, None]
        likely: FloatArray = np.where(matches, self.probabilities, 0.0).sum(axis=1)
        return likely


def trained(features: Any, gold: LabelArray, rows: IndexArray, strength: float) -> Annotator:
    """Multinomial logistic regression on these rows. Raises ValueError where they hold one class only."""
    with threadpool_limits(1):
        model = LogisticRegression(C=strength, max_iter=2_000).fit(features[rows], gold[rows])
        return Annotator(model.classes_, model.predict_proba(features))


@cache
def tweets() -> RealItems:
    """Tweets with three feelings. One part is addressed to an airline (61%), the other one is about anything else."""
    data = DATA_SETS["tweets"]()
    texts = list(data.texts)
    return RealItems(
        key=data.key,
        gold=data.gold,
        little=TfidfVectorizer(max_features=COMMON_WORDS).fit_transform(texts),
        much=TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2)).fit_transform(texts),
        vectors=PlainVectors(seed=0).fit({"text": texts}).transform({"text": texts}).astype(np.float64),
        is_first_part=np.array([any(name in text.lower() for name in _AIRLINES) for text in texts]),
        part_names=("airline tweets", "other tweets"),
        strength=3.0,
        texts=tuple(texts),
    )


@cache
def digits() -> RealItems:
    """Handwritten digits; the parts are 0 to 4 and 5 to 9."""
    data = DATA_SETS["digits"]()
    features = image_features(data.images)
    side = (THUMBNAIL, THUMBNAIL)
    return RealItems(
        key=data.key,
        gold=data.gold,
        little=np.array([np.asarray(image.resize(side), dtype=float).ravel() / 255 for image in data.images]),
        much=features,
        vectors=PlainVectors(seed=0)
        .fit({"image": features})
        .transform({"image": features})
        .astype(np.float64),
        is_first_part=np.isin(data.gold, list("01234")),
        part_names=("digits 0–4", "digits 5–9"),
        strength=1.0,
    )


REAL_ITEMS: dict[str, Callable[[], RealItems]] = {"tweets": tweets, "digits": digits}


def dealt(n_items: int, sizes: tuple[int, ...], seed: int) -> list[IndexArray]:
    """Disjoint random samples of these sizes, and last all that remains; the same for the same seed.

    Raises ValueError where nothing would remain.
    """
    if sum(sizes) >= n_items:
        raise ValueError(f"Of {n_items:,} items {sum(sizes):,} are asked for, and some have to remain.")
    order = np.random.default_rng(seed).permutation(n_items)
    return np.split(order, np.cumsum(sizes))


def mean_and_error(values: npt.ArrayLike) -> tuple[float, float]:
    """The mean over seeds, and its standard error: NaN for one seed."""
    each = np.asarray(values, dtype=float)
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return float(each.mean()), float(error)
