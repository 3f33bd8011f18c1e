"""Answers from a long evolution on the real model: the oracle where there are too many configurations to measure all.

A measured encoder tells the metrics of every width of every decoder on top of it (``measurement``), so encoders alone
evolve. One population serves all questions: parents are the encoders that answer random questions best so far, each as
often as it does. Children mix two parents, and some of their widths become the next larger or smaller ones. This is
this project's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ncp_jax import checks
from ncp_jax.controllable.answers import Answers
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.measurement import measure
from ncp_jax.controllable.search import check_finite, make_answers, questions
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import width_table
from ncp_jax.types import Int, Params

MIXED = 0.2  # chance of each width to come from the second parent
STEPS = 0.5  # widths of a child that take a step, beside one that always does
_TRIES = 50  # draws for each child that is wanted, until an encoder is given up to be new


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Settings of the evolution. It measures at most ``generations * children`` encoders.

    Attributes:
      generations: generations, the first of which is random.
      children: encoders that are measured in each of them.
      questions: random questions of each generation, which choose its parents.
    """

    generations: int = 40
    children: int = 64
    questions: int = 1024

    def __post_init__(self) -> None:
        for name in ("generations", "children", "questions"):
            checks.integer(name, getattr(self, name), least=1, remedy="see EvolutionConfig")


def evolved_answers(
    model: ModelConfig,
    params: Params,
    examples: Examples,
    config: EvolutionConfig | None = None,
    *,
    seed: int = 0,
    split: str = "validation",
    origin: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Returns answers from the measured metrics of encoders that evolve (host-side; not jittable).

    Where all encoders have been measured it ends, and its answers are those of ``search.enumerate_answers``.

    Args:
      model: sizes of the model.
      params: its weights.
      examples: the examples.
      config: settings of the evolution.
      seed: seed of the evolution.
      split: part of the examples that the metrics are measured on.
      origin: hashes of model and data, for the file.
      progress: callback, called with (encoders measured, most of them).

    Raises:
      DataError: the model's outputs are not finite.
    """
    config = EvolutionConfig() if config is None else config
    rng = np.random.default_rng(seed)
    table = width_table(model)[: model.stages]
    # The widths of one ratio for all stages, the smallest and the largest among them, then random ones.
    wanted = [tuple(row) for row in table.T.tolist()][: config.children]
    seen: set[tuple[int, ...]] = set(wanted)
    wanted += _new(lambda: _drawn(table, rng), config.children - len(wanted), seen)
    answers: Answers | None = None
    for _ in range(config.generations):
        if answers is not None:
            parents = _parents(model, answers, config.questions, rng)
            wanted = _new(lambda parents=parents: _child(table, parents, rng), config.children, seen)  # type: ignore[misc]
        if not wanted:
            break
        measured = measure(model, params, examples, np.array(wanted, np.int32), split=split)
        check_finite(measured)
        codes = measured.all_codes()
        values = measured.of(codes)
        if answers is not None:
            codes = np.concatenate([answers.codes, codes])
            values = np.concatenate([answers.measured, values])
        answers = make_answers(model, codes, values, np.full_like(values, np.nan), origin or {})
        if progress is not None:
            progress(len(seen), config.generations * config.children)
    assert answers is not None
    return answers


def _new(draw: Callable[[], tuple[int, ...]], count: int, seen: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Returns encoders that were not seen before, fewer than wanted where nearly all have been; adds them to those."""
    found: list[tuple[int, ...]] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        one = draw()
        if one not in seen:
            seen.add(one)
            found.append(one)
    return found


def _drawn(table: Int[np.ndarray, "s k"], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(rng.choice(widths)) for widths in table)


def _parents(model: ModelConfig, answers: Answers, count: int, rng: np.random.Generator) -> Int[np.ndarray, "q s"]:
    """Returns the encoders that answer random questions best."""
    budgets, preferences = questions(model, count, seed=int(rng.integers(2**31)))
    return answers.query(np.maximum(budgets, answers.flops[0]), preferences).codes[:, : model.stages]


def _child(table: Int[np.ndarray, "s k"], parents: Int[np.ndarray, "q s"], rng: np.random.Generator) -> tuple[int, ...]:
    """Returns a parent with some widths of another one, some of which then take a step: one, rarely more."""
    stages = len(table)
    first, second = parents[rng.integers(0, len(parents), 2)]
    mixed = np.where(rng.random(stages) < MIXED, second, first)
    moved = rng.random(stages) < STEPS / stages
    moved[rng.integers(stages)] = True
    digits = (table == mixed[:, None]).argmax(axis=1) + np.where(moved, rng.choice([-1, 1], stages), 0)
    return tuple(table[np.arange(stages), digits.clip(0, table.shape[1] - 1)].tolist())
