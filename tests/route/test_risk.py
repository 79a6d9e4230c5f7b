"""The disagreement scorer learns from few labels, is seeded, and says where nothing can be learned."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from route.risk import PENALTIES, DisagreementScorer, LogisticScorer, TextImageSimilarity

SCORERS = [DisagreementScorer(random_state=0), LogisticScorer()]


def items(n: int, seed: int, n_features: int = 6):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n_features))
    logits = -1.2 + 1.2 * features[:, 0] + 1.2 * features[:, 1] * features[:, 2]
    return features, rng.random(n) < 1 / (1 + np.exp(-logits))


def test_items_that_are_likely_wrong_come_first_and_curved_borders_are_learned():
    features, errors = items(800, seed=1)
    new, new_errors = items(4_000, seed=2)

    scorer = DisagreementScorer(random_state=0).fit(features, errors)
    predicted = scorer.predict(new)

    assert roc_auc_score(new_errors, predicted) > 0.78
    assert (
        roc_auc_score(new_errors, predicted)
        > roc_auc_score(new_errors, LogisticScorer().fit(features, errors).predict(new)) + 0.03
    )
    assert scorer.auc_ == pytest.approx(roc_auc_score(new_errors, predicted), abs=0.06)
    assert scorer.log_loss_ is not None
    assert scorer.constant_log_loss_ is not None
    assert scorer.log_loss_ < scorer.constant_log_loss_
    assert scorer.penalty_ in PENALTIES
    assert scorer.fallback_ is None


def test_probabilities_mean_what_they_say():
    features, errors = items(800, seed=3)
    new, new_errors = items(8_000, seed=4)

    predicted = DisagreementScorer(random_state=0).fit(features, errors).predict(new)

    for low, high in [(0.0, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 1.0)]:
        inside = (predicted >= low) & (predicted < high)
        assert inside.sum() > 200
        assert predicted[inside].mean() == pytest.approx(new_errors[inside].mean(), abs=0.08)


def test_features_that_say_nothing_leave_the_share_of_errors():
    rng = np.random.default_rng(5)
    features, errors = rng.normal(size=(60, 30)), np.arange(60) % 4 == 0

    scorer = DisagreementScorer(random_state=0).fit(features, errors)

    assert scorer.predict(rng.normal(size=(500, 30))) == pytest.approx(np.full(500, 0.25), abs=0.2)
    assert scorer.log_loss_ is not None
    assert scorer.constant_log_loss_ is not None
    assert scorer.log_loss_ > scorer.constant_log_loss_ - 0.05


def test_the_same_seed_gives_the_same_scorer():
    features, errors = items(120, seed=6)

    one, same, other = (DisagreementScorer(random_state=seed).fit(features, errors) for seed in (1, 1, 2))

    assert np.array_equal(one.predict(features), same.predict(features))
    assert not np.array_equal(one.predict(features), other.predict(features))
    unseeded = DisagreementScorer().fit(features, errors)
    again = DisagreementScorer(random_state=unseeded.seed_).fit(features, errors)
    assert np.array_equal(unseeded.predict(features), again.predict(features))


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("errors", "constant", "said"), [(0, 1 / 12, "equal"), (1, 11 / 12, "differ")])
def test_labels_of_one_kind_give_the_smoothed_share(scorer, errors, constant, said):
    features = np.random.default_rng(0).normal(size=(10, 3))

    fitted = scorer.fit(features, np.full(10, errors))

    assert fitted.predict(features) == pytest.approx(np.full(10, constant))
    assert said in fitted.fallback_


@pytest.mark.parametrize("scorer", SCORERS)
def test_items_that_are_all_alike_give_the_smoothed_share(scorer):
    fitted = scorer.fit(np.ones((8, 2)), [1, 0, 0, 0, 0, 0, 0, 0])

    assert fitted.predict([[5.0, 7.0]]) == pytest.approx([0.2])
    assert "same features" in fitted.fallback_


def test_a_fallback_reports_nothing_that_was_not_measured():
    scorer = DisagreementScorer(random_state=0).fit(np.eye(4), np.zeros(4))

    assert (scorer.auc_, scorer.log_loss_, scorer.penalty_, scorer.n_validated_) == (None, None, None, 0)


def test_a_single_error_is_learned_from_but_nothing_is_measured():
    features = np.random.default_rng(0).normal(size=(30, 3))

    scorer = DisagreementScorer(random_state=0).fit(features, np.arange(30) == 4)

    assert scorer.auc_ is None
    assert 0 < scorer.predict(features).min() < scorer.predict(features).max() < 1


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_constant_feature_and_the_units_of_others_change_nothing(scorer):
    features, errors = items(150, seed=7)
    plain = scorer.fit(features, errors).predict(features)

    widened = np.hstack([features * 1000 + 5, np.full((150, 1), 3.0)])

    assert scorer.fit(widened, errors).predict(widened) == pytest.approx(plain, abs=0.01)


def test_more_features_than_labels_are_reduced():
    rng = np.random.default_rng(8)
    hidden = rng.normal(size=(80, 2))
    features = hidden @ rng.normal(size=(2, 200)) + 0.1 * rng.normal(size=(80, 200))

    scorer = DisagreementScorer(random_state=0).fit(features, hidden[:, 0] > 0.5)

    assert scorer.auc_ is not None
    assert scorer.auc_ > 0.9
    assert scorer.layers_[0][0].shape == (200, 16)


def test_what_the_layers_say_is_what_is_predicted():
    features, errors = items(60, seed=9)
    scorer = DisagreementScorer(random_state=0).fit(features, errors)

    (first, biases), (last, bias) = scorer.layers_
    logits = np.tanh(features @ first + biases) @ last + bias

    assert scorer.predict(features) == pytest.approx(1 / (1 + np.exp(-logits[:, 0])))


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(
    ("features", "errors", "sentence"),
    [
        ([[np.nan], [1.0]], [0, 1], "finite"),
        ([[np.inf], [1.0]], [0, 1], "finite"),
        ([1.0, 2.0], [0, 1], "shape"),
        (np.empty((0, 2)), [], "at least one"),
        ([[1.0], [2.0]], [0, 2], "true or false"),
        ([[1.0], [2.0]], [0, np.nan], "true or false"),
        ([[1.0], [2.0]], [0], "each of the 2 items"),
    ],
)
def test_wrong_values_are_refused(scorer, features, errors, sentence):
    with pytest.raises(ValueError, match=sentence):
        scorer.fit(features, errors)


@pytest.mark.parametrize("kind", [DisagreementScorer, LogisticScorer])
def test_prediction_needs_a_fit_and_the_same_features(kind):
    with pytest.raises(ValueError, match="fitted first"):
        kind().predict([[1.0]])
    with pytest.raises(ValueError, match="2 features"):
        kind().fit([[1.0, 2.0], [2.0, 1.0]], [0, 1]).predict([[1.0]])


@pytest.mark.parametrize("hidden", [(), (0,)])
def test_a_network_without_units_is_refused(hidden):
    with pytest.raises(ValueError, match="hidden layer"):
        DisagreementScorer(hidden)


def pairs(n, seed=0, shared=True):
    """Vectors of texts and of images that say the same three things, or nothing of each other."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(n, 3))
    mixing = np.random.default_rng(99)
    text, image = mixing.normal(size=(3, 12)), mixing.normal(size=(3, 20))
    seen = said if shared else rng.normal(size=(n, 3))
    return said @ text + rng.normal(size=(n, 12)), seen @ image + rng.normal(size=(n, 20))


