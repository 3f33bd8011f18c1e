"""Measures how far budgets and preferences steer one multi-task model, against models that steer less.

    python experiments/controllable.py --seeds 3 --out out/controllable

Compares a model of free widths with one ratio for the whole model, fixed decoders, no distillation of features, no
distillation of outputs, and static models of the same cost trained as long.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar


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


def run(config: Config) -> dict[str, Any]:
    """Trains all runs, measures each, writes records, a figure and summary.json; returns the summary."""
    from width_control import methods, summary

    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import RECIPE, SearchConfig
    from ncp_jax.controllable.tasks import digits_examples
    from ncp_jax.controllable.training import train_models
    from ncp_jax.records.journal import Records

    examples = digits_examples(copies=1 if config.smoke else 4)
    sizes: dict[str, Any] = {"channels": config.channels, "strides": config.strides, "decoder": config.decoder}
    train, search, rays, few = TrainConfig(steps=config.steps), SearchConfig(), config.rays, 20
    if config.smoke:
        examples = examples.every(6)
        sizes = {"channels": (4,), "strides": (1,), "decoder": 4, "ratios": (0.5, 1.0)}
        train = TrainConfig(steps=4, batch=8, segment=4)
        recipe = dataclasses.replace(RECIPE, widths=(8,), epochs=1, min_steps=0)
        search = SearchConfig(24, 8, budgets=1, preferences=4, codes=16, steps=2, members=2, recipe=recipe)
        rays, few = 6, 1
    model = ModelConfig(8, 1, examples.kinds, **sizes)
    asked = methods.Asked.make(model, config.budgets, rays)
    static = sorted({0, len(model.ratios) // 2 - 1, len(model.ratios) - 1})
    settings = config.settings() | {
        "data": examples.digest,
        "model": model.to_json(),
        "train": dataclasses.asdict(train),
    }
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))

    def missing(names: tuple[str, ...]) -> list[tuple[int, str]]:
        pairs = [(seed, name) for seed in range(config.seeds) for name in names]
        return [pair for pair in pairs if records.get({"seed": pair[0], "method": pair[1]}) is None]

    with compiled_fast(config.smoke):
        for names, steps in ((methods.METHODS, train), (tuple(f"static-{n}" for n in static), None)):
            left = missing(names)
            if not left:
                continue
            own = train if steps else dataclasses.replace(train, sampled=1)
            runs = [
                methods.method_settings(name, model, own, seed)
                if steps
                else methods.static_settings(int(name.removeprefix("static-")), model, own, seed)
                for seed, name in left
            ]
            with ProgressBar("training steps") as bar:
                folder = config.out / "checkpoints" / f"{names[0]}-{len(left)}-runs-{left[0][0]}"
                trained = train_models(
                    model, examples, runs, train=own, folder=folder, together=config.together, progress=bar
                )
            for number, (seed, name) in enumerate(left):
                params = trained.run(number)
                found: dict[str, Any]
                if steps:
                    found, *measured = methods.measure_run(name, model, params, examples, asked)
                else:
                    place = int(name.removeprefix("static-"))
                    code = methods.width_table(model).T[place][None]
                    found = {"test": methods.measure(model, params, examples, code, split="test").of(code)[0].tolist()}
                if name == "controllable":
                    pair = (measured[0], measured[1])
                    found["searches"] = methods.compare_searches(model, params, examples, pair, search, seed)
                    if seed == 0:
                        found["speed"] = methods.measurement_speed(model, params, examples, few)
                found["skipped"] = int(trained.skipped[number])
                records.add({"seed": seed, "method": name}, found)

    results = {(r["cell"]["seed"], r["cell"]["method"]): r["results"] for r in records}
    tasks = [target.name for target in model.targets]
    content = summary.controllability(results, asked, config.seeds)
    content["static_gap"] = summary.static_gaps(results, model.ratios, static, tasks, config.seeds)
    content["searches"] = summary.searches(results, config.seeds)
    content["speed"] = results[0, "controllable"]["speed"]
    content["skipped"] = sum(result["skipped"] for result in results.values())
    summary.volume_figure(content, asked, config.out / "controllability.png")
    written = write_summary(config.out, "controllable", content, settings)
    for method, row in content["controllability"].items():
        print(f"{method}: controllability {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    for method, row in content["gain_percent"].items():
        print(f"gain over {method}: {row['mean']:+.1f} % [{row['low']:+.1f}, {row['high']:+.1f}]")
    within = content["searches"]["audited"]["within"]["mean"]
    print(f"within 1 % of the oracle: {within:.1%} of the questions")
    return written


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
