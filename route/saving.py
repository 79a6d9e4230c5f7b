"""Trained routers as files that hold numbers and names alone: reading one runs nothing that comes from it.

A file has the arrays of the router and a description in JSON (`annotate.array_files`): of which of the kinds named
here it is, its settings, and what it was trained on. The same training gives the same file, and a router that was read
predicts what it predicted before, to the last bit. skops, which aims at the same, names its arrays after places in
memory, so that no two of its files are equal.
"""

import contextlib
import hashlib
import inspect
import math
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import scipy
import sklearn
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from annotate.array_files import MOST_BYTES, DamagedFile, read_arrays, write_arrays
from route.deferral import Rejector
from route.meta import MetaRouter
from route.meta_several import SeveralRouter, n_covariates
from route.risk import DisagreementScorer, LogisticScorer
from route.text_router import LOCAL, TextRouter, TextVectors

Array = npt.NDArray[Any]
State = dict[str, Any]

FORMAT = 1
_PROGRAM = "Overread router"
_DEEPEST = 20
# How fast and how loudly is a matter of the machine that predicts, not of the router.
_LEFT_OUT = frozenset({"n_jobs", "verbose"})
_NODE_FIELDS = (
    "left_child",
    "right_child",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
    "missing_go_to_left",
)
_PREDICTOR_FIELDS = (
    "value",
    "count",
    "feature_idx",
    "num_threshold",
    "missing_go_to_left",
    "left",
    "right",
    "gain",
    "depth",
    "is_leaf",
    "bin_threshold",
)


