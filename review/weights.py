"""The ACT loss as two weights for each item (Eq. 8 and 21–23 of the paper)."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def act_weights(
    selected: npt.ArrayLike, inclusion_prob: npt.ArrayLike, lam: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Weights of the machine label and of the human label in each item's loss, both of shape (N,).

    The ACT loss of an item is λ·ℓ(m) + (ℓ(h) − λ·ℓ(m))·δ/π, hence machine weight = λ(1 − δ/π) and human
    weight = δ/π. The mean over items of the weighted losses is the loss. Machine weights are negative where
    δ = 1 and π < 1; that is right. With π = 1 wherever δ = 1 and λ = 1 this is cross-entropy on the final
    labels (Eq. 23).

    `selected` δ (N,), boolean or 0/1, is true where a person gave the label: an item that was selected and
    not answered counts as not selected. `inclusion_prob` π (N,) in [0, 1], above 0 where δ = 1. `lam` λ in
    [0, 1]. Raises ValueError for anything else.
    """
    delta = np.asarray(selected)
    probabilities = np.asarray(inclusion_prob, dtype=np.float64)
    if delta.ndim != 1 or probabilities.shape != delta.shape:
        raise ValueError("selected and inclusion_prob must be one-dimensional and of the same length.")
    if delta.dtype != np.bool_ and not np.all((delta == 0) | (delta == 1)):
        raise ValueError("selected must contain only true and false, or 1 and 0.")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("Inclusion probabilities must lie between 0 and 1; NaN is none.")
    if not 0 <= lam <= 1:
        raise ValueError("Lambda, the weight of machine labels, must lie between 0 and 1.")
    is_selected = delta.astype(np.bool_)
    if np.any(is_selected & (probabilities == 0)):
        raise ValueError("A selected item has inclusion probability 0; it could not have been selected.")
    human = np.divide(1.0, probabilities, out=np.zeros(delta.shape), where=is_selected)
    return lam * (1.0 - human), human
