"""What every router that is trained checks and records."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def checked_features(X: npt.ArrayLike) -> FloatArray:  # noqa: N803
    """Features as floats, (n, features), finite, of at least one item and feature; ValueError otherwise."""
    features = np.asarray(X, dtype=float)
    if features.ndim != 2 or not features.size:
        raise ValueError("Features need the shape (items, features), with at least one of each.")
    if not np.isfinite(features).all():
        raise ValueError("Features must be finite numbers: NaN or infinity was found.")
    return features


def recorded_seed(random_state: int | None) -> int:
    """The seed given, or a fresh one, to be recorded with the result."""
    return int(np.random.SeedSequence().generate_state(1)[0]) if random_state is None else random_state
