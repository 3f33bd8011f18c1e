"""Reads and checks the settings of a latency measurement before anything is measured."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from typing import Any

from latency.baselines import LOOP_JAX, LOOP_TORCH, TORCH
from ncp_jax import checks
from ncp_jax.predictors.products import check_precision

AGAINST = (*TORCH, "loop")  # values of --against
PREDICTORS = ("ncp", "shipped")
STREAMED = 65536
"""Above this number of codes a run is a whole ``propagate``, and baselines are timed at this number."""


@dataclasses.dataclass(frozen=True)
class LatencyConfig:
    """Checked settings.

    Attributes:
      codes: numbers of codes inverted at once.
      steps: iterations of each inversion.
      precisions: precisions of the engine's matrix products; baselines compute in float32.
      baselines: names of the engines to compare with.
      repeats: number of timed rounds, after one that is not counted.
      predictor: "ncp" (the authors' architecture, random weights) or "shipped" (the ensemble of the package).
      smoke: whether products are small and pauses left out, for a run of seconds whose numbers mean nothing.
    """

    codes: tuple[int, ...]
    steps: int
    precisions: tuple[str, ...]
    baselines: tuple[str, ...]
    repeats: int
    predictor: str
    smoke: bool = False

    @property
    def baseline_precision(self) -> str:
        """The precision beside which the baselines are timed: float32 where it is measured."""
        return "float32" if "float32" in self.precisions else self.precisions[0]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, JSON-ready: equal for equal settings, however the options were written."""
        fields = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        return {"rivals" if name == "baselines" else name: value for name, value in fields.items()}


def make_config(
    *,
    codes: Iterable[int | str],
    steps: int,
    precision: Iterable[str],
    against: Iterable[str],
    repeats: int,
    predictor: str,
    smoke: bool = False,
) -> LatencyConfig:
    """Reads the options of search_latency.py; lists may be separated by spaces or commas.

    Raises:
      UsageError: a number below 1, an unknown name, a baseline that is not installed, an empty list.
    """
    numbers = tuple(_count("--codes", item, "4096") for item in _items("--codes", codes, "4096"))
    precisions = tuple(check_precision(item) for item in _items("--precision", precision, "float32"))
    asked = {checks.choose("rival", item, AGAINST) for item in _split(against)}
    torch = importlib.util.find_spec("torch") is not None
    wanting = sorted(asked & {*TORCH})
    if wanting and not torch:
        raise checks.UsageError(
            expected=f"PyTorch, for --against {wanting[0]}", got="none installed", remedy='pip install ".[torch]"'
        )
    names = TORCH | {"loop": LOOP_TORCH if torch else LOOP_JAX}
    baselines = tuple(names[name] for name in AGAINST if name in asked)
    if smoke:
        numbers, steps, repeats = tuple(dict.fromkeys(min(n, 64) for n in numbers)), min(steps, 3), min(repeats, 2)
    return LatencyConfig(
        codes=tuple(dict.fromkeys(numbers)),
        steps=_count("--steps", steps, "70"),
        precisions=tuple(dict.fromkeys(precisions)),
        baselines=baselines,
        repeats=_count("--repeats", repeats, "7"),
        predictor=checks.choose("predictor", predictor, PREDICTORS),
        smoke=smoke,
    )


def _split(items: Iterable[int | str]) -> list[str]:
    return [part for item in items for part in str(item).replace(",", " ").split()]


def _items(option: str, items: Iterable[int | str], example: str) -> list[str]:
    found = _split(items)
    if not found:
        raise checks.UsageError(
            expected=f"{option} with at least one value", got="none", remedy=f"try {option} {example}"
        )
    return found


def _count(option: str, value: int | str, example: str) -> int:
    try:
        number: object = int(value)
    except ValueError:
        number = value
    return checks.integer(option, number, least=1, remedy=f"try {option} {example}")
