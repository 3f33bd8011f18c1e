"""Measures how far budgets and preferences steer one multi-task model, against models that steer less.

    python experiments/controllable.py --seeds 3 --out out/controllable

Compares a model of free widths with one ratio for the whole model, fixed decoders, no distillation of features, no
distillation of outputs, and static models of the same cost trained as long.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from width_control.methods import Asked

    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import SearchConfig
    from ncp_jax.controllable.tasks import Examples
    from ncp_jax.records.journal import Records
    from ncp_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      seeds: repetitions, each with its own weights, images and widths.
      steps: gradient steps of every model.
      channels: channels of each encoder stage at full width.
      strides: 1 or 2 for each stage; by default 1, then 2 for all others.
      decoder: channels of each decoder at full width.
      budgets: budgets of the comparison.
      rays: preferences of the comparison, for each budget.
      together: runs that are vmapped at once.
    """

    seeds: int = 3
    steps: int = 1500
    channels: tuple[int, ...] = (8, 16, 24)
    strides: tuple[int, ...] = ()
    decoder: int = 16
    budgets: int = 4
    rays: int = 48
    together: int = 3


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is trained, and what is asked of it.

    Attributes:
      model: sizes of all models.
      examples: examples of the tasks.
      train: settings of the training.
      search: settings of the search for answers.
      asked: budgets and preferences.
      static: numbers of the ratios at which static models are trained.
      few: configurations that are timed one at a time.
    """

    model: ModelConfig
    examples: Examples
    train: TrainConfig
    search: SearchConfig
    asked: Asked
    static: tuple[int, ...]
    few: int


def _plan(config: Config) -> _Plan:
    from width_control.methods import Asked

    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import RECIPE, SearchConfig
    from ncp_jax.controllable.tasks import digits_examples

    examples = digits_examples(copies=1 if config.smoke else 4)
    sizes: dict[str, Any] = {"channels": config.channels, "strides": config.strides, "decoder": config.decoder}
    train, search, rays, few = TrainConfig(steps=config.steps), SearchConfig(), config.rays, 20
    if config.smoke:
        examples = examples.every(6)
        sizes = {"channels": (4,), "strides": (1,), "decoder": 4, "ratios": (0.5, 1.0)}
        train = TrainConfig(steps=4, batch=8, segment=4)
        recipe = dataclasses.replace(RECIPE, widths=(8,), epochs=1, min_steps=0)
        search = SearchConfig(sample=24, audit=8, budgets=1, preferences=4, codes=16, steps=2, members=2, recipe=recipe)
        rays, few = 6, 1
    model = ModelConfig(8, 1, examples.kinds, **sizes)
    static = sorted({0, len(model.ratios) // 2 - 1, len(model.ratios) - 1})
    return _Plan(model, examples, train, search, Asked.make(model, config.budgets, rays), tuple(static), few)


def run(config: Config) -> dict[str, Any]:
    """Trains all runs, measures each, writes records, a figure and summary.json; returns the summary."""
    from width_control import methods, summary

    from ncp_jax.records.journal import Records

    plan = _plan(config)
    settings = config.settings() | {
        "data": plan.examples.digest,
        "model": plan.model.to_json(),
        "train": dataclasses.asdict(plan.train),
    }
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    with compiled_fast(config.smoke):
        _run_missing(methods.METHODS, plan.train, plan, config, records)
        names = tuple(methods.STATIC + str(number) for number in plan.static)
        _run_missing(names, dataclasses.replace(plan.train, sampled=1), plan, config, records)

    results = {(r["cell"]["seed"], r["cell"]["method"]): r["results"] for r in records}
    tasks = [target.name for target in plan.model.targets]
    content = summary.controllability(results, plan.asked, config.seeds)
    content["static_gap"] = summary.static_gaps(results, plan.model.ratios, plan.static, tasks, config.seeds)
    content["searches"] = summary.searches(results, config.seeds)
    content["speed"] = results[0, "controllable"]["speed"]
    content["skipped"] = sum(result["skipped"] for result in results.values())
    summary.volume_figure(content, plan.asked, config.out / "controllability.png")
    written = write_summary(config.out, "controllable", content, settings)
    _print(content)
    return written


def _run_missing(names: tuple[str, ...], train: TrainConfig, plan: _Plan, config: Config, records: Records) -> None:
    """Trains the runs that are not on record, all in one program, and measures them."""
    from width_control import methods

    from ncp_jax.controllable.training import train_models

    pairs = [(seed, name) for seed in range(config.seeds) for name in names]
    left = [(seed, name) for seed, name in pairs if records.get({"seed": seed, "method": name}) is None]
    if not left:
        return
    runs = [methods.run_settings(name, plan.model, train, seed) for seed, name in left]
    folder = config.out / "checkpoints" / f"{names[0]}-{len(left)}-runs-{left[0][0]}"
    with ProgressBar("training steps") as bar:
        trained = train_models(
            plan.model, plan.examples, runs, train=train, folder=folder, together=config.together, progress=bar
        )
    for number, (seed, name) in enumerate(left):
        found = _measured(name, trained.run(number), plan, seed)
        records.add({"seed": seed, "method": name}, found | {"skipped": int(trained.skipped[number])})


def _measured(name: str, params: Params, plan: _Plan, seed: int) -> dict[str, Any]:
    """Returns what one run reaches, JSON-ready; of the controllable model also how its searches do."""
    from width_control import methods

    trained = (plan.model, params, plan.examples)
    if name.startswith(methods.STATIC):
        return methods.measure_static(name, *trained)
    found, validation, test = methods.measure_run(name, *trained, plan.asked)
    if name == "controllable":
        found["searches"] = methods.compare_searches(*trained, (validation, test), plan.search, seed)
        if seed == 0:
            found["speed"] = methods.measurement_speed(*trained, plan.few)
    return found


def _print(content: dict[str, Any]) -> None:
    for method, row in content["controllability"].items():
        print(f"{method}: controllability {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    for method, row in content["gain_percent"].items():
        print(f"gain over {method}: {row['mean']:+.1f} % [{row['low']:+.1f}, {row['high']:+.1f}]")
    within = content["searches"]["audited"]["within"]["mean"]
    print(f"within 1 % of the oracle: {within:.1%} of the questions")


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
