"""How labelled items are split for the trace-aware router, and how far a split by topic shifts what it is tested on.

Random splits deal items out by δ, whether the annotator's label differs from the human one. The topic-shift split holds
whole topics out (section 4.1): a router that is good on it is good on items unlike those it learned from.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits

from route.risk import checked_errors, standardization, stratified_folds
from route.training_data import checked_features

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

TOPICS = 20
TOPIC_SIZE = 10  # items a topic at least, on average
MIN_FOR_TOPICS = 40
_WORD = re.compile(r"\w+")
# Similarities of so many items with all others are held at once.
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Split:
    """Places of the labelled items by use, each sorted, disjoint, together all of them.

    `risk` trains the disagreement scorer, `demo` is what demonstrations are retrieved from, `dev` chooses the setting.
    """

    risk: IntArray
    demo: IntArray
    dev: IntArray


@dataclass(frozen=True, slots=True)
class TopicSplit:
    """Places of the items to train and to test on, each sorted, and the topic of every item, (n,), from 0.

    `held_out` are the topics of the test items, the farthest from the center of all items first.
    """

    train: IntArray
    test: IntArray
    topics: IntArray
    held_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the test items lie from the training items; all are larger for a larger shift, but the first.

    `topic_overlap`: number of topics that occur in both, None where topics are not given. `word_divergence`:
    Jensen–Shannon divergence of the frequencies of words, in bits, in [0, 1]; None without texts or words.
    `centroid_distance`: cosine distance of the mean vectors, in [0, 2]. `nearest_distance`: mean cosine distance of a
    test item to the nearest training item. `classifier_auc`: how well a logistic regression on the vectors tells both
    apart, cross-validated; 0.5 where it cannot, None with fewer than two items on either side.
    """

    topic_overlap: int | None
    word_divergence: float | None
    centroid_distance: float
    nearest_distance: float
    classifier_auc: float | None


def risk_demo_dev(
    is_error: npt.ArrayLike, *, seed: int, shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
) -> Split:
    """Split items into risk, demo and dev, stratified by δ.

    `is_error` (n,) boolean or 0/1; `shares` of the three uses, each above 0, summing to 1. Both sizes and numbers of
    errors are as near to the shares as whole items allow, within one or two. The same `seed` gives the same split.
    Raises ValueError for other values, and where a part would be empty.
    """
    errors = checked_errors(is_error, len(np.asarray(is_error)))
    wanted = np.asarray(shares, dtype=float)
    if wanted.shape != (3,) or not (wanted > 0).all() or abs(float(wanted.sum()) - 1) > 1e-9:
        raise ValueError("The shares of risk, demo and dev must be above 0 and sum to 1.")
    risk, demo, dev = _dealt(errors, wanted, seed)
    return Split(risk, demo, dev)


