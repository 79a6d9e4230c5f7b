import io
import json
import zipfile
from functools import cache

import numpy as np
import pytest
import sklearn
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from annotate.array_files import read_arrays, write_arrays
from route.deferral import Rejector
from route.meta import MetaRouter
from route.meta_several import SeveralRouter
from route.risk import DisagreementScorer, LogisticScorer
from route.saving import KINDS, data_digest, load, n_features, save
from route.text_router import TextRouter, TextVectors

N, WIDTH = 120, 8
RNG = np.random.default_rng(3)
FEATURES = RNG.normal(size=(N, WIDTH))
TARGET = np.sin(FEATURES[:, 0]) + 0.1 * RNG.normal(size=N)
IS_ERROR = FEATURES[:, 1] + 0.3 * RNG.normal(size=N) > 0
COSTS = RNG.random((N, 3))
HEAD_COSTS = RNG.random((N, 2, 3))
IS_GOLD = np.arange(N) % 2 == 0
OUTCOME = np.where(IS_GOLD, TARGET, np.sign(TARGET + 0.2))
PAIRS = np.array([(1, 0), (0, 2), (2, 1)])[np.arange(N) // 2 % 3]
WIDE = RNG.normal(size=(N, 60))
NEW = RNG.normal(size=(50, WIDTH))
FOREST = RandomForestRegressor(3, min_samples_leaf=5)


def texts_of(items) -> list[str]:
    """A text for each row of numbers: the places and signs of its first ones."""
    return [
        " ".join(f"{'more' if x > 0 else 'less'}{place}" for place, x in enumerate(row[:6])) for row in items
    ]


TEXTS = texts_of(FEATURES)


def text_router() -> TextRouter:
    vectors = TextVectors(components=4, random_state=1).fit(TEXTS)
    router = MetaRouter(regressor=FOREST, random_state=1)
    return TextRouter(vectors, router.fit(vectors.transform(TEXTS), IS_GOLD, OUTCOME))


ROUTERS = {
    "router of texts": text_router,
    "vectors of texts": lambda: TextVectors(components=4, random_state=1).fit(TEXTS),
    "linear rejector": lambda: Rejector(random_state=1).fit(FEATURES, COSTS),
    "rejector of spans": lambda: Rejector(nu=2, hidden=(4, 3), random_state=1).fit(FEATURES, HEAD_COSTS),
    "rejector with a fallback": lambda: Rejector(random_state=1).fit(FEATURES, np.ones((N, 2))),
    "meta-router, forest": lambda: MetaRouter("r", FOREST, random_state=1).fit(FEATURES, IS_GOLD, OUTCOME),
    "meta-router, boosting": lambda: MetaRouter(
        "dr", GradientBoostingRegressor(n_estimators=3), random_state=1
    ).fit(FEATURES, IS_GOLD, OUTCOME),
    "meta-router, ridge": lambda: MetaRouter("dr", Ridge(), None, random_state=1).fit(
        FEATURES, IS_GOLD, OUTCOME
    ),
    "meta-router, components": lambda: MetaRouter(regressor=FOREST, random_state=1).fit(
        WIDE, IS_GOLD, OUTCOME
    ),
    "router among several": lambda: SeveralRouter(regressor=FOREST, random_state=1).fit(
        FEATURES, IS_GOLD, OUTCOME, PAIRS
    ),
    "router among several, components": lambda: SeveralRouter("r", FOREST, random_state=1).fit(
        WIDE, IS_GOLD, OUTCOME, PAIRS
    ),
    "disagreement scorer": lambda: DisagreementScorer((5,), random_state=1).fit(FEATURES, IS_ERROR),
    "scorer of many features": lambda: DisagreementScorer((5,), random_state=1).fit(WIDE, IS_ERROR),
    "constant scorer": lambda: DisagreementScorer(random_state=1).fit(FEATURES, np.ones(N, bool)),
    "logistic scorer": lambda: LogisticScorer().fit(FEATURES, IS_ERROR),
    "forest": lambda: RandomForestRegressor(7, random_state=1, max_depth=4).fit(FEATURES, TARGET),
    "extra trees": lambda: ExtraTreesRegressor(7, random_state=1).fit(FEATURES, TARGET),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=7, random_state=1).fit(FEATURES, TARGET),
    "boosting from zero": lambda: GradientBoostingRegressor(
        n_estimators=7, init="zero", loss="huber", random_state=1
    ).fit(FEATURES, TARGET),
    "histogram boosting": lambda: HistGradientBoostingRegressor(max_iter=3, random_state=1).fit(
        FEATURES, TARGET
    ),
    "ridge": lambda: Ridge(alpha=0.5).fit(FEATURES, TARGET),
    "logistic regression": lambda: LogisticRegression().fit(FEATURES, IS_ERROR),
    "network": lambda: MLPClassifier((6, 4), random_state=1, solver="lbfgs", max_iter=30, tol=1).fit(
        FEATURES, IS_ERROR.astype(int)
    ),
    "network of three classes": lambda: MLPClassifier(
        (6,), random_state=1, solver="lbfgs", max_iter=30, tol=1
    ).fit(FEATURES, np.array(["a", "b", "c"])[np.arange(N) % 3]),
    "network of numbers": lambda: MLPRegressor(
        hidden_layer_sizes=(6,), random_state=1, solver="lbfgs", max_iter=30, tol=1
    ).fit(FEATURES, TARGET),
    "components": lambda: PCA(3, random_state=1, svd_solver="full").fit(FEATURES),
    "scaler": lambda: StandardScaler().fit(FEATURES),
    "pipeline": lambda: make_pipeline(
        StandardScaler(), PCA(3, random_state=1), RandomForestRegressor(3, random_state=1)
    ).fit(FEATURES, TARGET),
}