def data_digest(*arrays: npt.ArrayLike) -> str:
    """SHA-256 of arrays with their shapes and types, in hexadecimal: the same for the same training data."""
    digest = hashlib.sha256()
    for given in arrays:
        array = np.ascontiguousarray(given)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save(router: Any, to: str | Path | IO[bytes], *, about: Mapping[str, Any]) -> None:
    """Write a fitted router to a path or a file opened for writing bytes.

    `router` is a `Rejector`, `MetaRouter`, `SeveralRouter`, `TextRouter` or `DisagreementScorer`, or a regressor or
    classifier of `KINDS`. `about` is kept beside it, as JSON: the digest of its data and its metrics, say; its seed,
    kind and the versions of what trained it are added. Raises ValueError, and writes nothing, for what cannot be kept
    or is not fitted.
    """
    arrays: dict[str, Array] = {}
    _check(router)
    described = _described(router, arrays, "router")
    seed = getattr(router, "seed_", getattr(router, "random_state", None))
    told = {
        **about,
        "kind": type(router).__name__,
        "seed": seed if isinstance(seed, int) else None,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    description = {"program": _PROGRAM, "format": FORMAT, "router": described, "about": told}
    try:
        content = write_arrays(arrays, description)
    except TypeError as error:
        raise ValueError(f"What is said about the router cannot be written as JSON: {error}.") from None
    if isinstance(to, str | Path):
        Path(to).write_bytes(content)
    else:
        to.write(content)


def load(source: str | Path | IO[bytes]) -> tuple[Any, dict[str, Any]]:
    """The router in a file that `save` wrote, and what is said about it.

    Raises ValueError, with what is wrong, for a file that is damaged, comes from something else or from a later
    version, or holds arrays that do not fit each other.
    """
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    else:
        content = source.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DamagedFile(f"it is larger than {MOST_BYTES // 1024**2} MB")
    arrays, description = read_arrays(content)
    if description.get("program") != _PROGRAM:
        raise DamagedFile("it is not a router")
    if description.get("format") != FORMAT:
        raise ValueError(
            f"The router was saved in format {description.get('format')!r}; this version of Overread reads format "
            f"{FORMAT}. Update Overread, or train the router again."
        )
    about = description.get("about")
    if not isinstance(about, dict):
        raise DamagedFile("nothing is said about the router")
    reader = _Reader(arrays)
    with _named_damage(about):
        router = reader.value(description.get("router"))
        if type(router).__name__ not in KINDS:
            raise DamagedFile("it holds no router")
        _check(router)
        if reader.unread:
            raise DamagedFile("it holds arrays that belong to nothing")
    return router, about


@contextlib.contextmanager
def _named_damage(about: Mapping[str, Any]) -> Iterator[None]:
    """What does not fit together shows itself as many kinds of error: here as one, with the version that wrote it."""
    try:
        yield
    except DamagedFile:
        raise
    except (MemoryError, RecursionError):
        raise DamagedFile("it asks for more memory than there is") from None
    except Exception as error:
        versions = about.get("versions")
        wrote = versions.get("scikit-learn") if isinstance(versions, dict) else None
        if wrote != sklearn.__version__:
            raise ValueError(
                f"The router was saved with scikit-learn {wrote} and cannot be used with {sklearn.__version__}. "
                "Train it again."
            ) from error
        raise DamagedFile("its parts do not fit together") from error


# --- What is kept of each kind ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """How routers and their parts of one class are kept.

    `learned` are the attributes of scikit-learn's classes that predictions and reports need; empty for routers of ours:
    all that end in an underscore. `take` adds what is no plain attribute, `give` puts it back. `check` raises where
    arrays do not fit each other, before anything is predicted.
    """

    made_by: type[Any]
    check: Callable[[Any], None]
    learned: tuple[str, ...] = ()
    take: Callable[[Any], State] | None = None
    give: Callable[[Any, State], None] | None = None

    def parameter_names(self) -> tuple[str, ...]:
        if self.made_by in _OWN:
            # Of a class without settings the signature is object's own, with nothing but a catch-all.
            named = inspect.signature(self.made_by).parameters.values()
            return tuple(one.name for one in named if one.kind is one.POSITIONAL_OR_KEYWORD)
        if self.made_by is Pipeline:
            return ("steps",)
        return tuple(name for name in sorted(self.made_by().get_params(deep=False)) if name not in _LEFT_OUT)

    def settings_of(self, made: Any) -> State:
        return {name: getattr(made, name) for name in self.parameter_names()}

    def learned_by(self, made: Any) -> State:
        """What was learned; nothing where the object is not fitted (a regressor that only says how to learn)."""
        names = self.learned or [name for name in vars(made) if self.is_learned(name)]
        if not any(name in vars(made) for name in names):
            return {}
        state = {name: getattr(made, name) for name in names}
        return state | (self.take(made) if self.take else {})

    def is_learned(self, name: str) -> bool:
        return name in self.learned or (self.made_by in _OWN and bool(_LEARNED.fullmatch(name)))


def _need(fits: object, what: str) -> None:
    if not fits:
        raise DamagedFile(what)


def _is_numbers(value: Any, *shape: int | None) -> bool:
    """Whether it is an array of finite numbers of this shape; None stands for any length."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "fiu"
        and value.ndim == len(shape)
        and all(wanted in (None, length) for wanted, length in zip(shape, value.shape, strict=True))
        and bool(np.isfinite(value).all())
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _check_layers(layers: Any, inputs: int | None, outputs: int | None) -> None:
    """Layers (weights, biases) that fit onto each other."""
    _need(isinstance(layers, list) and layers, "its layers are missing")
    width = inputs
    for layer in layers:
        _need(isinstance(layer, tuple) and len(layer) == 2, "a layer is no pair of weights and biases")
        weights, biases = layer
        _need(
            _is_numbers(weights, width, None) and weights.size, "the weights of a layer have the wrong shape"
        )
        _need(_is_numbers(biases, weights.shape[1]), "the biases of a layer have the wrong shape")
        width = weights.shape[1]
    _need(outputs in (None, width), "the last layer has the wrong number of outputs")


def _check_rejector(rejector: Rejector) -> None:
    _need(
        _is_count(rejector.n_heads_) and _is_count(rejector.n_agents_),
        "the numbers of heads and agents are wrong",
    )
    _check_layers(rejector.layers_, None, rejector.n_heads_ * rejector.n_agents_)


def _check_meta_router(router: MetaRouter) -> None:
    _need(isinstance(router.scale_, float) and 0 < router.scale_ < math.inf, "its scale is wrong")
    _need(type(router.model_).__name__ in _REGRESSORS, "its regression is missing")
    _check(router.model_)
    if router.reduction_ is not None:
        _need(isinstance(router.reduction_, PCA), "its principal components are missing")
        _check(router.reduction_)
        width = router.n_reduced_ if isinstance(router, SeveralRouter) else n_features(router.model_)
        _need(router.reduction_.n_components_ == width, "its components do not fit its regression")


def _check_several_router(router: SeveralRouter) -> None:
    agents, pairs = router.n_agents_, router.compared_
    _need(_is_count(agents) and agents > 1, "the number of agents is wrong")
    _need(_is_numbers(pairs, None, 2) and pairs.dtype.kind in "iu" and len(pairs), "its pairs are wrong")
    _need(
        ((pairs[:, 1] >= 0) & (pairs[:, 0] > pairs[:, 1]) & (pairs[:, 0] < agents)).all(),
        "its pairs are wrong",
    )
    _need(_is_count(router.n_reduced_), "the number of features is wrong")
    shifts = router.pair_shift_
    _need(isinstance(shifts, np.ndarray) and shifts.shape == (len(pairs),), "the biases of pairs are wrong")
    _check_meta_router(router)
    _need(type(router.shift_model_).__name__ in _REGRESSORS, "its regression of the bias is missing")
    _check(router.shift_model_)
    width = n_covariates(router.n_reduced_, agents)
    _need(n_features(router.model_) == n_features(router.shift_model_) == width, "its regressions do not fit")


def _check_text_vectors(vectors: TextVectors) -> None:
    words = vectors.words_
    _need(
        isinstance(words, np.ndarray) and words.dtype == np.uint8 and words.ndim == 1, "its words are wrong"
    )
    _need((len(words) == 0) == (vectors.sees == LOCAL), "its words are missing")
    if vectors.sees != LOCAL:
        _need(vectors.transform([""]).shape == (1, n_features(vectors)), "its words are none of texts")


def _check_text_router(router: TextRouter) -> None:
    _need(isinstance(router.vectors, TextVectors), "it does not say how texts become vectors")
    _need(isinstance(router.router, MetaRouter), "its router is missing")
    _check_text_vectors(router.vectors)
    _check(router.router)
    _need(n_features(router.vectors) == n_features(router.router), "its vectors do not fit its router")


def _check_disagreement_scorer(scorer: DisagreementScorer) -> None:
    _need(_is_count(scorer.n_features_), "the number of features is wrong")
    _need(isinstance(scorer.constant_, float) and 0 <= scorer.constant_ <= 1, "its share of errors is wrong")
    _need(isinstance(scorer.layers_, list), "its layers are missing")
    if scorer.layers_:
        _check_layers(scorer.layers_, scorer.n_features_, 1)


def _check_logistic_scorer(scorer: LogisticScorer) -> None:
    _need(_is_count(scorer.n_features_), "the number of features is wrong")
    _need(_is_numbers(scorer.weights_, scorer.n_features_), "its weights have the wrong shape")
    _need(isinstance(scorer.bias_, float) and math.isfinite(scorer.bias_), "its bias is wrong")


def _check_pca(components: PCA) -> None:
    count, width = components.n_components_, components.n_features_in_
    _need(_is_count(count) and _is_count(width), "the numbers of components and features are wrong")
    _need(_is_numbers(components.components_, count, width), "the principal components have the wrong shape")
    _need(_is_numbers(components.mean_, width), "the means of the features have the wrong shape")
    _need(_is_numbers(components.explained_variance_, count), "the variances have the wrong shape")


def _check_ridge(ridge: Ridge) -> None:
    _need(_is_count(ridge.n_features_in_), "the number of features is wrong")
    _need(_is_numbers(ridge.coef_, ridge.n_features_in_), "the coefficients have the wrong shape")
    _need(isinstance(ridge.intercept_, float) and math.isfinite(ridge.intercept_), "the intercept is wrong")


def _check_logistic_regression(model: LogisticRegression) -> None:
    _need(_is_count(model.n_features_in_), "the number of features is wrong")
    _check_classes(model.classes_)
    rows = 1 if len(model.classes_) == 2 else len(model.classes_)
    _need(_is_numbers(model.coef_, rows, model.n_features_in_), "the coefficients have the wrong shape")
    _need(_is_numbers(model.intercept_, rows), "the intercepts have the wrong shape")


def _check_classes(classes: Any) -> None:
    _need(isinstance(classes, np.ndarray) and classes.ndim == 1 and len(classes) > 1, "its classes are wrong")


def _check_scaler(scaler: StandardScaler) -> None:
    _need(_is_count(scaler.n_features_in_), "the number of features is wrong")
    for values in (scaler.mean_, scaler.scale_):
        _need(values is None or _is_numbers(values, scaler.n_features_in_), "a scale has the wrong shape")


def _check_network(network: MLPClassifier | MLPRegressor) -> None:
    _need(
        _is_count(network.n_features_in_) and _is_count(network.n_outputs_), "the number of features is wrong"
    )
    _need(
        isinstance(network.coefs_, list) and isinstance(network.intercepts_, list), "its layers are missing"
    )
    _need(len(network.coefs_) == len(network.intercepts_) == network.n_layers_ - 1, "its layers are missing")
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    _check_layers(layers, network.n_features_in_, network.n_outputs_)


def _check_classifier_network(network: MLPClassifier) -> None:
    _check_network(network)
    _check_classes(network.classes_)
    outputs = 1 if len(network.classes_) == 2 else len(network.classes_)
    _need(network.n_outputs_ == outputs, "its classes do not fit its outputs")


def _give_label_binarizer(network: MLPClassifier, state: State) -> None:
    _check_classes(network.classes_)
    network._label_binarizer = LabelBinarizer().fit(network.classes_)


def _check_pipeline(pipeline: Pipeline) -> None:
    _need(isinstance(pipeline.steps, list) and pipeline.steps, "its steps are missing")
    for step in pipeline.steps:
        _need(isinstance(step, tuple) and len(step) == 2 and isinstance(step[0], str), "a step has no name")
        _check(step[1])


# --- Trees ------------------------------------------------------------------------------------------------------------


def _take_forest(forest: Any) -> State:
    return {"trees": _taken_trees([tree.tree_ for tree in forest.estimators_])}


def _give_forest(forest: Any, state: State) -> None:
    forest.estimator_ = DecisionTreeRegressor()
    forest.n_outputs_ = 1
    forest.estimators_ = [_regressor_of(tree) for tree in _given_trees(state["trees"], forest.n_features_in_)]
    for member in forest.estimators_:
        member.set_params(
            **{name: getattr(forest, name) for name in forest.estimator_params if name != "random_state"}
        )


def _take_boosting(boosting: GradientBoostingRegressor) -> State:
    if not (boosting.init is None or boosting.init == "zero"):
        raise ValueError("Gradient boosting that starts from another regressor cannot be kept.")
    start = boosting.init_.constant_ if isinstance(boosting.init_, DummyRegressor) else None
    return {"start": start, "trees": _taken_trees([tree.tree_ for tree in boosting.estimators_[:, 0]])}


def _give_boosting(boosting: GradientBoostingRegressor, state: State) -> None:
    trees = _given_trees(state["trees"], boosting.n_features_in_)
    boosting.estimators_ = np.array([[_regressor_of(tree)] for tree in trees], dtype=object)
    boosting.n_trees_per_iteration_ = 1
    boosting._loss = boosting._get_loss(sample_weight=None)
    if boosting.init == "zero":
        boosting.init_ = "zero"
        return
    _need(_is_numbers(state["start"], 1, 1), "what boosting starts from is wrong")
    boosting.init_ = DummyRegressor()
    boosting.init_.constant_, boosting.init_.n_outputs_ = state["start"], 1
    boosting.init_.n_features_in_ = boosting.n_features_in_


def _check_trees(forest: Any) -> None:
    _need(_is_count(forest.n_features_in_), "the number of features is wrong")
    _need(len(forest.estimators_), "it has no trees")


def _taken_trees(trees: list[Any]) -> State:
    """All trees one after the other, a field an array. Leaves have no side for missing values: memory is left there."""
    states = [tree.__getstate__() for tree in trees]
    nodes = np.concatenate([state["nodes"] for state in states])
    values = np.concatenate([state["values"] for state in states])
    if values.shape[1:] != (1, 1):
        raise ValueError("Only trees that predict one number can be kept.")
    taken: State = {field: nodes[field].copy() for field in _NODE_FIELDS}
    taken["missing_go_to_left"] = np.where(nodes["left_child"] < 0, 0, nodes["missing_go_to_left"])
    taken["value"] = values[:, 0, 0]
    taken["nodes"] = np.array([state["node_count"] for state in states])
    taken["depth"] = np.array([state["max_depth"] for state in states])
    return taken


def _given_trees(taken: State, width: int) -> list[Any]:
    """The trees, whose branches lead forward to nodes that exist: the code that walks them does not look."""
    _need(tuple(NODE_DTYPE.names) == _NODE_FIELDS, "this version of scikit-learn has other trees")
    counts = _counts(taken, "nodes", [*_NODE_FIELDS, "value"])
    depths = taken["depth"]
    _need(_is_numbers(depths, len(counts)) and (depths >= 0).all(), "the depths of the trees are wrong")
    is_leaf = taken["left_child"] == -1
    _need(((taken["right_child"] == -1) == is_leaf).all(), "a node of a tree has one branch")
    _check_branches(taken["left_child"], taken["right_child"], taken["feature"], is_leaf, counts, width)
    trees, start = [], 0
    for count, depth in zip(counts.tolist(), depths.tolist(), strict=True):
        part = slice(start, start + count)
        nodes = np.zeros(count, dtype=NODE_DTYPE)
        for field in _NODE_FIELDS:
            nodes[field] = taken[field][part]
        tree = Tree(width, np.ones(1, dtype=np.intp), 1)
        values = np.ascontiguousarray(taken["value"][part].reshape(count, 1, 1), dtype=np.float64)
        tree.__setstate__({"max_depth": int(depth), "node_count": count, "nodes": nodes, "values": values})
        trees.append(tree)
        start += count
    return trees


def _regressor_of(tree: Any) -> DecisionTreeRegressor:
    regressor = DecisionTreeRegressor()
    regressor.tree_, regressor.n_outputs_ = tree, 1
    regressor.n_features_in_ = regressor.max_features_ = tree.n_features
    return regressor


def _take_hist_boosting(boosting: HistGradientBoostingRegressor) -> State:
    predictors = [predictor for stage in boosting._predictors for predictor in stage]
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    if nodes["is_categorical"].any() or boosting._preprocessor is not None:
        raise ValueError("Gradient boosting with categories cannot be kept; its features must be numbers.")
    taken: State = {field: nodes[field].copy() for field in _PREDICTOR_FIELDS}
    taken["nodes"] = np.array([len(predictor.nodes) for predictor in predictors])
    return {"start": boosting._baseline_prediction, "trees": taken}


def _give_hist_boosting(boosting: HistGradientBoostingRegressor, state: State) -> None:
    width, taken = boosting.n_features_in_, state["trees"]
    _need(_is_count(width), "the number of features is wrong")
    counts = _counts(taken, "nodes", list(_PREDICTOR_FIELDS))
    is_leaf = taken["is_leaf"] == 1
    _need((is_leaf | (taken["is_leaf"] == 0)).all(), "a node of a tree is neither leaf nor branch")
    _check_branches(taken["left"], taken["right"], taken["feature_idx"], is_leaf, counts, width)
    _need(_is_numbers(state["start"], 1, 1), "what boosting starts from is wrong")
    boosting._predictors, start = [], 0
    for count in counts.tolist():
        nodes = np.zeros(count, dtype=PREDICTOR_RECORD_DTYPE)
        for field in _PREDICTOR_FIELDS:
            nodes[field] = taken[field][start : start + count]
        no_categories = np.zeros((0, 8), dtype=np.uint32)
        boosting._predictors.append([TreePredictor(nodes, no_categories, no_categories)])
        start += count
    boosting._baseline_prediction = state["start"]
    boosting._loss = boosting._get_loss(sample_weight=None)
    boosting._preprocessor = boosting._is_categorical_remapped = boosting.is_categorical_ = None
    boosting._n_features, boosting.n_trees_per_iteration_ = width, 1
    boosting._bin_mapper = _BinMapper()
    boosting._bin_mapper.is_categorical_ = np.zeros(width, dtype=np.uint8)
    boosting._bin_mapper.bin_thresholds_ = []  # of categories alone, when it predicts
    boosting._bin_mapper.missing_values_bin_idx_ = boosting._bin_mapper.n_bins - 1


def _check_hist_boosting(boosting: HistGradientBoostingRegressor) -> None:
    _need(_is_count(boosting.n_features_in_), "the number of features is wrong")
    _need(boosting._predictors, "it has no trees")


def _counts(taken: Any, counted: str, fields: list[str]) -> Array:
    """How many nodes each tree has. All fields are arrays of numbers, one for each node of all trees."""
    _need(isinstance(taken, dict) and set(taken) >= {counted, *fields}, "its trees are missing")
    counts = taken[counted]
    _need(_is_numbers(counts, None) and counts.dtype.kind in "iu", "the sizes of the trees are wrong")
    _need(
        len(counts) and (counts > 0).all() and int(counts.max()) < 2**31, "the sizes of the trees are wrong"
    )
    total = int(counts.sum())
    for field in fields:
        values = taken[field]
        # Thresholds may be infinite, where missing values are told from all others.
        fits = isinstance(values, np.ndarray) and values.dtype.kind in "fiub" and values.shape == (total,)
        _need(fits, "the nodes of the trees have the wrong shape")
    return np.asarray(counts, dtype=np.int64)


def _check_branches(
    left: Array, right: Array, feature: Array, is_leaf: Array, counts: Array, width: int
) -> None:
    place = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = np.repeat(counts, counts)
    for branch in (left, right):
        _need(branch.dtype.kind in "iu", "the branches of a tree are no whole numbers")
        leads_forward = (branch.astype(np.int64) > place) & (branch.astype(np.int64) < size)
        _need((is_leaf | leads_forward).all(), "a branch of a tree leads nowhere")
    _need(feature.dtype.kind in "iu", "the features of a tree are no whole numbers")
    _need(
        (is_leaf | ((feature >= 0) & (feature < width))).all(), "a tree asks for a feature that there is not"
    )


# --- The kinds --------------------------------------------------------------------------------------------------------

_OWN = (Rejector, MetaRouter, SeveralRouter, DisagreementScorer, LogisticScorer, TextVectors, TextRouter)
_LEARNED = re.compile(r"[a-z][a-z_]*[a-z]_")
_FOREST = ("n_features_in_",)
_NETWORK = (
    "n_features_in_",
    "n_outputs_",
    "n_layers_",
    "n_iter_",
    "t_",
    "loss_",
    "out_activation_",
    "coefs_",
    "intercepts_",
)

_ALL = (
    _Kind(Rejector, _check_rejector),
    _Kind(MetaRouter, _check_meta_router),
    _Kind(SeveralRouter, _check_several_router),
    _Kind(TextVectors, _check_text_vectors),
    _Kind(TextRouter, _check_text_router),
    _Kind(DisagreementScorer, _check_disagreement_scorer),
    _Kind(LogisticScorer, _check_logistic_scorer),
    _Kind(RandomForestRegressor, _check_trees, _FOREST, _take_forest, _give_forest),
    _Kind(ExtraTreesRegressor, _check_trees, _FOREST, _take_forest, _give_forest),
    _Kind(
        GradientBoostingRegressor,
        _check_trees,
        ("n_features_in_", "n_estimators_", "max_features_"),
        _take_boosting,
        _give_boosting,
    ),
    _Kind(
        HistGradientBoostingRegressor,
        _check_hist_boosting,
        ("n_features_in_", "do_early_stopping_"),
        _take_hist_boosting,
        _give_hist_boosting,
    ),
    _Kind(Ridge, _check_ridge, ("n_features_in_", "coef_", "intercept_", "n_iter_", "solver_")),
    _Kind(
        LogisticRegression,
        _check_logistic_regression,
        ("n_features_in_", "classes_", "coef_", "intercept_", "n_iter_"),
    ),
    _Kind(MLPRegressor, _check_network, _NETWORK),
    _Kind(MLPClassifier, _check_classifier_network, (*_NETWORK, "classes_"), give=_give_label_binarizer),
    _Kind(
        PCA,
        _check_pca,
        (
            "n_features_in_",
            "n_samples_",
            "n_components_",
            "components_",
            "mean_",
            "explained_variance_",
            "explained_variance_ratio_",
            "singular_values_",
            "noise_variance_",
        ),
    ),
    _Kind(StandardScaler, _check_scaler, ("n_features_in_", "n_samples_seen_", "mean_", "var_", "scale_")),
    _Kind(Pipeline, _check_pipeline),
)
_REGRESSORS = (
    "RandomForestRegressor",
    "ExtraTreesRegressor",
    "GradientBoostingRegressor",
    "HistGradientBoostingRegressor",
    "Ridge",
    "MLPRegressor",
    "Pipeline",
)
KINDS: Mapping[str, _Kind] = {kind.made_by.__name__: kind for kind in _ALL}


def n_features(router: Any) -> int:
    """How many features the items need that a router or a part of one is asked about."""
    match router:
        case Rejector():
            return len(router.layers_[0][0])
        case MetaRouter():
            if router.reduction_ is not None:
                return n_features(router.reduction_)
            return router.n_reduced_ if isinstance(router, SeveralRouter) else n_features(router.model_)
        case DisagreementScorer() | LogisticScorer():
            return int(router.n_features_)
        case Pipeline():
            return n_features(router.steps[0][1])
        case TextVectors():
            return router.width
        case TextRouter():
            return n_features(router.router)
    return int(router.n_features_in_)


def _check(router: Any) -> None:
    """Raise ValueError unless it is of a known kind, fitted, consistent, and able to say something of an item."""
    kind = KINDS.get(type(router).__name__)
    if kind is None or kind.made_by is not type(router):
        raise ValueError(f"A {type(router).__name__} cannot be kept. What can: {', '.join(KINDS)}.")
    is_fitted = set(kind.learned) <= set(vars(router)) if kind.learned else bool(kind.learned_by(router))
    if not is_fitted and kind.made_by not in (Pipeline, TextRouter):
        raise ValueError(f"The {type(router).__name__} has to be fitted before it is kept.")
    kind.check(router)
    if isinstance(router, TextRouter | TextVectors):  # asked about texts, as far as they can be here
        return
    item = np.zeros((1, n_features(router)))
    if isinstance(router, Rejector):
        said = router.scores(item)
    elif hasattr(router, "predict"):
        said = router.predict(item)
    else:
        said = router.transform(item)
    if said.dtype.kind == "f" and not np.isfinite(said).all():
        raise DamagedFile("what it predicts is no number")


# --- To names and numbers, and back -----------------------------------------------------------------------------------


def _described(value: Any, arrays: dict[str, Array], where: str) -> Any:
    """The value as JSON can say it; arrays go into `arrays`. Raises ValueError for anything that is not known."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return _described(value.item(), arrays, where)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"number": repr(float(value))}
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        # Products are added up in another order where columns lie together instead of rows.
        is_by_columns = value.ndim > 1 and value.flags.f_contiguous and not value.flags.c_contiguous
        return {"array": name, "by_columns": True} if is_by_columns else {"array": name}
    if isinstance(value, list):
        return [_described(each, arrays, where) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_described(each, arrays, where) for each in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"map": {key: _described(value[key], arrays, f"{where}.{key}") for key in sorted(value)}}
    kind = KINDS.get(type(value).__name__)
    if kind is not None and kind.made_by is type(value):
        name = type(value).__name__
        parts = {"settings": kind.settings_of(value), "learned": kind.learned_by(value)}
        return {"kind": name} | {
            part: {key: _described(state[key], arrays, f"{where}.{key}") for key in sorted(state)}
            for part, state in parts.items()
        }
    if isinstance(value, np.random.RandomState | np.random.Generator):
        raise ValueError(f"{where} is a generator of random numbers. Give a number as the seed.")
    raise ValueError(f"{where} is a {type(value).__name__}, which cannot be kept.")


class _Reader:
    """Makes values of what `_described` said. `unread` are the arrays that nothing has asked for."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self.unread = set(arrays)

    def value(self, said: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise DamagedFile("its description is nested too deeply")
        if said is None or isinstance(said, bool | int | float | str):
            return said
        if isinstance(said, list):
            return [self.value(each, depth + 1) for each in said]
        match said:
            case {"number": ("nan" | "inf" | "-inf") as number, **others} if not others:
                return float(number)
            case {"array": str(name), **others}:
                return self._array(name, others)
            case {"tuple": list(values), **others} if not others:
                return tuple(self.value(each, depth + 1) for each in values)
            case {"map": dict(values), **others} if not others:
                return {key: self.value(each, depth + 1) for key, each in values.items()}
            case {"kind": str(name), "settings": dict(settings), "learned": dict(learned)}:
                return self._made(name, self._state(settings, depth), self._state(learned, depth))
        raise DamagedFile("its description says something unknown")

    def _state(self, said: dict[str, Any], depth: int) -> State:
        return {key: self.value(each, depth + 1) for key, each in said.items()}

    def _array(self, name: str, others: Mapping[Any, Any]) -> Array:
        if name not in self.unread:
            raise DamagedFile("an array is missing or belongs to two things")
        self.unread.remove(name)
        array = self._arrays[name]
        return np.asfortranarray(array) if others.get("by_columns") is True else array

    def _made(self, name: str, settings: State, learned: State) -> Any:
        kind = KINDS.get(name)
        if kind is None:
            raise DamagedFile(f"it holds a “{name}”, which is no part of a router")
        if not set(settings) <= set(kind.parameter_names()):
            raise DamagedFile(f"it has settings that a “{name}” has not")
        made = kind.made_by(**settings)
        if not learned:
            return made
        extra = {key: value for key, value in learned.items() if not kind.is_learned(key)}
        if not set(kind.learned) <= set(learned) or (extra and kind.give is None):
            raise DamagedFile(f"what a “{name}” has learned is not what it should be")
        for key in learned.keys() - extra.keys():
            setattr(made, key, learned[key])
        if kind.give is not None:
            kind.give(made, extra)
        return made
