"""The disagreement scorer: how likely the annotator's label of an item differs from a person's, before it is asked.

p̂ = f(z) (section 3, step 1): z is what is known of an item before the annotator runs, δ = 1{annotator's label ≠ human
label}. It orders items for the escalation budget; it does not decide.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from route.training_data import checked_features, recorded_seed

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Layer = tuple[FloatArray, FloatArray]

FOLDS = 5
# More features than this are reduced to as many principal components: labels are few.
MOST_FEATURES = 50
# Penalties that cross-validation chooses from; the last one leaves little more than the share of errors.
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
# Where the rarer outcome is too rare to be cross-validated.
_CAUTIOUS_PENALTY = 100.0
# The penalty hardly depends on more labels than these, and training so often would take minutes.
_MOST_VALIDATED = 1_000
_STEPS = 200


class DisagreementScorer:
    """Predicts Pr(δ = 1 | z), (n,), by a small neural network trained on items with both labels.

    The network has tanh layers and minimizes the logistic loss, summed over items, plus ½ · penalty · Σ weights², on
    standardized features; more than 50 features are first reduced to 50 principal components. The penalty is the one of
    `PENALTIES` with the smallest log loss in 5-fold cross-validation, which keeps the probabilities honest when labels
    are few; with more than 1,000 labels a stratified sample of so many is cross-validated. Where an outcome has fewer
    than two items there is nothing to validate on, and the penalty is 100. The same data and `random_state` give the
    same scorer.

    After `fit`:
    - `layers_`: (weights, biases) of each layer, in the units of the features as given;
    - `auc_`: area under the ROC curve of the cross-validated predictions, None where it cannot be told. The penalty was
      chosen on the same folds, so it flatters slightly;
    - `log_loss_` of the same predictions, and `constant_log_loss_` that of the share of errors alone: where it is no
      larger, the features say nothing;
    - `penalty_`, `error_share_`, `n_items_`, `n_features_`, `n_validated_`, `converged_`, `seed_`;
    - `fallback_`: None, or a sentence that says why every item has the same p̂ (`constant_`): labels of one kind only,
      or no feature that differs. It is then the smoothed share of errors, (errors + 1) / (n + 2).
    """

    def __init__(self, hidden: Sequence[int] = (16,), random_state: int | None = None) -> None:
        """Raises ValueError for no hidden layer, or one without units."""
        if not hidden or any(units < 1 for units in hidden):
            raise ValueError("The scorer needs at least one hidden layer, and each at least one unit.")
        self.hidden = tuple(hidden)
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, is_error: npt.ArrayLike) -> "DisagreementScorer":  # noqa: N803
        """Learn from `X` (n, features) and `is_error` (n,), boolean or 0/1: whether both labels differ.

        Raises ValueError for other shapes or values (NaN and infinity are refused), or without items.
        """
        features = checked_features(X)
        errors = checked_errors(is_error, len(features))
        self.seed_ = recorded_seed(self.random_state)
        self.n_items_, self.n_features_ = features.shape
        self.error_share_ = float(errors.mean())
        self.constant_ = smoothed_share(errors)
        self.fallback_ = constant_fallback(features, errors)
        self.auc_: float | None = None
        self.log_loss_: float | None = None
        self.constant_log_loss_: float | None = None
        self.penalty_: float | None = None
        self.n_validated_, self.converged_ = 0, True
        self.layers_: list[Layer] = []
        if self.fallback_ is None:
            # The matrices are small: several threads take many times as long, and round differently.
            with threadpool_limits(1):
                self.penalty_ = self._validated_penalty(features, errors)
                self.layers_, self.converged_ = self._trained(features, errors, self.penalty_)
        return self

    def predict(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """p̂ of each item, (n,), in [0, 1]. Raises ValueError before `fit` or for other features."""
        if not hasattr(self, "layers_"):
            raise ValueError("The scorer has to be fitted first.")
        features = checked_features(X)
        if features.shape[1] != self.n_features_:
            raise ValueError(
                f"The scorer was fitted on {self.n_features_} features; the items have {features.shape[1]}."
            )
        return predictions(self.layers_, features) if self.layers_ else np.full(len(features), self.constant_)

    def _validated_penalty(self, features: FloatArray, errors: BoolArray) -> float:
        """The penalty with the smallest log loss on items left out; sets what `fit` reports of it."""
        chosen = _stratified_sample(errors, _MOST_VALIDATED, self.seed_)
        features, errors = features[chosen], errors[chosen]
        folds = list(stratified_folds(errors, self.seed_))
        if not folds:
            return _CAUTIOUS_PENALTY
        self.n_validated_ = len(errors)
        tried: list[tuple[float, float, FloatArray]] = []
        for penalty in PENALTIES:
            predicted = np.empty(len(errors))
            for train, held_out in folds:
                layers, _ = self._trained(features[train], errors[train], penalty)
                predicted[held_out] = predictions(layers, features[held_out])
            tried.append((float(log_loss(errors, predicted, labels=[False, True])), penalty, predicted))
        self.log_loss_, best, predicted = min(tried, key=lambda one: one[:2])
        self.auc_ = float(roc_auc_score(errors, predicted))
        self.constant_log_loss_ = float(
            log_loss(errors, np.full(len(errors), errors.mean()), labels=[False, True])
        )
        return best

    def _trained(self, features: FloatArray, errors: BoolArray, penalty: float) -> tuple[list[Layer], bool]:
        """The layers, and whether the optimizer converged before its limit of steps."""
        to_inputs, offsets = input_map(features, self.seed_)
        network = MLPClassifier(
            self.hidden,
            activation="tanh",
            solver="lbfgs",
            alpha=penalty,
            max_iter=_STEPS,
            random_state=self.seed_,
        )
        with warnings.catch_warnings():
            # Stopping at the limit is reported by `converged_`; with a penalty it costs next to nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(features @ to_inputs + offsets, errors)
        layers = list(zip(network.coefs_, network.intercepts_, strict=True))
        weights, biases = layers[0]
        return [(to_inputs @ weights, biases + offsets @ weights), *layers[1:]], network.n_iter_ < _STEPS


class LogisticScorer:
    """The same by logistic regression: L2 penalty 1 on standardized features, (n,) probabilities.

    The one-shot baseline of learning to defer. After `fit`: `weights_` (features,), `bias_`, in the units of the
    features as given, `n_features_`, and `constant_` and `fallback_` as of `DisagreementScorer`.
    """

    def fit(self, X: npt.ArrayLike, is_error: npt.ArrayLike) -> "LogisticScorer":  # noqa: N803
        """As `DisagreementScorer.fit`."""
        features = checked_features(X)
        errors = checked_errors(is_error, len(features))
        self.n_features_ = features.shape[1]
        self.constant_ = smoothed_share(errors)
        self.fallback_ = constant_fallback(features, errors)
        self.weights_, self.bias_ = (
            np.zeros(self.n_features_),
            float(np.log(self.constant_ / (1 - self.constant_))),
        )
        if self.fallback_ is None:
            means, scales = standardization(features)
            model = LogisticRegression(max_iter=1000).fit((features - means) / scales, errors)
            self.weights_ = model.coef_[0] / scales
            self.bias_ = float(model.intercept_[0] - means @ self.weights_)
        return self

    def predict(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """p̂ of each item, (n,), in [0, 1]. Raises ValueError before `fit` or for other features."""
        if not hasattr(self, "weights_"):
            raise ValueError("The scorer has to be fitted first.")
        features = checked_features(X)
        if features.shape[1] != self.n_features_:
            raise ValueError(
                f"The scorer was fitted on {self.n_features_} features; the items have {features.shape[1]}."
            )
        probabilities: FloatArray = expit(features @ self.weights_ + self.bias_)
        return probabilities


class TextImageSimilarity:
    """How well an item's text and its image go together, by vectors of both that were made apart from each other.

    Vectors of texts and of images have no directions in common. Canonical correlation finds those of both along which
    the pairs that it is fitted on agree; covariances are shrunk (Ledoit and Wolf), and each direction counts by the
    fourth power of its correlation. The similarity is the cosine of both along these directions, in [-1, 1].

    After `fit`: `agreement_`, how often an item's own image is more similar to its text than that of another item, on
    items that were left out: 0.5 by chance. `fallback_` is None, or a sentence that says why there is no similarity.
    """

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, texts: npt.ArrayLike, images: npt.ArrayLike) -> "TextImageSimilarity":
        """Learn from `texts` (n, dimensions) and `images` (n, other dimensions), row by row of the same items.

        Raises ValueError for other shapes or values.
        """
        text, image = checked_features(texts), checked_features(images)
        if len(text) != len(image):
            raise ValueError("Every item needs a vector of its text and one of its image.")
        self.seed_ = recorded_seed(self.random_state)
        self.agreement_: float | None = None
        self.fallback_: str | None = None
        with threadpool_limits(1):
            if len(text) < _FEWEST_PAIRS:
                self.fallback_ = (
                    f"{len(text)} items with text and image are too few to learn how the two go together; at least "
                    f"{_FEWEST_PAIRS} are needed."
                )
            else:
                self.agreement_ = self._held_out(text, image)
                # Beyond what chance does with so many items.
                if self.agreement_ < 0.5 + max(0.05, 1.5 / np.sqrt(len(text))):
                    self.fallback_ = (
                        "In the vectors of the items, nothing of an image tells which text is its own, so that the "
                        "similarity of both says nothing."
                    )
            self._maps = _canonical_maps(text, image)
        return self

    def predict(self, texts: npt.ArrayLike, images: npt.ArrayLike) -> FloatArray:
        """The similarity of each item's text and image, (n,), in [-1, 1]; 0 where either has nothing to compare.

        Raises ValueError before `fit` or for other shapes or values.
        """
        if not hasattr(self, "_maps"):
            raise ValueError("The similarity has to be fitted first.")
        text, image = checked_features(texts), checked_features(images)
        of_text, of_image = self._maps
        if (text.shape[1], image.shape[1]) != (len(of_text[0]), len(of_image[0])) or len(text) != len(image):
            raise ValueError("The vectors are not of the length that the similarity was fitted on.")
        return _paired_cosines(text, image, self._maps)

    def _held_out(self, text: FloatArray, image: FloatArray) -> float:
        order = np.random.default_rng(self.seed_).permutation(len(text))
        wins = 0.0
        for fold in range(FOLDS):
            out, kept = order[fold::FOLDS], np.setdiff1d(order, order[fold::FOLDS])
            maps = _canonical_maps(text[kept], image[kept])
            own = _paired_cosines(text[out], image[out], maps)
            others = min(len(out) - 1, _MOST_COMPARED)
            for shift in range(1, others + 1):
                other = _paired_cosines(text[out], image[np.roll(out, shift)], maps)
                wins += float(((own > other) + (own == other) / 2).sum()) / others
        return wins / len(text)


_FEWEST_PAIRS = 20
_MOST_COMPARED = 50
# From left to right: means, and the map to the shared directions.
_Map = tuple[FloatArray, FloatArray]
_Maps = tuple[_Map, _Map]


def _canonical_maps(text: FloatArray, image: FloatArray) -> _Maps:
    means = text.mean(axis=0), image.mean(axis=0)
    x, y = text - means[0], image - means[1]
    whiten_x, whiten_y = _whitening(x), _whitening(y)
    left, correlations, right = np.linalg.svd(whiten_x.T @ (x.T @ y / len(x)) @ whiten_y, full_matrices=False)
    weights = np.clip(correlations, 0, 1) ** 2  # on both sides: the fourth power in their product
    return (means[0], whiten_x @ left * weights), (means[1], whiten_y @ right.T * weights)


def _whitening(centered: FloatArray) -> FloatArray:
    """The map (dimensions, rank) to uncorrelated numbers with variance 1."""
    covariance, _ = ledoit_wolf(centered, assume_centered=True)
    spreads, directions = np.linalg.eigh(covariance)
    kept = spreads > 1e-10 * max(float(spreads[-1]), 1e-300)
    whitening: FloatArray = directions[:, kept] / np.sqrt(spreads[kept])
    return whitening


def _paired_cosines(text: FloatArray, image: FloatArray, maps: _Maps) -> FloatArray:
    (text_means, of_text), (image_means, of_image) = maps
    x, y = (text - text_means) @ of_text, (image - image_means) @ of_image
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    products = (x * y).sum(axis=1)
    cosines: FloatArray = np.divide(products, lengths, out=np.zeros(len(x)), where=lengths > 0)
    return cosines


def checked_errors(is_error: npt.ArrayLike, n_items: int) -> BoolArray:
    """Whether each of n items is an error, (n,); ValueError for other shapes or values."""
    errors = np.asarray(is_error)
    if errors.shape != (n_items,) or not np.isin(errors, (0, 1)).all():
        raise ValueError(f"is_error must say true or false (or 1 or 0) of each of the {n_items} items.")
    return errors.astype(bool)


def smoothed_share(errors: BoolArray) -> float:
    """(errors + 1) / (n + 2): never 0 or 1, however few labels there are."""
    return (int(errors.sum()) + 1) / (len(errors) + 2)


def constant_fallback(features: FloatArray, errors: BoolArray) -> str | None:
    """Why nothing can be learned and every item gets the same score; None where something can."""
    if errors.all() or not errors.any():
        said = "differ from" if errors[0] else "equal"
        return (
            f"All {len(errors)} labels of the annotator {said} the human ones, so nothing tells items apart: "
            "each gets the same score."
        )
    if (features == features[0]).all():
        return "All items have the same features, so each gets the same score."
    return None


def stratified_folds(errors: BoolArray, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Up to 5 folds with items of both kinds in each; none where there are fewer than two of a kind."""
    folds = min(FOLDS, int(errors.sum()), int((~errors).sum()))
    if folds >= 2:
        yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(
            np.zeros(len(errors)), errors
        )