def saved(router, **about) -> bytes:
    stream = io.BytesIO()
    save(router, stream, about=about)
    return stream.getvalue()


def loaded(content: bytes):
    return load(io.BytesIO(content))


def answers(router, items) -> list[bytes]:
    """Everything that the router says of items, to the last bit."""
    if isinstance(router, TextRouter | TextVectors):
        items = texts_of(items)
    ways: tuple[str, ...] = ("predict", "predict_proba", "head_scores", "allocate", "transform")
    if isinstance(router, SeveralRouter):
        ways = ("gains", "shift")
    return [np.asarray(getattr(router, way)(items)).tobytes() for way in ways if hasattr(router, way)]


@cache
def router_of(name: str):
    return ROUTERS[name]()


@pytest.fixture(params=ROUTERS)
def trained(request):
    return request.param, router_of(request.param)


class TestWhatComesBack:
    def test_it_says_the_same_to_the_last_bit(self, trained):
        _, router = trained
        items = RNG.normal(size=(50, n_features(router)))

        again, _ = loaded(saved(router))

        assert type(again) is type(router)
        assert answers(router, items)
        assert answers(again, items) == answers(router, items)
        assert [answers(again, items[i : i + 1]) for i in range(5)] == [
            answers(router, items[i : i + 1]) for i in range(5)
        ]

    def test_trained_again_it_is_the_same_file(self, trained):
        name, router = trained

        assert saved(router, metric=0.5) == saved(ROUTERS[name](), metric=0.5)
        assert saved(loaded(saved(router))[0]) == saved(router)

    def test_nothing_in_the_file_is_pickled(self, trained):
        _, router = trained
        with zipfile.ZipFile(io.BytesIO(saved(router))) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                else:
                    json.loads(archive.read(name))

    def test_it_can_be_trained_again(self):
        router = router_of("meta-router, forest")
        again, _ = loaded(saved(router))

        refitted = again.fit(FEATURES, IS_GOLD, OUTCOME)

        assert refitted.predict(NEW).tobytes() == router.predict(NEW).tobytes()

    def test_every_attribute_that_a_router_of_ours_shows_is_kept(self):
        for name in ("linear rejector", "meta-router, components", "disagreement scorer", "logistic scorer"):
            router = router_of(name)
            again, _ = loaded(saved(router))
            assert set(vars(again)) == set(vars(router)), name

    def test_more_items_than_one_batch_are_the_same_too(self):
        router = router_of("rejector of spans")
        items = RNG.normal(size=(5_000, WIDTH))

        assert answers(loaded(saved(router))[0], items) == answers(router, items)


