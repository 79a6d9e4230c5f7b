"""What training on the product's exports reaches: tables 3 and 6 of the paper, with data and models at hand.

    python -m benchmarks.downstream
    python -m benchmarks.downstream --data tweets --seeds 2 --extra 0 0.1 0.2

Each seed draws items to upload, items for choosing λ and the strength of L2, and test items. The uploaded ones go
through the product with the trained pair: a calibration sample, annotating, criticizing, and for each budget and
sampling rule a round that gold labels answer, and its wide export. The ideal budget is 1 − the annotator's accuracy,
as a candidate run measures it on the calibration items. Then the same small model is trained on each set of labels.
"""

import argparse
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

# Before numpy is loaded: the matrices are small, and threads that wait for each other cost more than they save.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np

from benchmarks.downstream.data import DATA_SETS, DataSet, split, write_upload
from benchmarks.downstream.tables import Figures, print_tables

QUICK = {"seeds": 1, "train": 240, "calibration": 60, "validation": 100, "test": 300}


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="ovd-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OVERREAD_LOCAL": "true",
        "OVERREAD_DATA_DIR": str(folder / "data"),
        "OVERREAD_LOG_LEVEL": "ERROR",
    }
    os.environ.pop("DATABASE_URL", None)
    try:
        import django
        from django.core.management import call_command

        django.setup()
        logging.getLogger("jobs.services").setLevel(logging.ERROR)  # no worker is needed here
        call_command("migrate", verbosity=0)
        for key in options.data:
            measure(DATA_SETS[key](), options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.downstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", choices=list(DATA_SETS), default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=5, help="How often everything is done anew")
    parser.add_argument(
        "--extra", type=float, nargs="+", default=[0.0, 0.1], help="Budgets, as shares above the ideal one"
    )
    parser.add_argument("--train", type=int, default=2000, help="Items to upload")
    parser.add_argument("--calibration", type=int, default=100, help="Of these, the calibration items")
    parser.add_argument("--validation", type=int, default=200, help="Items for choosing λ and the L2")
    parser.add_argument("--test", type=int, default=2000, help="Items for the accuracy that is printed")
    parser.add_argument("--quick", action="store_true", help=f"See that it runs: {QUICK}")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def measure(data: DataSet, options: argparse.Namespace, folder: Path) -> None:
    """Print both tables of one data set."""
    started = time.monotonic()
    figures: list[Figures] = []
    for seed in range(options.seeds):
        work = folder / f"{data.key}-{seed}"
        work.mkdir()
        figures.append(one_seed(data, options, seed, work))
        print(f"{data.key}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    print_tables(data, figures, options)


def one_seed(data: DataSet, options: argparse.Namespace, seed: int, folder: Path) -> Figures:
    # They import Django's models, which need its settings first.
    from benchmarks.downstream import comparison
    from benchmarks.downstream.product import judge

    parts = split(data, train=options.train, validation=options.validation, test=options.test, seed=seed)
    upload = write_upload(data, parts.train, folder)
    judged = judge(data, upload, calibration=options.calibration, seed=seed)
    confidences = judged.confidences()
    figures = Figures(calibration_accuracy=judged.calibration_accuracy)
    trainings = None
    for extra in options.extra:
        budget = judged.budget(extra)
        figures.reviews[extra] = budget
        exports = {
            rule: comparison.read_wide(
                judged.export(rule=rule, budget=budget, path=folder / f"{extra:g}-{rule}.parquet")
            )
            for rule in comparison.RULES
        }
        wide = exports["threshold"]
        if trainings is None:
            trainings = comparison.prepare(data, parts, wide, upload)
            figures.machine_accuracy = comparison.machine_accuracy(wide, trainings.gold)
            figures.ends = dict(comparison.without_people(trainings, wide))
        figures.errors_found[extra] = comparison.errors_found(wide, trainings.gold)
        confidence = np.array([confidences.get(item_id, np.nan) for item_id in wide["item_id"]])
        figures.by_budget[extra] = {
            **dict(comparison.with_act(trainings, exports)),
            **dict(comparison.with_cdi(trainings, wide, confidence, budget=budget, seed=seed)),
        }
    return figures


if __name__ == "__main__":
    main()
