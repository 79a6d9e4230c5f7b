"""What each training set reaches, for one data set and seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.downstream import cdi
from benchmarks.downstream.data import (
    DataSet,
    ImageFeatures,
    LabelArray,
    Split,
    TextFeatures,
    read_images,
)
from benchmarks.downstream.training import (
    LAMBDAS,
    Chosen,
    FloatArray,
    Labeled,
    Rows,
    act_rows,
    choose,
    rows_of,
)

Wide = dict[str, npt.NDArray[Any]]

RULES = ("normalize", "exponential", "threshold")


def read_wide(path: Path) -> Wide:
    """The columns of a wide Parquet export, None where a cell is empty."""
    table = pq.read_table(path)
    return {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}


@dataclass(frozen=True)
class Comparison:
    """The features of everything, and a training of the small model on whatever rows."""

    features: Any
    gold: LabelArray
    validation: Labeled
    test: Labeled

    def of(self, by_lambda: Mapping[float, Rows]) -> Chosen:
        return choose(self.features, by_lambda, self.validation, self.test)

    def plain(self, rows: Rows) -> Chosen:
        return self.of({1.0: rows})


def prepare(data: DataSet, split: Split, wide: Wide, upload: Path) -> Comparison:
    """Features of the export's items, in its order, and of the items that were never uploaded.

    The gold labels are found by the external ids, which are the items' places in the data set.
    """
    features: TextFeatures | ImageFeatures
    if data.texts:
        texts = wide["text"].tolist()
        features = TextFeatures(texts)
        train = features(texts)

        def outside(places: npt.NDArray[np.intp]) -> Any:
            return features([data.texts[place] for place in places])

    else:
        images = read_images(upload, wide["file"].tolist())
        features = ImageFeatures(images)
        train = features(images)

        def outside(places: npt.NDArray[np.intp]) -> Any:
            return features([data.images[place] for place in places])

    return Comparison(
        train,
        data.gold[wide["external_id"].astype(np.intp)],
        Labeled(outside(split.validation), data.gold[split.validation]),
        Labeled(outside(split.test), data.gold[split.test]),
    )


def machine_accuracy(wide: Wide, gold: LabelArray) -> float:
    """Share of the machine's labels that are right."""
    annotated = wide["machine_label"] != np.array(None)
    return float(np.mean(wide["machine_label"][annotated] == gold[annotated]))


def errors_found(wide: Wide, gold: LabelArray) -> float:
    """Of the machine's errors, the share that was reviewed (the AQG of the round's budget)."""
    wrong = (wide["machine_label"] != np.array(None)) & (wide["machine_label"] != gold)
    return float(np.mean(wide["status"][wrong] == "reviewed")) if wrong.any() else 1.0


def without_people(comparison: Comparison, wide: Wide) -> Iterator[tuple[str, Chosen]]:
    """The two ends: gold labels of all the items, and the machine's labels alone."""
    items = np.arange(len(comparison.gold))
    yield "human only", comparison.plain(rows_of(items, comparison.gold))
    yield "machine only", comparison.plain(rows_of(items, wide["machine_label"]))


def with_act(comparison: Comparison, exports: Mapping[str, Wide]) -> Iterator[tuple[str, Chosen]]:
    """Plain cross-entropy on the final labels of the threshold rule's export, and the loss of each rule's."""
    final = exports["threshold"]["final_label"]
    yield "ACT cross-entropy", comparison.plain(rows_of(np.arange(len(final)), final))
    for rule in RULES:
        yield f"ACT {rule}", comparison.of({lam: act_rows(exports[rule], lam) for lam in LAMBDAS})


def with_cdi(
    comparison: Comparison, wide: Wide, confidence: FloatArray, *, budget: int, seed: int
) -> Iterator[tuple[str, Chosen]]:
    """The same as `with_act` with as many reviews, chosen as CDI does."""
    plans = {
        rule: cdi.plan(wide, confidence, comparison.gold, rule=rule, budget=budget, seed=seed)
        for rule in RULES
    }
    yield "CDI cross-entropy", comparison.plain(plans["threshold"].final_rows())
    for rule, plan in plans.items():
        yield f"CDI {rule}", comparison.of({lam: plan.act_rows(lam) for lam in LAMBDAS})