class TestAbout:
    def test_data_seed_versions_and_metrics_are_beside_it(self, tmp_path):
        path = tmp_path / "router.zip"
        digest = data_digest(FEATURES, COSTS)
        save(router_of("linear rejector"), path, about={"data": digest, "metrics": {"loss": 0.25}})

        _, about = load(path)

        assert about["data"] == digest
        assert about["metrics"] == {"loss": 0.25}
        assert (about["kind"], about["seed"]) == ("Rejector", 1)
        assert about["versions"]["scikit-learn"] == sklearn.__version__
        assert set(about["versions"]) == {"python", "numpy", "scipy", "scikit-learn"}

    def test_the_digest_is_of_the_values_their_types_and_shapes(self):
        digests = {
            data_digest(FEATURES),
            data_digest(FEATURES.reshape(-1)),
            data_digest(FEATURES.astype(np.float32)),
            data_digest(FEATURES + 1e-15),
            data_digest(FEATURES, COSTS),
            data_digest(COSTS, FEATURES),
        }
        assert len(digests) == 6
        assert data_digest(FEATURES) == data_digest(np.asfortranarray(FEATURES))

    def test_what_json_cannot_say_is_refused_and_nothing_is_written(self, tmp_path):
        path = tmp_path / "router.zip"
        for about in ({"model": object()}, {"loss": float("nan")}):
            with pytest.raises(ValueError, match="JSON"):
                save(router_of("linear rejector"), path, about=about)
        assert not path.exists()


class TestWhatCannotBeKept:
    @pytest.mark.parametrize(
        "router",
        [
            RandomForestClassifier(2).fit(FEATURES, IS_ERROR),
            TruncatedSVD(2).fit(FEATURES),
            MetaRouter("dr", TruncatedSVD(2)),
            object(),
            "router",
        ],
    )
    def test_other_things_are_refused(self, router):
        with pytest.raises(ValueError, match=r"cannot be kept|has to be fitted"):
            saved(router)

    @pytest.mark.parametrize("router", [Rejector(), MetaRouter(), DisagreementScorer(), Ridge()])
    def test_so_is_a_router_that_has_learned_nothing(self, router):
        with pytest.raises(ValueError, match="has to be fitted"):
            saved(router)

    def test_a_subclass_that_could_do_anything_is_refused(self):
        class Sly(Ridge):  # type: ignore[misc]
            pass

        for router in (Sly().fit(FEATURES, TARGET), make_pipeline(Sly()).fit(FEATURES, TARGET)):
            with pytest.raises(ValueError, match="cannot be kept"):
                saved(router)

    def test_a_generator_as_the_seed_is_refused_with_what_to_do(self):
        forest = RandomForestRegressor(2, random_state=np.random.RandomState(1)).fit(FEATURES, TARGET)
        with pytest.raises(ValueError, match="Give a number as the seed"):
            saved(forest)

    def test_trees_of_several_numbers_and_boosting_from_another_regressor_are_refused(self):
        two = np.stack([TARGET, TARGET], axis=1)
        with pytest.raises(ValueError, match="one number"):
            saved(RandomForestRegressor(2, random_state=1).fit(FEATURES, two))
        with pytest.raises(ValueError, match="starts from another"):
            saved(GradientBoostingRegressor(init=Ridge(), n_estimators=2).fit(FEATURES, TARGET))
        categories = np.c_[np.arange(N) % 3, FEATURES]
        boosting = HistGradientBoostingRegressor(categorical_features=[0], max_iter=2).fit(categories, TARGET)
        with pytest.raises(ValueError, match="categories"):
            saved(boosting)


