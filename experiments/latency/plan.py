"""What a latency study measures, checked before anything is measured."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from typing import Any

from latency.rivals import LOOP_JAX, LOOP_TORCH, TORCH
from ncp_jax import checks
from ncp_jax.predictors.products import check_precision

RIVALS = (*TORCH, "loop")
PREDICTORS = ("ncp", "shipped")
STREAMED = 65536
"""Above so many codes a run is a whole ``propagate``, and the rivals' rate is taken at so many codes."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked plan.

    Attributes:
      codes: numbers of codes inverted at once.
      steps: iterations of each inversion.
      precisions: of the engine's matrix products; the rivals compute in float32.
      rivals: names of the engines to compare with.
      repeats: timed rounds, after one that is not counted.
      predictor: "ncp" (the authors' architecture, random weights) or "shipped" (the ensemble of the package).
      smoke: small products and no pauses, for a run of seconds whose numbers mean nothing.
    """

    codes: tuple[int, ...]
    steps: int
    precisions: tuple[str, ...]
    rivals: tuple[str, ...]
    repeats: int
    predictor: str
    smoke: bool = False

    @property
    def compared(self) -> str:
        """The precision beside which the rivals are timed: float32 where it is measured."""
        return "float32" if "float32" in self.precisions else self.precisions[0]

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-ready; equal plans have equal ones, however the options were written."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


def make_plan(
    *,
    codes: Iterable[int | str],
    steps: int,
    precision: Iterable[str],
    against: Iterable[str],
    repeats: int,
    predictor: str,
    smoke: bool = False,
) -> Plan:
    """Reads the options of the experiment; lists may be separated by spaces or commas.

    Raises:
      UsageError: a number below 1, an unknown name, a rival that is not installed, an empty list.
    """
    numbers = tuple(_count("--codes", item, "4096") for item in _items("--codes", codes, "4096"))
    precisions = tuple(check_precision(item) for item in _items("--precision", precision, "float32"))
    asked = {checks.choose("rival", item, RIVALS) for item in _split(against)}
    torch = importlib.util.find_spec("torch") is not None
    wanting = sorted(asked & {*TORCH})
    if wanting and not torch:
        raise checks.UsageError(
            expected=f"PyTorch, for --against {wanting[0]}", got="none installed", remedy='pip install ".[torch]"'
        )
    names = TORCH | {"loop": LOOP_TORCH if torch else LOOP_JAX}
    rivals = tuple(names[name] for name in RIVALS if name in asked)
    if smoke:
        numbers, steps, repeats = tuple(dict.fromkeys(min(n, 64) for n in numbers)), min(steps, 3), min(repeats, 2)
    return Plan(
        codes=tuple(dict.fromkeys(numbers)),
        steps=_count("--steps", steps, "70"),
        precisions=tuple(dict.fromkeys(precisions)),
        rivals=rivals,
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
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise checks.UsageError(expected=f"{option} >= 1", got=str(value), remedy=f"try {option} {example}")
    return number
