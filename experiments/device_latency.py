"""Predicts the latency of every architecture on a new device from ten measurements there and from other devices.

    python experiments/device_latency.py --out out/device_latency
    python experiments/device_latency.py --family fbnet-latency --out out/fbnet

Needs the latencies: ncp-jax data fetch help. No setting of a method was chosen on latencies of a target.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar, format_table, say

if TYPE_CHECKING:
    from devices.measured import Measured

SOURCES = ("1080ti_1", "pixel3", "raspi4", "eyeriss", "fpga", "gold_6226")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      targets: devices to predict, each in turn.
      sources: devices that are known; a target is never its own source.
      samples: architectures measured on the target.
      draws: choices of these architectures for each seed.
      family: nas-bench-201-latency or fbnet-latency.
    """

    targets: tuple[str, ...] = ("eyeriss", "fpga", "raspi4", "gold_6226")
    sources: tuple[str, ...] = SOURCES
    samples: int = 10
    draws: int = 10
    family: str = "nas-bench-201-latency"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("--samples", self.samples, least=3, most=1000, remedy="ten are usual")
        checks.integer("--draws", self.draws, least=1, remedy="try --draws 10")
        if not self.targets:
            raise checks.UsageError(expected="at least one of --targets", got="none", remedy="try --targets fpga")
        from ncp_jax.benchmarks.catalogue import DEVICES

        family = checks.choose("family of latencies", self.family, DEVICES)
        for name in ("targets", "sources"):
            known = tuple(
                checks.choose(f"device of {family}", device, DEVICES[family]) for device in getattr(self, name)
            )
            object.__setattr__(self, name, known)
        object.__setattr__(self, "family", family)
        if self.smoke:
            object.__setattr__(self, "targets", self.targets[:2])
            object.__setattr__(self, "draws", 1)


def run(config: Config) -> dict[str, Any]:
    """Predicts every (target, seed, draw), writes records, a figure and summary.json, returns the summary."""
    from cross_validation.figure import bar_figure
    from devices.measured import load_measured

    from ncp_jax.records.journal import Records

    settings = config.settings() | {"data": _hashes(config.family, (*config.targets, *config.sources))}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "draws"))
    measured = load_measured(config.family, (*config.targets, *config.sources))
    accuracy = _accuracy(config.family)
    cells: list[dict[str, Any]] = [
        {"target": target, "seed": seed, "draw": draw}
        for target in dict.fromkeys(config.targets)
        for seed in range(config.seeds)
        for draw in range(config.draws)
    ]
    with ProgressBar("predictions") as bar:
        for done, cell in enumerate(cells, 1):
            if records.get(cell) is None:
                records.add(cell, _predict(config, measured, accuracy, cell))
            bar(done, len(cells))
    results = _summarise([(record["cell"]["target"], record["results"]) for record in records.of(cells)])
    results["broken"] = {device: int(flags.sum()) for device, flags in measured.broken.items()}
    scores = results["spearman"]
    methods = list(next(iter(scores.values())))
    drawn = ("transfer", "gp", "ridge", "best_source", "flops")
    shown = {m: {d: row[m]["mean"] for d, row in scores.items()} for m in drawn if m in methods}
    bar_figure(shown, config.out / "spearman.png", ylabel="Spearman correlation with the measured latencies")
    header = ("method", *scores, "mean")
    table = [(m, *(f"{scores[d][m]['mean']:.3f}" for d in scores), f"{results['mean'][m]:.3f}") for m in methods]
    print(format_table([header, *table], "<" + ">" * (len(header) - 1)))
    return write_summary(config.out, "device_latency", results, settings)


def _predict(config: Config, measured: Measured, accuracy: Any, cell: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of one (target, seed, draw): rank correlations and choices by method."""
    import numpy as np
    from devices.limits import choose_within
    from devices.methods import draw_rows, predictions, spearman

    target = cell["target"]
    sources = [source for source in dict.fromkeys(config.sources) if source != target]
    truth, whole = measured.milliseconds[target], measured.whole([target])
    rng = np.random.default_rng([cell["seed"], cell["draw"]])
    found = {}
    for suffix, rows in draw_rows(measured, target, sources, config.samples, rng).items():
        for method, predicted in predictions(measured, target, sources, rows).items():
            choices = [] if accuracy is None else choose_within(predicted, truth, accuracy, whole)
            found[method + suffix] = {
                "spearman": spearman(predicted, truth),
                "spearman_whole": spearman(predicted[whole], truth[whole]),
                "choices": [choice.to_json() for choice in choices],
            }
    return found


def _accuracy(family: str) -> Any:
    """Returns the accuracy on CIFAR-100 of all codes of NAS-Bench-201, in ascending order as those of latencies.

    None for another space, and where the table is not on this machine: nothing is searched under a limit then.
    """
    from harness.tables import is_here

    from ncp_jax.benchmarks.registry import load_arrays

    if family != "nas-bench-201-latency":
        return None
    if not is_here("nas-bench-201/cifar100"):
        say("nas-bench-201/cifar100 not downloaded (ncp-jax data fetch): no searches under a limit")
        return None
    return load_arrays("nas-bench-201/cifar100").column("top1")


def _hashes(family: str, devices: tuple[str, ...]) -> dict[str, str]:
    from ncp_jax.benchmarks.catalogue import RECIPES
    from ncp_jax.benchmarks.sources import all_sources

    return {device: all_sources()[RECIPES[f"{family}/{device}"].file].sha256 for device in dict.fromkeys(devices)}


def _summarise(found: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Returns rank correlations and choices by device and method, and means over devices."""
    import numpy as np
    from devices.limits import Choice, summarise_choices

    from ncp_jax.analysis.intervals import mean_interval

    devices = list(dict.fromkeys(device for device, _ in found))
    methods = list(found[0][1])

    def values(device: str, method: str, key: str) -> list[Any]:
        return [results[method][key] for name, results in found if name == device]

    results: dict[str, Any] = {
        key: {d: {m: mean_interval(values(d, m, key), least=-1.0, most=1.0) for m in methods} for d in devices}
        for key in ("spearman", "spearman_whole")
    }
    results["mean"] = {m: float(np.mean([results["spearman"][d][m]["mean"] for d in devices])) for m in methods}

    def choices(device: str, method: str) -> list[Choice]:
        return [Choice(**choice) for some in values(device, method, "choices") for choice in some]

    results["limits"] = {
        d: {m: summarise_choices(made).to_json() for m in methods if (made := choices(d, m))} for d in devices
    }
    return results


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