def tampered(content: bytes, change) -> bytes:
    """The file after `change(arrays, description)`, well-formed as a file."""
    arrays, description = read_arrays(content)
    change(arrays, description)
    return write_arrays(arrays, description)


def array_of(description, *path) -> str:
    """The name of the array at a path of the description of the router."""
    said = description["router"]
    for key in path:
        said = said[key]
    return str(said["array"])


TREES = ("learned", "trees", "map")
NODES = {
    "branch backward": ("left_child", lambda values: np.where(values > 0, 0, values)),
    "branch to itself": ("right_child", lambda values: np.where(values > 0, np.arange(len(values)), values)),
    "branch beyond": ("left_child", lambda values: np.where(values > 0, 10**6, values)),
    "very negative branch": ("left_child", lambda values: np.where(values > 0, -(2**40), values)),
    "half a leaf": ("left_child", lambda values: np.full_like(values, -1)),
    "feature beyond": ("feature", lambda values: np.where(values >= 0, 10**9, values)),
    "negative feature": ("feature", lambda values: np.where(values >= 0, -5, values)),
    "branches that are no whole numbers": ("left_child", lambda values: values + 0.5),
    "fewer thresholds": ("threshold", lambda values: values[:-1]),
    "texts": ("threshold", lambda values: values.astype(str)),
    "values that are no numbers": ("value", lambda values: np.full_like(values, np.nan)),
    "other sizes": ("nodes", lambda values: values + 1),
    "no sizes": ("nodes", lambda values: values[:0]),
    "negative sizes": ("nodes", lambda values: -values),
    "huge sizes": ("nodes", lambda values: np.full_like(values, 2**62)),
    "depths of another shape": ("depth", lambda values: values[:-1]),
}


