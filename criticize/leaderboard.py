"""How good candidates are on the calibration items: shares with intervals, and what separates them."""

import math
import numbers

from scipy.special import ndtri


def wilson_interval(right: int, judged: int, level: float = 0.95) -> tuple[float, float]:
    """Lowest and highest share, in [0, 1], that `right` of `judged` random items agree with: Wilson's score interval.

    It contains right / judged. Nothing judged says nothing: (0, 1). Raises ValueError unless both are whole
    numbers with 0 ≤ right ≤ judged and 0 < level < 1.
    """
    if not all(isinstance(count, numbers.Integral) for count in (right, judged)):
        raise ValueError("An interval is computed from whole numbers of items.")
    if not 0 <= right <= judged:
        raise ValueError("The numbers must satisfy 0 ≤ right ≤ judged.")
    if not 0 < level < 1:
        raise ValueError("The level of an interval must lie between 0 and 1.")
    if not judged:
        return 0.0, 1.0
    z = float(ndtri((1 + level) / 2))
    spread = z * math.sqrt(z * z / 4 + right * (judged - right) / judged)
    # Exactly 0 and 1 at the ends, where rounding could leave a little more or less.
    low = (right + z * z / 2 - spread) / (judged + z * z) if right else 0.0
    high = (right + z * z / 2 + spread) / (judged + z * z) if right < judged else 1.0
    return low, high
