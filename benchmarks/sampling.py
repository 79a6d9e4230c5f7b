"""Seconds that ABS, the sampling rules and the draw take on one core, and how fast that grows with the items.

    python -m benchmarks.sampling

At 1,000,000 items each must stay under 2 seconds, and from size to size grow no faster than N log N, with some room
for the noise of a busy machine and for arrays that no longer fit the processor's caches.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial

# Before numpy is loaded, so that its libraries start no threads.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np

from criticize.metrics import area_under_budget_sensitivity
from review.sampling import RULES, draw, inclusion_probabilities

SIZES = (10_000, 100_000, 1_000_000)
BUDGET_SHARE = 0.1
LIMIT_SECONDS = 2.0
# N log N from 10,000 to 1,000,000 items is N to the power 1.09.
ROOM = 0.15

Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--repeat", type=int, default=5, help="The fastest of so many counts")
    options = parser.parse_args()
    sizes = sorted(options.sizes)
    print(f"{'':<24}" + "".join(f"{size:>12,}" for size in sizes) + f"{'exponent':>12}")
    missed = []
    for name in works(sizes[0]):
        seconds = [fastest(works(size)[name], options.repeat) for size in sizes]
        exponent = growth(sizes, seconds)
        print(f"{name:<24}" + "".join(f"{second:>11.4f}s" for second in seconds) + f"{exponent:>12.2f}")
        if seconds[-1] > LIMIT_SECONDS or exponent > n_log_n(sizes) + ROOM:
            missed.append(name)
    print(f"{'N log N':<24}" + " " * 12 * len(sizes) + f"{n_log_n(sizes):>12.2f}")
    if missed:
        sys.exit(f"Too slow, or growing too fast: {', '.join(missed)}.")


def works(size: int) -> dict[str, Work]:
    """What is timed, by name, on `size` items whose error probabilities all differ, which is the most work."""
    rng = np.random.default_rng(size)
    error_prob = rng.beta(0.5, 2.0, size)
    is_error = rng.random(size) < error_prob
    budget = max(1, int(size * BUDGET_SHARE))
    timed: dict[str, Work] = {"ABS": partial(area_under_budget_sensitivity, error_prob, is_error)}
    for rule in RULES:
        timed[rule] = partial(inclusion_probabilities, error_prob, budget, rule, rng=rng)
    inclusion, _ = inclusion_probabilities(error_prob, budget, "exponential")
    timed["draw"] = partial(draw, inclusion, rng=rng)
    return timed


def fastest(work: Work, repeat: int) -> float:
    """Seconds of processor time of the fastest of `repeat` calls: other programs do not count."""
    seconds = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def growth(sizes: list[int], seconds: list[float]) -> float:
    """The power of N that fits the seconds best: the slope of log seconds over log N."""
    if len(sizes) < 2:
        return math.nan
    slope, _ = np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-9)), 1)
    return float(slope)


def n_log_n(sizes: list[int]) -> float:
    return growth(sizes, [size * math.log(size) for size in sizes])


if __name__ == "__main__":
    main()