class TestTamperedFiles:
    @pytest.mark.parametrize("name", NODES)
    @pytest.mark.parametrize("kind", ["forest", "boosting"])
    def test_trees_that_lead_nowhere_are_not_walked(self, kind, name):
        field, changed = NODES[name]

        def change(arrays, description):
            array = array_of(description, *TREES, field)
            arrays[array] = np.asarray(changed(arrays[array]))

        with pytest.raises(ValueError, match="damaged"):
            loaded(tampered(saved(router_of(kind)), change))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("left", 0),
            ("right", 10**6),
            ("feature_idx", 10**9),
            ("is_leaf", 0),
            ("is_leaf", 7),
            ("feature_idx", -1),
        ],
    )
    def test_nor_are_those_of_histogram_boosting(self, field, value):
        def change(arrays, description):
            array = array_of(description, *TREES, field)
            arrays[array] = np.full(arrays[array].shape, value)

        with pytest.raises(ValueError, match="damaged"):
            loaded(tampered(saved(router_of("histogram boosting")), change))

    @pytest.mark.parametrize("kind", ROUTERS)
    def test_no_array_can_take_another_shape(self, kind):
        content = saved(router_of(kind))
        arrays, _ = read_arrays(content)
        unread = {"is_used_", "n_iter_", "singular_values_", "explained_variance_ratio_", "var_", "mean_"}
        _, description = read_arrays(content)
        harmless = {
            name
            for name in arrays
            for attribute in unread
            if f'"{attribute}":{{"array":"{name}"' in json.dumps(description, separators=(",", ":"))
        }
        for name in set(arrays) - harmless:
            for shape in ((0,), (arrays[name].size + 1,)):

                def change(arrays, description, name=name, shape=shape):
                    arrays[name] = np.zeros(shape, dtype=arrays[name].dtype)

                with pytest.raises(ValueError, match="damaged"):
                    loaded(tampered(content, change))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda arrays, said: said.update(program="something else"), "not a router"),
            (lambda arrays, said: said.pop("program"), "not a router"),
            (lambda arrays, said: said.update(format=2), "Update Overread"),
            (lambda arrays, said: said.pop("about"), "nothing is said"),
            (lambda arrays, said: said.pop("router"), "no router"),
            (lambda arrays, said: said.update(router=[1]), "no router"),
            (lambda arrays, said: said["router"].update(kind="os.system"), "no part of a router"),
            (lambda arrays, said: said["router"].update(kind="_Reader"), "no part of a router"),
            (lambda arrays, said: said["router"]["settings"].update(then="run"), "settings"),
            (lambda arrays, said: said["router"]["settings"].update(nu=-1.0), "fit together"),
            (lambda arrays, said: said["router"]["learned"].update(fit=1), "should be"),
            (lambda arrays, said: said["router"]["learned"].pop("layers_"), "fit together"),
            (lambda arrays, said: said["router"]["learned"].update(layers_=[]), "layers"),
            (lambda arrays, said: said["router"]["learned"].update(layers_="x"), "layers"),
            (lambda arrays, said: said["router"]["learned"].update(n_agents_=7), "outputs"),
            (lambda arrays, said: said["router"]["learned"].update(n_agents_=True), "agents"),
            (lambda arrays, said: said["router"]["learned"].update(seed_={"run": "it"}), "unknown"),
            (lambda arrays, said: said["router"]["learned"].update(seed_={"array": "a0"}), "missing"),
            (lambda arrays, said: said["router"]["learned"].update(seed_={"array": "a9"}), "missing"),
            (lambda arrays, said: arrays.update(more=np.zeros(2)), "belong to nothing"),
            (lambda arrays, said: arrays.pop("a0"), "missing"),
            (lambda arrays, said: arrays.update(a0=np.full_like(arrays["a0"], np.nan)), "wrong shape"),
        ],
    )
    def test_a_description_that_does_not_fit_is_refused(self, change, said):
        with pytest.raises(ValueError, match=said):
            loaded(tampered(saved(router_of("linear rejector")), change))

    def test_deep_nesting_is_refused(self):
        def change(arrays, description):
            nested: object = 1
            for _ in range(100):
                nested = [nested]
            description["router"]["learned"]["seed_"] = nested

        with pytest.raises(ValueError, match="nested"):
            loaded(tampered(saved(router_of("linear rejector")), change))

    def test_a_regression_of_another_kind_is_no_meta_router(self):
        def change(arrays, description):
            description["router"]["learned"]["model_"] = 3

        with pytest.raises(ValueError, match="regression is missing"):
            loaded(tampered(saved(router_of("meta-router, ridge")), change))

    def test_another_version_of_scikit_learn_is_named_where_its_parts_do_not_fit(self):
        def change(arrays, description):
            description["about"]["versions"]["scikit-learn"] = "0.1"
            description["router"]["learned"]["out_activation_"] = "unheard of"

        with pytest.raises(ValueError, match=r"saved with scikit-learn 0\.1"):
            loaded(tampered(saved(router_of("network")), change))

    def test_other_files_are_refused(self, tmp_path):
        for content in (b"", b"GIF89a", write_arrays({}, {})):
            path = tmp_path / "file"
            path.write_bytes(content)
            with pytest.raises(ValueError, match="damaged, or Overread did not write it"):
                load(path)

    def test_damaged_bytes_never_give_another_router(self):
        router = router_of("linear rejector")
        content = saved(router)
        rng = np.random.default_rng(2)
        refused = 0
        for place in rng.integers(0, len(content), 60).tolist():
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(rng.integers(8))
            try:
                again, _ = loaded(bytes(damaged))
            except ValueError:
                refused += 1
                continue
            assert answers(again, NEW) == answers(router, NEW)
        assert refused > 30


def test_threads_are_no_part_of_a_router():
    forest = RandomForestRegressor(2, random_state=1, n_jobs=2, verbose=1).fit(FEATURES, TARGET)

    again, _ = loaded(saved(forest))

    assert (again.n_jobs, again.verbose) == (None, 0)


def test_every_kind_is_tried_here():
    assert {type(make()).__name__ for make in ROUTERS.values()} == set(KINDS)
