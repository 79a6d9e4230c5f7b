"""Small labelled data sets for the trained pair: digits from scikit-learn, and made-up remarks."""

from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from annotate.trained import TrainedItem

_ABOUT = (
    "plane",
    "seat",
    "crew",
    "bag",
    "phone",
    "screen",
    "match",
    "ticket",
    "food",
    "price",
    "queue",
    "film",
)
_WORDS = (
    ("awful", "broken", "late", "rude", "dirty", "slow", "lost", "worst"),
    ("seen", "today", "some", "again", "heard", "maybe", "there", "usual"),
    ("lovely", "quick", "kind", "clean", "great", "superb", "best", "thanks"),
)


@cache
def digits() -> tuple[list[TrainedItem], np.ndarray]:
    """1,797 images of 8×8 pixels, enlarged, and the digit each shows."""
    data = load_digits()
    images = [Image.fromarray((picture * 15).astype(np.uint8)).resize((24, 24)) for picture in data.images]
    return [TrainedItem(image=image) for image in images], data.target.astype(np.intp)


@cache
def remarks(n: int = 900, seed: int = 0) -> tuple[list[TrainedItem], np.ndarray]:
    """Texts with two words of their label (0 bad, 1 neither, 2 good) and two of any label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    texts = []
    for label in labels:
        any_words = [rng.choice(_WORDS[other]) for other in rng.integers(0, 3, 2)]
        words = [*rng.choice(_WORDS[label], 2), *any_words, *rng.choice(_ABOUT, 3)]
        texts.append(TrainedItem(text=" ".join(rng.permutation(words))))
    return texts, labels.astype(np.intp)