def standardization(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature, (features,); a constant feature keeps its scale."""
    scales = features.std(axis=0)
    is_constant = (features == features[0]).all(axis=0) | (scales == 0)
    return features.mean(axis=0), np.where(is_constant, 1.0, scales)


def input_map(features: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """The linear map (features, inputs) and offsets (inputs,) to what a network is trained on.

    Standardized features, or their principal components, scaled so that the mean input has variance 1.
    """
    means, scales = standardization(features)
    to_inputs = np.diag(1 / scales)
    if features.shape[1] > MOST_FEATURES:
        standardized = (features - means) / scales
        components = min(MOST_FEATURES, len(features))
        found = PCA(components, svd_solver="full", random_state=seed).fit(standardized)
        spread = float(np.sqrt(found.explained_variance_.mean()))
        to_inputs = to_inputs @ found.components_.T / (spread or 1.0)
    return to_inputs, -means @ to_inputs


def predictions(layers: Sequence[Layer], features: FloatArray) -> FloatArray:
    """The probability that a network with tanh layers and a logistic output gives each item, (n,)."""
    values = features
    for depth, (weights, biases) in enumerate(layers, start=1):
        values = values @ weights + biases
        values = expit(values) if depth == len(layers) else np.tanh(values)
    probabilities: FloatArray = values[:, 0]
    return probabilities


def _stratified_sample(errors: BoolArray, most: int, seed: int) -> IntArray:
    """Places of at most so many items, errors among them in proportion, in their order."""
    if len(errors) <= most:
        return np.arange(len(errors))
    rng = np.random.default_rng(seed)
    wanted = max(2, round(most * float(errors.mean())))
    kept = [
        rng.permutation(np.flatnonzero(kind))[:count]
        for kind, count in ((errors, wanted), (~errors, most - wanted))
    ]
    places: IntArray = np.sort(np.concatenate(kept))
    return places
