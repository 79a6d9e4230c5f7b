"""The downstream benchmark: its arithmetic, and that all of it runs on a few items."""

import csv
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from benchmarks.downstream import cdi
from benchmarks.downstream.data import DATA_SETS, read_images, split, write_upload
from benchmarks.downstream.training import Labeled, Rows, act_rows, choose, fit, rows_of
from review.weights import act_weights

ROOT = Path(__file__).parents[1]


def drawn_items(n=150, n_labels=3, seed=0):
    """A wide export of items whose labels depend on their features, a fifth of the machine's wrong."""
    rng = np.random.default_rng(seed)
    features = np.hstack([rng.normal(size=(n, 4)), np.ones((n, 1))])
    gold = np.argmax(features[:, :n_labels] + 0.3 * rng.normal(size=(n, n_labels)), axis=1).astype(str)
    machine = np.where(rng.random(n) < 0.2, rng.permutation(gold), gold)
    inclusion = rng.uniform(0.1, 1, n)
    selected = rng.random(n) < inclusion
    machine_weight, human_weight = act_weights(selected, inclusion)
    wide = {
        "item_id": np.arange(n, dtype=object),
        "machine_label": machine.astype(object),
        "human_label": np.where(selected, gold, None),
        "final_label": np.where(selected, gold, machine).astype(object),
        "machine_weight": machine_weight.astype(object),
        "human_weight": human_weight.astype(object),
        "status": np.where(selected, "reviewed", "machine").astype(object),
    }
    return features, gold, wide


def own_softmax_regression(features, rows, strength):
    """strength · Σ weight · cross-entropy + ½‖W‖², minimized from the formula; labels × features."""
    labels, targets = np.unique(rows.labels, return_inverse=True)
    inputs = features[rows.items]

    def objective(flat):
        scores = inputs @ flat.reshape(len(labels), -1).T
        normalizer = logsumexp(scores, axis=1)
        chosen = scores[np.arange(len(targets)), targets]
        loss = strength * (rows.weights @ (normalizer - chosen)) + (flat @ flat) / 2
        residual = np.exp(scores - normalizer[:, None])
        residual[np.arange(len(targets)), targets] -= 1
        gradient = strength * (residual * rows.weights[:, None]).T @ inputs
        return loss, gradient.ravel() + flat

    start = np.zeros(len(labels) * features.shape[1])
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 10_000, "ftol": 1e-15}
    )
    return found.x.reshape(len(labels), -1), objective


@pytest.mark.parametrize("lam", [0.6, 1.0])
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_model_minimizes_the_loss_although_weights_are_negative(lam, strength):
    features, _, wide = drawn_items()
    rows = act_rows(wide, lam)
    assert (rows.weights < 0).sum() > 30

    model = fit(features, rows, strength)
    expected, objective = own_softmax_regression(features, rows, strength)

    # A shift of all labels' weights changes no probability, and L2 chooses the same one for both.
    assert model.coef_ == pytest.approx(expected, rel=0.01, abs=0.02)
    # Convex: no other place is lower.
    lowest = objective(model.coef_.ravel())[0]
    rng = np.random.default_rng(1)
    for _ in range(100):
        assert (
            objective((model.coef_ + rng.normal(size=expected.shape) * rng.choice([0.1, 10])).ravel())[0]
            > lowest
        )


def test_without_l2_a_negative_weight_lets_the_loss_fall_without_end():
    # One item with π = ½, of which the machine said a and a person b: −1 on a, 2 on b.
    rows = Rows(np.array([0, 0]), np.array(["a", "b"]), np.array([-1.0, 2.0]))
    features = np.ones((1, 1))

    sizes = [np.abs(fit(features, rows, strength).coef_).max() for strength in (1e0, 1e2, 1e4)]

    assert sizes[0] < sizes[1] / 10 < sizes[2] / 100


def test_rows_are_those_of_the_act_loss():
    _, gold, wide = drawn_items()

    rows = act_rows(wide, 0.8)

    assert (rows.weights != 0).all()
    total = np.zeros(len(gold))
    np.add.at(total, rows.items, rows.weights)
    selected = wide["status"] == "reviewed"
    human = wide["human_weight"].astype(float)
    # λ(1 − δ/π) + δ/π: λ where nobody looked, more where somebody did.
    assert total == pytest.approx(0.8 * (1 - human) + human)
    assert total[~selected] == pytest.approx(0.8)
    assert total.min() > 0


def test_items_without_a_label_are_left_out():
    rows = rows_of(np.arange(3), np.array(["a", None, "b"], dtype=object))

    assert rows.items.tolist() == [0, 2]
    assert rows.weights.tolist() == [1, 1]