def topics_held_out(
    vectors: npt.ArrayLike,
    is_error: npt.ArrayLike,
    *,
    seed: int,
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25),
) -> tuple[Split, TopicSplit]:
    """Split items so that dev holds whole topics, the farthest ones; risk and demo share the others, stratified by δ.

    `vectors` (n, dimensions), finite, `is_error` (n,). There is a topic for every `TOPIC_SIZE` items, up to 20. The
    same `seed` gives the same split. Raises ValueError for other shapes or values, for fewer than `MIN_FOR_TOPICS`
    items, and where the vectors tell no topics apart.
    """
    checked = checked_features(vectors)
    errors = checked_errors(is_error, len(checked))
    if len(errors) < MIN_FOR_TOPICS:
        raise ValueError(
            f"{len(errors)} known items are too few to hold topics out; at least {MIN_FOR_TOPICS} are needed. "
            "Label more items, or split them at random."
        )
    n_topics = min(TOPICS, len(errors) // TOPIC_SIZE)
    topics = topic_shift_split(checked, seed=seed, n_topics=n_topics, test_share=shares[2])
    wanted = np.asarray(shares[:2]) / sum(shares[:2])
    risk, demo = _dealt(errors[topics.train], wanted, seed)
    return Split(topics.train[risk], topics.train[demo], topics.test), topics


def _dealt(errors: BoolArray, wanted: FloatArray, seed: int) -> list[IntArray]:
    """Places of the items of each use, sorted: dealt out by δ, so that every use gets its share of both kinds."""
    rng = np.random.default_rng(seed)
    # Errors first, then the others, each in random order: whoever lags most behind its share gets the next one.
    order = np.concatenate(
        [rng.permutation(np.flatnonzero(errors)), rng.permutation(np.flatnonzero(~errors))]
    )
    uses = np.empty(len(errors), dtype=np.intp)
    dealt = np.zeros(len(wanted))
    for count, place in enumerate(order, start=1):
        use = int(np.argmax(wanted * count - dealt))
        uses[place] = use
        dealt[use] += 1
    if not dealt.all():
        raise ValueError(
            f"{len(errors)} labelled items are too few to split into risk, demo and dev. Label more items."
        )
    return [np.flatnonzero(uses == use) for use in range(len(wanted))]


def topic_shift_split(
    vectors: npt.ArrayLike, *, seed: int, n_topics: int = TOPICS, test_share: float = 0.3
) -> TopicSplit:
    """Cluster items into topics by the directions of their vectors, and hold out the topics farthest from the center.

    `vectors` (n, dimensions), finite. Topics are held out, the farthest first, as long as that brings the number of
    test items nearer to `test_share` of n, at least one and never all. Where fewer directions differ than `n_topics`,
    there are as many topics as directions. The same `seed` gives the same split. Raises ValueError for other values,
    and where all vectors point the same way.
    """
    units = unit_rows(checked_features(vectors))
    if not 0 < test_share < 1:
        raise ValueError("The share of test items must lie between 0 and 1.")
    if n_topics < 2:
        raise ValueError("A split by topic needs at least two topics.")
    n_topics = min(n_topics, len(np.unique(units, axis=0)))
    if n_topics < 2:
        raise ValueError("All vectors point the same way, so there are no topics to hold out.")
    with threadpool_limits(1):  # sums in the same order on every machine
        clusters = KMeans(n_topics, n_init=4, random_state=seed).fit(units)
    topics = clusters.labels_.astype(np.intp)
    distances = np.linalg.norm(clusters.cluster_centers_ - units.mean(axis=0), axis=1)
    sizes = np.bincount(topics, minlength=n_topics)
    farthest = [int(topic) for topic in np.argsort(-distances, kind="stable") if sizes[topic]]
    wanted, held_out, n_test = test_share * len(units), farthest[:1], int(sizes[farthest[0]])
    for topic in farthest[1:-1]:
        if abs(n_test + int(sizes[topic]) - wanted) >= abs(n_test - wanted):
            break
        held_out.append(topic)
        n_test += int(sizes[topic])
    is_test = np.isin(topics, held_out)
    return TopicSplit(np.flatnonzero(~is_test), np.flatnonzero(is_test), topics, tuple(held_out))


def shift_between(
    train: npt.ArrayLike,
    test: npt.ArrayLike,
    *,
    seed: int,
    topics: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Shift:
    """Measure a split: `train` (n, dimensions) and `test` (m, dimensions) vectors, finite.

    `topics` and `texts` hold those of the training and of the test items. Raises ValueError for other shapes or values.
    """
    train_vectors, test_vectors = checked_features(train), checked_features(test)
    if train_vectors.shape[1] != test_vectors.shape[1]:
        raise ValueError("Training and test items need vectors of the same length.")
    for name, given in (("topic", topics), ("text", texts)):
        if given is not None and (len(np.asarray(given[0])), len(np.asarray(given[1]))) != (
            len(train_vectors),
            len(test_vectors),
        ):
            raise ValueError(f"Every training and test item needs one {name}.")
    train_units, test_units = unit_rows(train_vectors), unit_rows(test_vectors)
    centers = unit_rows(np.stack([train_vectors.mean(axis=0), test_vectors.mean(axis=0)]))
    overlap = None if topics is None else len(np.intersect1d(np.asarray(topics[0]), np.asarray(topics[1])))
    return Shift(
        topic_overlap=overlap,
        word_divergence=None if texts is None else word_divergence(*texts),
        centroid_distance=float(1 - centers[0] @ centers[1]),
        nearest_distance=float(1 - _nearest_similarities(test_units, train_units).mean()),
        classifier_auc=_classifier_auc(train_vectors, test_vectors, seed),
    )


def word_divergence(some: Sequence[str], others: Sequence[str]) -> float | None:
    """Jensen–Shannon divergence of how often words occur in both sets of texts, in bits, in [0, 1].

    Words are runs of letters and digits, in any case. None where either has no words.
    """
    counts = [
        Counter(word for text in texts for word in _WORD.findall(text.lower())) for texts in (some, others)
    ]
    if not all(counts):
        return None
    words = sorted(counts[0].keys() | counts[1].keys())
    p, q = (np.array([count[word] for word in words]) / count.total() for count in counts)
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def unit_rows(rows: FloatArray) -> FloatArray:
    """The rows scaled to length 1; rows of zeros stay as they are."""
    # First by the largest part, so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    lengths = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    unit: FloatArray = np.divide(scaled, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit


def _relative_entropy(p: FloatArray, q: FloatArray) -> float:
    occurs = p > 0
    return float((p[occurs] * np.log2(p[occurs] / q[occurs])).sum())


def _nearest_similarities(units: FloatArray, others: FloatArray) -> FloatArray:
    """Cosine of each row with the most similar of the others, (n,)."""
    starts = range(0, len(units), _ROWS_AT_ONCE)
    return np.concatenate([(units[start : start + _ROWS_AT_ONCE] @ others.T).max(axis=1) for start in starts])


def _classifier_auc(train: FloatArray, test: FloatArray, seed: int) -> float | None:
    features = np.vstack([train, test])
    is_test = np.arange(len(features)) >= len(train)
    folds = list(stratified_folds(is_test, seed))
    if not folds:
        return None
    means, scales = standardization(features)
    predicted = cross_val_predict(
        LogisticRegression(max_iter=1000),
        (features - means) / scales,
        is_test,
        cv=folds,
        method="predict_proba",
    )
    return float(roc_auc_score(is_test, predicted[:, 1]))
