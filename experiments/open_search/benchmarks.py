"""Answers for open-ended searches: trees fitted to a published table, or the table itself where it is complete."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from ncp_jax import get_space, load_table
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS, tables_of_family
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.spaces import Space
from ncp_jax.types import Float, Int

OPEN = ("nas-bench-mr", "fbnet-latency")  # families whose tables hold a part of their spaces of 10^23 and 10^21 codes


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a search is asked, higher is better.

    Attributes:
      name: family and task.
      space: the space.
      oracle: scikit-learn's model of the values; None for a complete table.
      noise: standard deviation of what the oracle's answers vary by.
      values: the values of a complete table by code, in bytes; empty with an oracle.
      ranked: the values of a complete table, sorted.
    """

    name: str
    space: Space
    oracle: object
    noise: float
    values: dict[bytes, float]
    ranked: Float[np.ndarray, " n"]

    def true(self, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Returns the values without noise."""
        if self.oracle is not None:
            return np.asarray(self.oracle.predict(_relaxed(self.space, codes)), float)  # type: ignore[attr-defined]
        return np.array([self.values[code.tobytes()] for code in np.asarray(codes, np.int32)])

    def rank(self, value: float) -> int:
        """Returns the rank of a value in the complete table, 1 for the best."""
        return 1 + len(self.ranked) - int(np.searchsorted(self.ranked, value, side="right"))


def _relaxed(space: Space, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n f"]:
    return np.asarray(space.encode(jnp.asarray(codes, jnp.int32)))


@functools.cache
def load(name: str, *, noisy: bool) -> Benchmark:
    """Returns a benchmark. A table of a whole space ("micro/jigsaw") answers itself, for others an oracle does.

    The oracle of a table of a part of its space ("nas-bench-mr/seg", "fbnet-latency/raspi4") is scikit-learn's
    ``HistGradientBoostingRegressor`` with its own settings, fitted to the relaxed codes and values of all rows. Its
    noise is the standard deviation of the table around it: what the trees do not explain.
    """
    table = load_table(name)
    codes = np.asarray(table.codes, np.int32)
    values = np.asarray(table.oriented(table.main.name), float)
    space = get_space(table.space)
    if len(codes) < space.size:
        from sklearn.ensemble import HistGradientBoostingRegressor

        inputs = _relaxed(space, codes)
        oracle = HistGradientBoostingRegressor(random_state=0).fit(inputs, values)
        noise = float(np.std(values - oracle.predict(inputs))) if noisy else 0.0
        return Benchmark(name, space, oracle, noise, {}, np.zeros(0))
    by_code = {code.tobytes(): value for code, value in zip(codes, values.tolist(), strict=True)}
    return Benchmark(name, space, None, 0.0, by_code, np.sort(values))


def expand(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the tables of families ("nas-bench-mr", "fbnet-latency", "micro", "digits", …) and single tables."""
    found: list[str] = []
    for name in names:
        if "/" in name:
            found.append(name)
        elif name in OPEN:
            found += tables_of_family(name)
        elif name == "digits":
            found += [f"digits/{task}" for task in DIGITS_TASKS]
        else:
            found += [table.name for table in load_tasks(name)]
    return tuple(dict.fromkeys(found))
