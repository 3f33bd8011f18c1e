"""Chooses the unit in which float32 arrays hold a column that they cannot hold in its own unit.

Nearly all columns stay as they are. A column of values around 1e9 that differ by 1, or one of values around 1e-30 or
1e20, is shifted and scaled before it is rounded to float32. In a column that spans many orders of magnitude, or has an
outlier far beyond all other values, a mean and a standard deviation describe the few largest values alone. Such a
column is stored as a logarithm: standard units, weights of objectives and trained networks then refer to the logarithm.
"""

from __future__ import annotations

import math

import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import StoredUnit
from ncp_jax.types import Float

WIDE = 1e-2  # a column beyond LARGEST is wide if its median deviation is a smaller share of its standard deviation
LOST = 1e-7  # any other is wide if float32 cannot tell typical values apart after division by the standard deviation
LARGEST, SMALLEST = 1e15, 2e-6  # magnitudes and deviations whose squares, and sums of them, are safe in float32
RESOLVED = 1e-4  # share of the largest value that the standard deviation needs to be precise in float32
ROUNDING = 8 * float(np.finfo(np.float64).eps)  # relative differences up to this are what rounding leaves
EXTREME = 1e300  # values beyond it could overflow float64 itself
RANGE = 1e290  # largest ratio of a value to the scale


def choose_stored_unit(name: str, column: Float[np.ndarray, " n"]) -> StoredUnit | None:
    """Returns the unit in which to store a column; None if float32 can hold it as it is.

    Args:
      name: name of the column, for the error texts.
      column: finite float64 values.

    Raises:
      DataError: values beyond 1e300, or values that differ by nothing but rounding.
    """
    top = float(np.abs(column).max())
    if top > EXTREME:
        raise checks.DataError(
            expected=f"values up to {EXTREME:g} in column {name!r}", got=f"{top:g}", remedy="give its logarithm"
        )
    least, most = float(column.min()), float(column.max())
    if least == most:
        held = top == 0 or 1 / LARGEST**2 < top < LARGEST**2
        return None if held else StoredUnit("linear", least, 1.0)
    if most - least <= ROUNDING * top:
        raise checks.DataError(
            expected=f"a metric that varies in column {name!r}",
            got=f"values from {least:.17g} to {most:.17g}, which are equal but for rounding",
            remedy="leave the column out, or subtract what all values share before they are rounded",
        )
    # Shifted and scaled by powers of two and by a value, which is exact where the values are near each other.
    unit = _power_of_two(most - least)
    shifted = (column - least) / unit
    deviation = float(shifted.std())
    wide = WIDE if top > LARGEST else LOST
    if _median_deviation(shifted) < wide * deviation:
        distinct = np.unique(column)
        if _median_deviation((distinct - least) / unit) < wide * float(((distinct - least) / unit).std()):
            return _log_unit(distinct)
    deviation *= unit
    if top <= LARGEST and deviation >= max(SMALLEST, RESOLVED * top):
        return None
    centre = column[np.argmin(np.abs(shifted - shifted.mean()))]
    return StoredUnit("linear", float(centre), _power_of_two(deviation))


def fill_blanks(column: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns a column without NaN that is stored in the unit that suits its measured values."""
    missing = np.isnan(column)
    if not missing.any():
        return column
    known = np.unique(column[~missing])
    if len(known) > 1:
        return np.where(missing, known[0], column)
    # One value or none: any other values will do.
    first = known[0] if len(known) else 0.0
    return np.where(missing, first + np.arange(1, len(column) + 1) * max(1.0, abs(first)), column)


def _log_unit(distinct: Float[np.ndarray, " n"]) -> StoredUnit:
    """Returns the logarithm, of the values or of their distances from the median, that tells typical values apart.

    The logarithm of the values suits those that span many orders of magnitude, that of the distances suits outliers.
    """
    top = float(np.abs(distinct).max())
    median = float(np.median(distinct))
    if distinct[0] > 0:
        values = StoredUnit("log", 0.0, median)
    else:
        values = StoredUnit("asinh", 0.0, max(float(np.abs(distinct[distinct != 0]).min()), top / RANGE))
    units = [values, StoredUnit("asinh", median, max(_median_deviation(distinct), top / RANGE))]
    stored = [unit.store(distinct) for unit in units]
    shares = [_median_deviation(column) / float(column.std()) for column in stored]
    return units[int(np.argmax(shares))]


def _median_deviation(values: Float[np.ndarray, " n"]) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _power_of_two(value: float) -> float:
    return math.ldexp(1.0, max(round(math.log2(value)), -1070))