def test_a_text_and_the_image_of_another_item_are_told_apart():
    similarity = TextImageSimilarity(1).fit(*pairs(200))
    texts, images = pairs(100, seed=5)

    own = similarity.predict(texts, images)
    other = similarity.predict(texts, np.roll(images, 1, axis=0))

    assert similarity.fallback_ is None
    assert similarity.agreement_ is not None
    assert similarity.agreement_ > 0.9
    assert (own > other).mean() > 0.9
    assert (np.abs(own) <= 1 + 1e-12).all()
    again = TextImageSimilarity(1).fit(*pairs(200))
    assert again.predict(texts, images).tolist() == own.tolist()


def test_texts_and_images_that_have_nothing_in_common_are_said_to():
    similarity = TextImageSimilarity(1).fit(*pairs(200, shared=False))

    assert "nothing of an image" in str(similarity.fallback_)
    assert similarity.agreement_ == pytest.approx(0.5, abs=0.1)
    assert "too few" in str(TextImageSimilarity(1).fit(*pairs(19)).fallback_)


def test_similarities_of_wrong_shapes_are_refused():
    texts, images = pairs(30)
    with pytest.raises(ValueError, match="one of its image"):
        TextImageSimilarity().fit(texts, images[:-1])
    with pytest.raises(ValueError, match="fitted first"):
        TextImageSimilarity().predict(texts, images)
    with pytest.raises(ValueError, match="length"):
        TextImageSimilarity().fit(texts, images).predict(images, texts)
    constant = TextImageSimilarity().fit(np.ones((30, 4)), np.ones((30, 5)))
    assert constant.fallback_
    assert constant.predict(np.ones((2, 4)), np.ones((2, 5))).tolist() == [0, 0]
