"""The trained annotator: a small classifier fitted on a project's own labels. No language model, no key."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from annotate.features import FloatArray, image_features, word_vectorizer
from annotate.task_types import get_task_type

IntArray = npt.NDArray[np.intp]

MIN_LABELLED = 10
# Inverse regularization; among 1 and 10 (tweets) and 1, 10 and 100 (digits) the best with 100 to 400 labels.
_INVERSE_REGULARIZATION = 10.0


@dataclass(frozen=True, slots=True)
class TrainedItem:
    """What a trained annotator or criticizer sees of an item: text or caption, question, image."""

    text: str = ""
    question: str = ""
    image: Image.Image | None = None


class TrainedAnnotator:
    """Logistic regression on word TF-IDF (texts, questions, captions) and gradient and color histograms
    (images).

    The same labelled items give the same annotator, and an item gets the same label and confidence in
    whatever chunk it is predicted. `seed` is part of the record of a run; this classifier's fit has no
    randomness to seed.
    """

    def __init__(self, task_type: str, n_labels: int, seed: int) -> None:
        """Raises ValueError for an unknown task type or fewer than two labels."""
        if n_labels < 2:
            raise ValueError("A label set needs at least two labels.")
        self.task_type = get_task_type(task_type)
        self.n_labels = n_labels
        self.seed = seed

    def fit(self, items: Sequence[TrainedItem], labels: Sequence[int] | IntArray) -> "TrainedAnnotator":
        """Learn from items with their label indices, shape (n,), each in 0 … n_labels − 1.

        Raises ValueError, with what to do about it, when there are no labelled items, fewer than
        `MIN_LABELLED`, only one label among them, or an item without the text or image its task needs.
        """
        targets = checked_labels(items, labels, self.n_labels)
        check_enough_labels(targets)
        self._vectorizer = None
        if uses_words(self.task_type.key):
            self._vectorizer = word_vectorizer()
            try:
                self._vectorizer.fit(written_parts(self.task_type.key, items))
            except ValueError:
                raise ValueError("The labelled texts contain no words to learn from.") from None
        classifier = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=1000, random_state=self.seed)
        classifier.fit(self._features(items), targets)
        self._classes: IntArray = classifier.classes_.astype(np.intp)
        self._coefficients: FloatArray = classifier.coef_
        self._intercepts: FloatArray = classifier.intercept_
        return self

    def predict(self, items: Sequence[TrainedItem]) -> tuple[IntArray, FloatArray]:
        """Label index of each item and the probability given to it, in [0, 1]; both of shape (n,)."""
        if not hasattr(self, "_classes"):
            raise ValueError("The trained annotator has to be fitted on labelled items first.")
        if not items:
            return np.empty(0, dtype=np.intp), np.empty(0)
        probabilities = self._probabilities(items)
        best = probabilities.argmax(axis=1)
        return self._classes[best], probabilities[np.arange(len(items)), best]

    def _probabilities(self, items: Sequence[TrainedItem]) -> FloatArray:
        # A sparse product goes row by row; a dense one adds up in an order that depends on the chunk's size.
        scores = self._features(items) @ self._coefficients.T + self._intercepts
        if len(self._classes) == 2:
            scores = np.hstack([np.zeros_like(scores), scores])
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: FloatArray = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def _features(self, items: Sequence[TrainedItem]) -> sparse.csr_matrix:
        parts = []
        if self._vectorizer is not None:
            parts.append(self._vectorizer.transform(written_parts(self.task_type.key, items)))
        if self.task_type.needs_image:
            parts.append(sparse.csr_matrix(image_features(images_of(items))))
        return sparse.hstack(parts, format="csr")


def uses_words(task_type: str) -> bool:
    """Whether items of this task type have a text, a question or a caption."""
    task = get_task_type(task_type)
    return task.needs_text or task.needs_question


def written_parts(task_type: str, items: Sequence[TrainedItem]) -> list[str]:
    """What is written in each item: its question where the task type has one, else its text or caption."""
    if get_task_type(task_type).needs_question:
        return [item.question for item in items]
    return [item.text for item in items]


def images_of(items: Sequence[TrainedItem]) -> list[Image.Image]:
    """The items' images. Raises ValueError, with the item's place from 1, where one is missing."""
    images = []
    for place, item in enumerate(items, start=1):
        if item.image is None:
            raise ValueError(f"Item {place} of {len(items)} has no image.")
        images.append(item.image)
    return images


def checked_labels(items: Sequence[TrainedItem], labels: Sequence[int] | IntArray, n_labels: int) -> IntArray:
    """The labels as an index array. Raises ValueError when they don't fit the items or the label set."""
    targets = np.asarray(labels)
    if targets.size == 0:
        targets = targets.astype(np.intp)
    if targets.shape != (len(items),) or not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"{len(items)} items need one whole-number label index each.")
    if targets.size and (targets.min() < 0 or targets.max() >= n_labels):
        raise ValueError(f"Label indices must lie between 0 and {n_labels - 1}.")
    return targets.astype(np.intp)


def check_enough_labels(targets: IntArray) -> None:
    """Raise ValueError, in words for the project's owner, unless there is enough to learn from."""
    if not len(targets):
        raise ValueError("There are no labelled items to learn from. Label a calibration sample first.")
    if len(targets) < MIN_LABELLED:
        raise ValueError(
            f"{len(targets)} labelled items are too few to learn from. Label at least {MIN_LABELLED}; "
            "about 100 is a good start."
        )
    if len(np.unique(targets)) == 1:
        raise ValueError(
            "All labelled items have the same label, so there is nothing to tell apart. "
            "Label more items until at least two labels occur."
        )
