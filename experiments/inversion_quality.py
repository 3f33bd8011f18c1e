"""Measures how well inversion maximizes a predictor: against exhaustive search, and against baselines in equal time.

    python experiments/inversion_quality.py --on-test --seeds 3 --out out/inversion_quality

Part "argmax": on NAS-Bench-201 and TransNAS-Bench-101, where every code can be scored, how often the best one is found.
Part "limits": on the same spaces, what a limit on FLOPs costs against the best of all codes within it.
Part "anytime": on NAS-Bench-MR, the best score after some seconds, against random sampling, evolution and CMA-ES.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from optimization.anytime_baselines import AnytimeBenchmark
    from optimization.argmax import ArgmaxBenchmark, ArgmaxConfig
    from optimization.limits import LimitBenchmark

    from ncp_jax.training import Recipe


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options; ``seeds`` is the number of runs per task in part anytime.

    Attributes:
      parts: parts to run, argmax, limits or anytime; all by default.
      spaces: spaces of parts argmax and limits: nas-bench-201, micro, macro (TransNAS-Bench-101), digits; by default
        those of the first three that are downloaded, or digits; nas-bench-201 only with --on-test.
      pairs: (predictor, objective) pairs per space, eight objectives per predictor.
      ablation: predictors on which the variants are compared too.
      limited: predictors per space in part limits.
      first_seed: seed of the first predictor; the settings were chosen on seeds from 1000 on.
      codes: starts of an inversion in parts argmax and limits.
      steps: gradient steps of an inversion in parts argmax and limits.
      learning_rate: size of these steps.
      share: share of a space that may be scored.
      tasks: NAS-Bench-MR tasks of part anytime; all eight by default.
      rivals: baselines of part anytime: random, evolution, cma-es (needs evosax); all by default.
      budgets: seconds at which inversion and baselines are compared.
      on_test: allow predictors to learn test values (nas-bench-201).
    """

    seeds: int = 3
    parts: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    pairs: int = 200
    ablation: int = 5
    limited: int = 10
    first_seed: int = 0
    codes: int = 64
    steps: int = 20
    learning_rate: float = 30.0
    share: float = 0.19
    tasks: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    budgets: tuple[float, ...] = ()
    on_test: bool = False


PARTS = ("argmax", "limits", "anytime")


def run(config: Config) -> dict[str, Any]:
    """Runs the parts, writes records, figures and summary.json, returns the summary."""
    with compiled_fast(config.smoke):
        return _run(config)


def _run(config: Config) -> dict[str, Any]:
    from harness.tables import all_tasks, shipped_hash
    from optimization.anytime_summary import anytime_figure, anytime_lines, anytime_summary
    from optimization.argmax_summary import argmax_figure, argmax_lines
    from optimization.limits import limit_lines

    from ncp_jax import checks
    from ncp_jax.records.journal import Records

    parts = [checks.choose("part", part, PARTS) for part in config.parts] or list(PARTS)
    argmax = _argmax_benchmark(config) if "argmax" in parts else None
    limits = _limit_benchmark(config) if "limits" in parts else None
    anytime = _anytime_benchmark(config) if "anytime" in parts else None
    settings = config.settings()
    settings |= {} if argmax is None else {"argmax": argmax.to_json()}
    settings |= {} if limits is None else {"limits": limits.to_json()}
    if argmax is not None or limits is not None:
        spaces = _enumerable(config)[0]
        settings["tables"] = {name: all_tasks(name).content_hash() for name in spaces}
    if anytime is not None:
        settings["anytime"] = {key: value for key, value in anytime.to_json().items() if key != "seeds"}
        settings["shipped"] = shipped_hash()
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    results: dict[str, Any] = {}
    if argmax is not None:
        with ProgressBar("argmax") as bar:
            rates = argmax.run(records, bar)
        argmax_figure(rates, config.out / "argmax.png")
        print("\n".join(argmax_lines(rates)))
        results["argmax"] = {
            space: {name: rate.to_json() for name, rate in variants.items()} for space, variants in rates.items()
        }
    if limits is not None:
        with ProgressBar("limits") as bar:
            costs = limits.run(records, bar)
        print("\n".join(limit_lines(costs)))
        results["limits"] = {space: {q: cost.to_json() for q, cost in rows.items()} for space, rows in costs.items()}
    if anytime is not None:
        with ProgressBar("anytime") as bar:
            runs = anytime.run(records, bar)
        compared = anytime_summary(runs, anytime.budgets, "inversion")
        anytime_figure(runs, config.out / "anytime.png", end=max(anytime.budgets))
        print("\n".join(anytime_lines(compared)))
        results["anytime"] = compared.to_json()
    return write_summary(config.out, "inversion_quality", results, settings)


def _enumerable(config: Config) -> tuple[tuple[str, ...], ArgmaxConfig, Recipe]:
    """Returns the spaces of parts argmax and limits, their settings, and the recipe of their predictors."""
    from harness.tables import or_digits, searchable
    from optimization.argmax import ArgmaxConfig

    from ncp_jax.training import get_recipe

    chosen = ArgmaxConfig(
        codes=config.codes,
        steps=config.steps,
        learning_rate=config.learning_rate,
        share=config.share,
        on_test=config.on_test,
    )
    recipe = get_recipe("ensemble")
    published = ("transnas-macro",) if config.smoke else ("nas-bench-201", "transnas-micro", "transnas-macro")
    allowed = searchable(published, on_test=config.on_test)
    spaces = config.spaces or tuple(name.removeprefix("transnas-") for name in or_digits(*allowed))
    if not config.smoke:
        return spaces, chosen, recipe
    small = dataclasses.replace(chosen, codes=16, steps=2, members=2)
    return spaces, small, dataclasses.replace(recipe, widths=(8,), epochs=3, min_steps=0)


def _argmax_benchmark(config: Config) -> ArgmaxBenchmark:
    from optimization.argmax import ArgmaxBenchmark

    pairs, ablation = (2, 0) if config.smoke else (config.pairs, config.ablation)
    return ArgmaxBenchmark(*_enumerable(config), pairs=pairs, ablation=ablation, first_seed=config.first_seed)


def _limit_benchmark(config: Config) -> LimitBenchmark:
    from optimization.argmax import OBJECTIVES
    from optimization.limits import LimitBenchmark

    predictors, objectives = (1, 1) if config.smoke else (config.limited, OBJECTIVES)
    found = LimitBenchmark(*_enumerable(config), predictors, objectives, config.first_seed)
    return dataclasses.replace(found, quantiles=found.quantiles[:1]) if config.smoke else found


def _anytime_benchmark(config: Config) -> AnytimeBenchmark:
    from optimization.anytime import BUDGETS
    from optimization.anytime_baselines import BASELINES, AnytimeBenchmark

    from ncp_jax.benchmarks.catalogue import MR_TASKS

    tasks, budgets = config.tasks or MR_TASKS, config.budgets or BUDGETS
    if config.smoke:
        tasks, budgets = config.tasks or MR_TASKS[:1], config.budgets or (0.02, 0.05)
    return AnytimeBenchmark(tasks, config.rivals or BASELINES, budgets, 1 if config.smoke else config.seeds)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
