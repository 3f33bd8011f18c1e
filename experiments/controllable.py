"""Measures how far budgets and preferences steer one multi-task model, against models that steer less.

    python experiments/controllable.py --seeds 3 --out out/controllable

Compares a model of free widths with one ratio for the whole model, fixed decoders, no distillation of features, no
distillation of outputs, a network whose weights follow from the preference, other normalisations, and static models of
the same cost. All are trained for as many steps.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from width_control.asked import Asked

    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import SearchConfig
    from ncp_jax.controllable.tasks import Examples
    from ncp_jax.records.journal import Records


SPEED = "speed"  # takes the place of a method in the record of measured times


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      seeds: repetitions, each with its own weights, images and widths.
      steps: gradient steps of every model.
      batch: images for each step.
      rate: peak of the learning rate.
      channels: channels of each encoder stage at full width.
      strides: 1 or 2 for each stage; by default 1, then 2 for all others.
      decoder: channels of each decoder at full width.
      budgets: budgets of the comparison.
      rays: preferences of the comparison, for each budget.
      threads: models that are trained at once, each on a core of its own.
    """

    seeds: int = 3
    steps: int = 15_000
    batch: int = 16
    rate: float = 5e-3
    channels: tuple[int, ...] = (8, 16, 24)
    strides: tuple[int, ...] = ()
    decoder: int = 16
    budgets: int = 4
    rays: int = 48
    threads: int = 2


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
    from width_control.asked import Asked

    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import RECIPE, SearchConfig
    from ncp_jax.controllable.tasks import digits_examples

    examples = digits_examples(copies=1 if config.smoke else 4)
    sizes: dict[str, Any] = {"channels": config.channels, "strides": config.strides, "decoder": config.decoder}
    train = TrainConfig(steps=config.steps, batch=config.batch, rate=config.rate, segment=500)
    search, rays, few = SearchConfig(), config.rays, 20
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
    """Trains all runs, measures each, writes records, a figure, report.html and summary.json; returns the summary."""
    from width_control import page, summary

    from ncp_jax.records.journal import Records

    plan = _plan(config)
    settings = config.settings() | {
        "data": plan.examples.digest,
        "model": plan.model.to_json(),
        "train": dataclasses.asdict(plan.train),
    }
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "threads"))
    with compiled_fast(config.smoke):
        _run_missing(plan, config, records)

    results = {(r["cell"]["seed"], r["cell"]["method"]): r["results"] for r in records}
    tasks = [target.name for target in plan.model.targets]
    content = {"seeds": config.seeds} | summary.controllability(results, plan.asked, config.seeds)
    content["static_gap"] = summary.static_gaps(results, plan.model.ratios, plan.static, tasks, config.seeds)
    content["preference"] = summary.preference_falls(results, tasks, config.seeds)
    content["norms"] = summary.norms(results, plan.model, config.seeds)
    content["searches"] = summary.searches(results, config.seeds)
    content["targets"] = summary.targets(content)
    content["speed"] = results.pop((0, SPEED))
    content["skipped"] = sum(result["skipped"] for result in results.values())
    content["training_seconds"] = round(sum(result["seconds"] for result in results.values()), 1)
    picture = summary.draw_figure(content, plan.asked, config.out / "controllability.png")
    page.write_page(config.out, content, [picture])
    written = write_summary(config.out, "controllable", content, settings)
    _print(content)
    return written


def _run_missing(plan: _Plan, config: Config, records: Records) -> None:
    """Trains the runs that are not on record, some at once, and measures each."""
    from width_control import methods

    # The ablation of normalisation comes last: the comparison does not need it. A smoke run has a part of it.
    norms = methods.NORMS[-1:] if config.smoke else methods.NORMS
    others = (*(methods.STATIC + str(number) for number in plan.static), methods.HYPERNETWORK)
    pairs = [(seed, name) for seed in range(config.seeds) for name in (*methods.METHODS, *others)]
    pairs += [(seed, name) for seed in range(config.seeds) for name in norms]
    left = [(seed, name) for seed, name in pairs if records.get({"seed": seed, "method": name}) is None]
    pool = concurrent.futures.ThreadPoolExecutor(1 if config.smoke else config.threads)
    try:
        jobs = {pool.submit(_trained, name, seed, plan, config): (seed, name) for seed, name in left}
        with ProgressBar("models") as bar:
            for done, job in enumerate(concurrent.futures.as_completed(jobs)):
                (seed, name), (params, facts) = jobs[job], job.result()
                records.add({"seed": seed, "method": name}, _measured(name, params, plan, seed) | facts)
                bar(done + 1, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    cell = {"seed": 0, "method": SPEED}
    if records.get(cell) is None:
        # Timed when no model trains; the weights come from the checkpoint.
        params, _ = _trained("controllable", 0, plan, config)
        records.add(cell, methods.measurement_speed(plan.model, params, plan.examples, plan.few))


def _trained(name: str, seed: int, plan: _Plan, config: Config) -> tuple[Any, dict[str, Any]]:
    """Returns the weights of one run, and facts of the training: seconds and skipped steps."""
    from width_control import hypernetwork, methods

    from ncp_jax.controllable.training import train_models

    begin = time.perf_counter()
    if name == methods.HYPERNETWORK:
        params, skipped = hypernetwork.train_hypernetwork(plan.model, plan.examples, plan.train, seed)
    else:
        train = dataclasses.replace(plan.train, sampled=1) if name.startswith(methods.STATIC) else plan.train
        model = methods.model_of(name, plan.model)
        run = methods.run_settings(name, model, train, seed)
        folder = config.out / "checkpoints" / f"{name}-{seed}"
        found = train_models(model, plan.examples, [run], train=train, folder=folder)
        params, skipped = found.run(0), int(found.skipped[0])
    return params, {"skipped": skipped, "seconds": round(time.perf_counter() - begin, 1)}


def _measured(name: str, params: Any, plan: _Plan, seed: int) -> dict[str, Any]:
    """Returns what one run reaches, JSON-ready; of the controllable model also how its searches do."""
    from width_control import hypernetwork, methods

    if name == methods.HYPERNETWORK:
        return hypernetwork.measure_hypernetwork(plan.model, params, plan.examples, plan.asked)
    trained = (methods.model_of(name, plan.model), params, plan.examples)
    if name.startswith(methods.STATIC):
        return methods.measure_static(name, *trained)
    found, validation, test = methods.measure_run(name, *trained, plan.asked)
    if name == "controllable":
        found["searches"] = methods.compare_searches(*trained, (validation, test), plan.search, seed)
        found["paths"] = methods.preference_paths(plan.model, validation, test, plan.asked)
    return found


def _print(content: dict[str, Any]) -> None:
    for method, row in content["controllability"].items():
        print(f"{method}: controllability {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    for method, row in content["gain_percent"].items():
        print(f"gain over {method}: {row['mean']:+.1f} % [{row['low']:+.1f}, {row['high']:+.1f}]")
    for target in content["targets"]:
        print(f"{'reached' if target['reached'] else 'missed'}: {target['target']}")
    within = content["searches"]["audited"]["within"]["mean"]
    print(f"within 1 % of the oracle: {within:.1%} of the questions")


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