def test_the_choice_is_made_by_the_validation_items_alone():
    features, gold, _ = drawn_items()
    wrong = np.where(gold == "0", "1", "0")
    right_rows, wrong_rows = rows_of(np.arange(150), gold), rows_of(np.arange(150), wrong)

    chosen = choose(
        features, {1.0: wrong_rows, 0.6: right_rows}, Labeled(features, gold), Labeled(features, wrong)
    )

    assert chosen.lam == 0.6
    assert chosen.accuracy < 0.5


@pytest.mark.parametrize("rule", ["threshold", "normalize", "exponential"])
def test_cdi_spends_the_same_budget_and_keeps_the_calibration_labels(rule):
    _, gold, wide = drawn_items()
    wide["status"][:20] = "calibration"
    wide["human_label"][:20] = gold[:20]
    wide["machine_label"][:20] = None
    confidence = np.where(wide["machine_label"] == gold, 0.9, 0.4)
    confidence[:20] = np.nan

    plan = cdi.plan(wide, confidence, gold, rule=rule, budget=60, seed=0)

    reviewed = np.array([label is not None for label in plan.human])
    assert reviewed[:20].all()
    assert reviewed[20:].sum() == 60
    assert (plan.human[reviewed] == gold[reviewed]).all()
    rows = plan.act_rows(1.0)
    total = np.zeros(150)
    np.add.at(total, rows.items, rows.weights)
    assert total == pytest.approx(1)
    assert len(plan.final_rows().items) == 150


def test_a_detector_that_knows_finds_the_errors_first():
    _, gold, wide = drawn_items(n=600)
    errors = wide["machine_label"] != gold
    confidence = np.where(errors, 0.4, 0.9)

    plan = cdi.plan(wide, confidence, gold, rule="threshold", budget=300, seed=0)

    reviewed = np.array([label is not None for label in plan.human])
    assert reviewed[errors].all()


def test_splits_are_disjoint_and_differ_by_seed():
    data = DATA_SETS["digits"]()

    first = split(data, train=100, validation=20, test=50, seed=1)

    places = np.concatenate([first.train, first.validation, first.test])
    assert len(np.unique(places)) == len(places) == 170
    assert np.array_equal(first.train, split(data, train=100, validation=20, test=50, seed=1).train)
    assert not np.array_equal(first.train, split(data, train=100, validation=20, test=50, seed=2).train)
    with pytest.raises(ValueError, match="5,000 items; 6,000 are asked for"):
        split(data, train=5000, validation=500, test=500, seed=1)


def test_texts_are_uploaded_with_their_place_as_id_and_their_gold_label(tmp_path):
    data = DATA_SETS["tweets"]()

    path = write_upload(data, np.array([30, 10]), tmp_path)

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"id": str(i), "text": data.texts[i], "gold": data.gold[i]} for i in (30, 10)]


def test_images_are_uploaded_in_a_zip_from_which_they_are_read_again(tmp_path):
    data = DATA_SETS["digits"]()

    path = write_upload(data, np.array([30, 10]), tmp_path)

    with zipfile.ZipFile(path) as archive:
        rows = list(csv.DictReader(archive.read("manifest.csv").decode().splitlines()))
    assert [(row["id"], row["gold"]) for row in rows] == [("30", data.gold[30]), ("10", data.gold[10])]
    images = read_images(path, [row["file"] for row in rows])
    assert [image.tobytes() for image in images] == [data.images[i].tobytes() for i in (30, 10)]


@pytest.mark.timeout(300)
def test_a_quick_run_prints_both_tables_of_both_data_sets():
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.downstream", "--quick"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^((?:human|machine|ACT|CDI) \S+) +([0-9.]+) ", result.stdout, re.MULTILINE)
    accuracies: dict[str, list[float]] = {}
    for name, accuracy in rows:
        accuracies.setdefault(name, []).append(float(accuracy))
    ends = {"human only", "machine only"}
    losses = ("cross-entropy", "normalize", "exponential", "threshold")
    assert set(accuracies) == ends | {f"{who} {loss}" for who in ("ACT", "CDI") for loss in losses}
    # Two data sets with two budgets each; both tables show the two ends.
    assert {name: len(found) for name, found in accuracies.items()} == {
        name: 8 if name in ends else 4 for name in accuracies
    }
    for data_set in (0, 1):
        human, machine = accuracies["human only"][4 * data_set], accuracies["machine only"][4 * data_set]
        assert human > machine
        assert accuracies["ACT threshold"][2 * data_set + 1] > machine
    assert result.stdout.count("threshold at ideal budget +10 points: closes") == 2
