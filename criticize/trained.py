"""The trained criticizer: ε̂ = 1 − P(label | item) by classifiers that never saw the label they judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.naive_bayes import ComplementNB

from annotate.features import FloatArray
from annotate.task_types import get_task_type
from annotate.trained import IntArray, TrainedItem, checked_labels, images_of, uses_words, written_parts
from criticize.features import character_vectorizer, pixel_features

Keys = Sequence[int] | npt.NDArray[np.int64]

MAX_TRAINING_ITEMS = 20_000  # of each kind; more would cost time and hardly add

# Tried with 100 to 400 labelled tweets and 1,500 to 8,000 machine labels, both from the trained annotator
# and with random errors: one labelled item counts as ten, and all machine labels together as much as all
# labelled items.
_LABELLED_WEIGHT = 10.0
_SMOOTHING = 0.1

# Tried on digits: 5, 10, 15 and 20 neighbors; votes fall with distance to exp(−2) at the farthest of them.
_NEIGHBORS = 10
_LABELLED_VOTE = 2.0
_VOTE_FALL = 2.0
_VOTE_FLOOR = 0.02
_BLOCK = 256  # items compared with all training items at a time, to bound memory

_FOLD_SALT = 0x466F6C64
_SAMPLE_SALT = 0x53616D70


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    """Labelled items first, then machine-labelled ones, each with the fold of its key; −1 where it has none."""

    items: list[TrainedItem]
    labels: IntArray
    folds: IntArray
    n_labelled: int

    @property
    def is_labelled(self) -> npt.NDArray[np.bool_]:
        labelled: npt.NDArray[np.bool_] = np.arange(len(self.items)) < self.n_labelled
        return labelled


class TrainedCriticizer:
    """Complement naive Bayes on pieces of words (texts, questions, captions), nearest neighbors on tiny
    images.

    Both are other families of classifiers on other features than the trained annotator's. They learn from the
    labelled items and from the machine labels of *other folds* (as confident learning does): an item in
    fold k is judged by a model that saw no machine label of fold k. Where labelled items are judged themselves, as
    those of a candidate are, it saw no human label of fold k either. ε̂ orders items by suspicion; it is not calibrated.

    The same arguments give the same ε̂ in any order, in any chunks, and in any process.
    """

    def __init__(self, task_type: str, n_labels: int, seed: int, folds: int = 5) -> None:
        """Raises ValueError for an unknown task type, fewer than two labels or fewer than two folds."""
        if n_labels < 2:
            raise ValueError("A label set needs at least two labels.")
        if folds < 2:
            raise ValueError("Cross-fitting needs at least two folds.")
        self.task_type = get_task_type(task_type)
        self.n_labels = n_labels
        self.seed = seed
        self.folds = folds

    def fit(
        self,
        items: Sequence[TrainedItem],
        machine_labels: Sequence[int] | IntArray,
        keys: Keys,
        labelled_items: Sequence[TrainedItem],
        labels: Sequence[int] | IntArray,
        labelled_keys: Keys | None = None,
    ) -> "TrainedCriticizer":
        """Learn from machine-labelled `items` with their unique integer `keys`, and from human-labelled
        items.

        `labelled_keys` are the keys by which labelled items are judged: −1 for one that is not among the items
        judged, None where none is.

        At most `MAX_TRAINING_ITEMS` of each are used; which of the machine-labelled ones is decided by
        their keys and the seed. Raises ValueError when shapes or label indices don't fit, keys repeat, an
        image is missing, or some fold would have nothing to learn from.
        """
        if labelled_keys is None:
            labelled_keys = np.full(len(labelled_items), -1, dtype=np.int64)
        training = self._training_set(items, machine_labels, keys, labelled_items, labels, labelled_keys)
        for fold in range(self.folds):
            if not np.any(training.folds != fold):
                raise ValueError(
                    "There is too little to learn from. Label a calibration sample, or annotate more "
                    "items first."
                )
        self._judges: list[_WordPieceJudge | _PixelJudge] = []
        if uses_words(self.task_type.key):
            self._judges.append(_WordPieceJudge(self.task_type.key, self.n_labels, self.folds, training))
        if self.task_type.needs_image:
            self._judges.append(_PixelJudge(self.n_labels, training))
        return self

    def error_probabilities(
        self, items: Sequence[TrainedItem], machine_labels: Sequence[int] | IntArray, keys: Keys
    ) -> FloatArray:
        """ε̂ of each item's machine label, shape (n,), in [0, 1], higher is more suspicious.

        The items need not be among those fitted on. Where an item has both words and an image, the
        probabilities of the two models are averaged.
        """
        if not hasattr(self, "_judges"):
            raise ValueError("The trained criticizer has to be fitted first.")
        targets = checked_labels(items, machine_labels, self.n_labels)
        item_folds = fold_of(_checked_keys(items, keys), self.folds, self.seed)
        error_prob = np.empty(len(items))
        for start in range(0, len(items), _BLOCK):
            block = slice(start, start + _BLOCK)
            beliefs = [judge.label_probabilities(items[block], item_folds[block]) for judge in self._judges]
            label_prob = sum(beliefs[1:], beliefs[0]) / len(beliefs)
            chosen = targets[block]
            error_prob[block] = 1.0 - label_prob[np.arange(len(chosen)), chosen]
        return np.clip(error_prob, 0.0, 1.0)

    def _training_set(
        self,
        items: Sequence[TrainedItem],
        machine_labels: Sequence[int] | IntArray,
        keys: Keys,
        labelled_items: Sequence[TrainedItem],
        labels: Sequence[int] | IntArray,
        labelled_keys: Keys,
    ) -> _TrainingSet:
        machine_targets = checked_labels(items, machine_labels, self.n_labels)
        labelled_targets = checked_labels(labelled_items, labels, self.n_labels)
        item_keys = _checked_keys(items, keys)
        human_keys = _checked_keys(labelled_items, labelled_keys)
        if len(np.unique(item_keys)) < len(item_keys):
            raise ValueError("Each item needs a key of its own.")
        sampled = np.lexsort((item_keys, _hashed(item_keys, self.seed ^ _SAMPLE_SALT)))[:MAX_TRAINING_ITEMS]
        labelled = np.arange(len(labelled_items))
        if len(labelled) > MAX_TRAINING_ITEMS:
            rng = np.random.default_rng(self.seed)
            labelled = np.sort(rng.choice(labelled, MAX_TRAINING_ITEMS, replace=False))
        return _TrainingSet(
            items=[labelled_items[i] for i in labelled.tolist()] + [items[i] for i in sampled.tolist()],
            labels=np.concatenate([labelled_targets[labelled], machine_targets[sampled]]),
            folds=np.concatenate(
                [
                    np.where(
                        human_keys[labelled] == -1, -1, fold_of(human_keys[labelled], self.folds, self.seed)
                    ),
                    fold_of(item_keys[sampled], self.folds, self.seed),
                ]
            ),
            n_labelled=len(labelled),
        )


class _WordPieceJudge:
    """Complement naive Bayes, one model a fold."""

    def __init__(self, task_type: str, n_labels: int, folds: int, training: _TrainingSet) -> None:
        self._task_type = task_type
        self._n_labels = n_labels
        texts = written_parts(task_type, training.items)
        self._vectorizer = character_vectorizer(len(texts))
        try:
            features = self._vectorizer.fit_transform(texts)
        except ValueError:
            raise ValueError("The texts contain nothing to learn from.") from None
        self._models: list[Any] = []
        for fold in range(folds):
            seen = training.folds != fold
            model = ComplementNB(alpha=_SMOOTHING)
            model.fit(features[seen], training.labels[seen], _item_weights(training.is_labelled[seen]))
            self._models.append(model)

    def label_probabilities(self, items: Sequence[TrainedItem], item_folds: IntArray) -> FloatArray:
        features = self._vectorizer.transform(written_parts(self._task_type, items))
        probabilities = np.zeros((len(items), self._n_labels))
        for fold in np.unique(item_folds):
            rows = np.flatnonzero(item_folds == fold)
            model = self._models[fold]
            probabilities[np.ix_(rows, model.classes_)] = model.predict_proba(features[rows])
        return probabilities


class _PixelJudge:
    """The labels of the most similar images of other folds, weighted by closeness."""

    def __init__(self, n_labels: int, training: _TrainingSet) -> None:
        self._n_labels = n_labels
        self._pixels = pixel_features(images_of(training.items))
        self._squares = (self._pixels**2).sum(axis=1)
        self._folds = training.folds
        strength = np.where(training.is_labelled, _LABELLED_VOTE, 1.0)
        self._votes = strength[:, None] * np.eye(n_labels)[training.labels]

    def label_probabilities(self, items: Sequence[TrainedItem], item_folds: IntArray) -> FloatArray:
        pixels = pixel_features(images_of(items))
        # Whole numbers below 2^53, hence exact: no rounding that could depend on the number of rows.
        distance = (pixels**2).sum(axis=1)[:, None] - 2.0 * (pixels @ self._pixels.T) + self._squares
        distance[item_folds[:, None] == self._folds[None, :]] = np.inf
        k = min(_NEIGHBORS, len(self._squares))
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(distance, nearest, axis=1)
        usable = np.isfinite(near)
        farthest = np.where(usable, near, 0.0).max(axis=1, keepdims=True)
        relative = np.divide(near, farthest, out=np.zeros_like(near), where=usable & (farthest > 0))
        closeness = np.where(usable, np.exp(-_VOTE_FALL * relative), 0.0)
        votes = (closeness[:, :, None] * self._votes[nearest]).sum(axis=1) + _VOTE_FLOOR
        probabilities: FloatArray = votes / votes.sum(axis=1, keepdims=True)
        return probabilities


def fold_of(keys: Keys, folds: int, seed: int) -> IntArray:
    """Fold in 0 … folds − 1 of each integer key, shape (n,): a function of key and seed alone."""
    return (_hashed(np.asarray(keys, dtype=np.int64), seed ^ _FOLD_SALT) % np.uint64(folds)).astype(np.intp)


def _hashed(keys: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Well-mixed 64-bit numbers of keys and seed (by the SplitMix64 generator's output function)."""
    mixed_seed = _mix(np.array([seed % 2**64], dtype=np.uint64))
    return _mix(keys.astype(np.uint64) ^ mixed_seed)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # Array arithmetic on unsigned integers wraps around, which is what the generator needs.
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _item_weights(is_labelled: npt.NDArray[np.bool_]) -> FloatArray:
    n_labelled = int(is_labelled.sum())
    n_machine = len(is_labelled) - n_labelled
    if not n_labelled or not n_machine:
        return np.full(len(is_labelled), _LABELLED_WEIGHT)
    return np.where(is_labelled, _LABELLED_WEIGHT, _LABELLED_WEIGHT * n_labelled / n_machine)


def _checked_keys(items: Sequence[TrainedItem], keys: Keys) -> npt.NDArray[np.int64]:
    item_keys = np.asarray(keys)
    if item_keys.size == 0:
        item_keys = item_keys.astype(np.int64)
    if item_keys.shape != (len(items),) or not np.issubdtype(item_keys.dtype, np.integer):
        raise ValueError(f"{len(items)} items need one whole-number key each.")
    return item_keys.astype(np.int64)
