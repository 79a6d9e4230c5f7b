"""The figures of all seeds as two tables."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.downstream.data import DataSet
from benchmarks.downstream.training import Chosen

WIDTH = 22
CLOSE_ENOUGH = 2.0  # points below human labels only


@dataclass
class Figures:
    """What one seed gave: the two ends, and each method by the budget's share above the ideal one."""

    calibration_accuracy: float
    machine_accuracy: float = 0.0
    reviews: dict[float, int] = field(default_factory=dict)
    errors_found: dict[float, float] = field(default_factory=dict)
    ends: dict[str, Chosen] = field(default_factory=dict)
    by_budget: dict[float, dict[str, Chosen]] = field(default_factory=dict)


def print_tables(data: DataSet, figures: Sequence[Figures], options: argparse.Namespace) -> None:
    """Test accuracy as mean ± standard deviation over the seeds, in percent, and the gap to human labels only."""
    population = options.train - options.calibration
    print()
    print(
        f"{data.about}: {len(figures)} seeds; {options.train:,} items to train on, {options.test:,} to test"
    )
    print(
        f"machine accuracy {_spread([one.machine_accuracy for one in figures])}, as measured on "
        f"{options.calibration} calibration items {_spread([one.calibration_accuracy for one in figures])}"
    )
    print(
        f"people also label {options.calibration} calibration items ({options.calibration / options.train:.0%} of the "
        f"items) and {options.validation} validation items, for every method alike"
    )
    for title, prefix in (("Table 3", "ACT"), ("Table 6", "CDI")):
        for extra in options.extra:
            share = np.mean([one.reviews[extra] / population for one in figures])
            print()
            found = np.mean([one.errors_found[extra] for one in figures])
            print(
                f"{title}, {_budget_name(extra)}: {share:.1%} of the items reviewed; "
                f"by ACT's threshold rule that meets {found:.0%} of the machine's errors"
            )
            print(f"{'labels and loss':<{WIDTH}}{'accuracy':>16}{'gap':>8}{'closed':>8}  λ")
            _print_rows(figures, extra, prefix)
    print()
    for extra in options.extra:
        _print_verdict(figures, extra)
    print(flush=True)


def _print_rows(figures: Sequence[Figures], extra: float, prefix: str) -> None:
    names = [name for name in figures[0].by_budget[extra] if name.startswith(prefix)]
    for name in (*figures[0].ends, *names):
        chosen = [one.ends.get(name) or one.by_budget[extra][name] for one in figures]
        gap, closed = _gap(figures, extra, name)
        # λ was chosen for the losses alone.
        lambdas = (
            "" if name in figures[0].ends or "cross" in name else " ".join(f"{one.lam:g}" for one in chosen)
        )
        print(
            f"{name:<{WIDTH}}{_spread([one.accuracy for one in chosen]):>16}{gap:>+8.2f}{closed:>8.0%}  {lambdas}"
        )


def _gap(figures: Sequence[Figures], extra: float, name: str) -> tuple[float, float]:
    """(points above human labels only, share of the gap between machine labels only and those that it closes)."""
    mean = {
        key: float(np.mean([(one.ends | one.by_budget[extra])[key].accuracy for one in figures]))
        for key in ("human only", "machine only", name)
    }
    human, machine = mean["human only"], mean["machine only"]
    return 100 * (mean[name] - human), (mean[name] - machine) / (
        human - machine
    ) if human > machine else np.nan


def _print_verdict(figures: Sequence[Figures], extra: float) -> None:
    for rule in ("threshold", "exponential"):
        gap, closed = _gap(figures, extra, f"ACT {rule}")
        print(
            f"{rule} at {_budget_name(extra)}: closes {closed:.0%} of the gap; "
            f"{'within' if gap >= -CLOSE_ENOUGH else 'NOT within'} {CLOSE_ENOUGH:g} points of human labels only"
        )


def _budget_name(extra: float) -> str:
    return f"ideal budget {extra * 100:+g} points" if extra else "ideal budget"


def _spread(accuracies: Sequence[float]) -> str:
    """`93.20 ± 0.41`, in percent; the deviation is that of a sample."""
    mean = 100 * np.mean(accuracies)
    if len(accuracies) == 1:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {100 * np.std(accuracies, ddof=1):.2f}"
