"""How good the optimum is that inversion finds: against exhaustive search, and against rivals at equal wall time.

    python experiments/inversion_quality.py --seeds 3 --out out/inversion_quality

Part "argmax": on NAS-Bench-201 and TransNAS-Bench-101 every code can be scored; how often is the best of them found?
Part "anytime": on NAS-Bench-MR the best objective after a time, against random sampling, evolution and CMA-ES.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, run_main

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from races.anytime_rivals import Tournament
    from races.argmax import Comparison


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options; ``seeds`` are those of the races.

    Attributes:
      parts: argmax, anytime; both without it.
      spaces: of part argmax: nas-bench-201, micro, macro (TransNAS-Bench-101), digits; without it those of the first
        three that are downloaded, or digits.
      pairs: (predictor, objective) pairs a space, eight objectives a predictor.
      ablation: predictors on which the variants are compared too.
      first_seed: of the predictors; settings were chosen on those from 1000 on.
      codes: starts of an inversion in part argmax.
      steps: its gradient steps.
      learning_rate: their size.
      share: of a space, that may be scored.
      tasks: of part anytime, NAS-Bench-MR tasks; all eight without it.
      rivals: random, evolution, cma-es (needs evosax); all without it.
      budgets: seconds at which the races are compared.
    """

    seeds: int = 3
    parts: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    pairs: int = 200
    ablation: int = 5
    first_seed: int = 0
    codes: int = 64
    steps: int = 20
    learning_rate: float = 30.0
    share: float = 0.19
    tasks: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    budgets: tuple[float, ...] = ()


PARTS = ("argmax", "anytime")


def run(config: Config) -> dict[str, Any]:
    """Runs the parts, writes records, figures and summary.json, returns the summary."""
    from races import anytime_summary, argmax_summary

    from ncp_jax import checks
    from ncp_jax.records.journal import Records, write_json
    from ncp_jax.records.run_card import run_card

    parts = [checks.choose("part", part, PARTS) for part in config.parts] or list(PARTS)
    comparison = _comparison(config) if "argmax" in parts else None
    tournament = _tournament(config) if "anytime" in parts else None
    settings = config.settings()
    settings |= {} if comparison is None else {"argmax": comparison.to_json()}
    settings |= {} if tournament is None else {"anytime": tournament.to_json()}
    records = Records(config.out, settings, resume=config.resume)
    summary: dict[str, Any] = {}
    if comparison is not None:
        with ProgressBar("argmax") as bar:
            summary["argmax"] = comparison.run(records, bar)
        argmax_summary.argmax_figure(summary["argmax"], config.out / "argmax.png")
        print("\n".join(argmax_summary.argmax_lines(summary["argmax"])))
    if tournament is not None:
        with ProgressBar("races") as bar:
            races = tournament.run(records, bar)
        summary["anytime"] = anytime_summary.summarise(races, tournament.budgets, "inversion")
        anytime_summary.anytime_figure(races, config.out / "anytime.png", end=max(tournament.budgets))
        print("\n".join(anytime_summary.anytime_lines(summary["anytime"])))
    write_json(config.out / "summary.json", summary | {"config": settings, **run_card()})
    return summary


def _comparison(config: Config) -> Comparison:
    from harness.tables import or_digits
    from races.argmax import ArgmaxConfig, Comparison

    from ncp_jax.training import get_recipe

    chosen = ArgmaxConfig(
        codes=config.codes, steps=config.steps, learning_rate=config.learning_rate, share=config.share
    )
    recipe = get_recipe("ensemble")
    published = ("transnas-macro",) if config.smoke else ("nas-bench-201", "transnas-micro", "transnas-macro")
    spaces = config.spaces or tuple(name.removeprefix("transnas-") for name in or_digits(*published))
    if not config.smoke:
        return Comparison(spaces, chosen, recipe, config.pairs, config.ablation, config.first_seed)
    recipe = dataclasses.replace(recipe, widths=(8,), epochs=3, min_steps=0)
    small = dataclasses.replace(chosen, codes=16, steps=2, members=2)
    return Comparison(spaces, small, recipe, pairs=2, ablation=0, first_seed=config.first_seed)


def _tournament(config: Config) -> Tournament:
    from races.anytime import BUDGETS
    from races.anytime_rivals import RIVALS, Tournament

    from ncp_jax.benchmarks.catalogue import MR_TASKS

    tasks, budgets = config.tasks or MR_TASKS, config.budgets or BUDGETS
    if config.smoke:
        tasks, budgets = config.tasks or MR_TASKS[:1], config.budgets or (0.02, 0.05)
    return Tournament(tasks, config.rivals or RIVALS, budgets, 1 if config.smoke else config.seeds)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
