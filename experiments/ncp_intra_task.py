"""Studies the settings of one task: whether architectures carry over, and which positions the gradients move.

    python experiments/ncp_intra_task.py --seeds 3 --out out/intra_task

Architectures are found for each setting within a limit on GFLOPs, by inverting an ensemble trained on half of the
rows. An ensemble trained on the other half judges them on all settings of the task.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar, format_table


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      tasks: tasks whose settings are compared: classification, segmentation, video; all by default. Where NAS-Bench-MR
        is not downloaded, the tasks of digits take the place of settings.
      quantile: limit on GFLOPs, as a quantile of the table's.
      codes: starts of each search.
      steps: iterations of each search.
      top: proposals that are judged.
      members: networks in each ensemble.
    """

    seeds: int = 3
    tasks: tuple[str, ...] = ()
    quantile: float = 0.5
    codes: int = 1024
    steps: int = 70
    top: int = 20
    members: int = 4


def run(config: Config) -> dict[str, Any]:
    """Searches for every (seed, setting), writes records, figures and summary.json, returns the summary."""
    with compiled_fast(config.smoke):
        return _run(config)


def _run(config: Config) -> dict[str, Any]:
    import numpy as np
    from harness.scoring import fit_pair
    from harness.tables import joint_table
    from proposals.comparison import gflops_limits
    from task_settings.settings import find_for
    from task_settings.summary import gradient_figure, loss_figure, summarise

    from ncp_jax.propagation import PropagationConfig
    from ncp_jax.records.journal import Records
    from ncp_jax.spaces import get_space
    from ncp_jax.training import get_recipe

    _check(config)
    groups = _groups(config)
    table = joint_table(tuple(setting for settings in groups.values() for setting in settings))
    recipe, steps = get_recipe("ensemble"), config.steps
    if config.smoke:
        recipe = dataclasses.replace(recipe, widths=(16,), epochs=3, min_steps=0, decay_rows=0)
        config = dataclasses.replace(config, seeds=min(config.seeds, 2), codes=48, members=2, top=5)
        steps = 5
    settings = config.settings() | {"table": table.content_hash(), "recipe": recipe.to_json()}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    _, limit = gflops_limits(table, (config.quantile,))
    assert limit is not None
    names = [setting for some in groups.values() for setting in some]
    cells: list[dict[str, Any]] = [{"seed": seed, "setting": name} for seed in range(config.seeds) for name in names]
    with ProgressBar("searches") as bar:
        for seed in range(config.seeds):
            pair = functools.cache(lambda seed=seed: fit_pair(table, recipe=recipe, members=config.members, seed=seed))
            for group in groups.values():
                for name in group:
                    cell = {"seed": seed, "setting": name}
                    if records.get(cell) is None:
                        proposer, evaluator = pair()
                        found = find_for(
                            *(table, proposer, evaluator.predictor, name, group),
                            limit=limit,
                            codes=config.codes,
                            config=PropagationConfig(steps=steps),
                            top=config.top,
                            seed=seed,
                            held_out=np.flatnonzero(evaluator.rows),
                        )
                        records.add(cell, found.to_json())
                    bar(len(records.of(cells)), len(cells))
    by_setting: dict[str, list[Any]] = {name: [] for name in names}
    for record in records.of(cells):
        by_setting[record["cell"]["setting"]].append(record["results"])
    results = summarise(by_setting, groups, get_space(table.space).position_names)
    gradient_figure(results["gradient"], config.out / "gradient.png")
    loss_figure(results["loss"], config.out / "carry_over.png")
    rows = [("found for", "judged on", "standard deviations worse than its own")]
    for matrix in results["loss"].values():
        for source, targets in matrix.items():
            for target, value in targets.items():
                if target != source:
                    rows.append((source, target, f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"))
    print(format_table(rows, "<<>"))
    for key in ("within", "between"):
        if key in results["similarity"]:
            print(f"cosine of gradients {key} tasks: {results['similarity'][key]['mean']:.3f}")
    return write_summary(config.out, "ncp_intra_task", results | {"gflops": limit}, settings)


def _check(config: Config) -> None:
    for name, least in (("codes", 16), ("steps", 0), ("top", 1), ("members", 1)):
        checks.integer(f"--{name}", getattr(config, name), least=least)
    if not 0 < config.quantile <= 1:
        raise checks.UsageError(expected="--quantile in (0, 1]", got=repr(config.quantile), remedy="try 0.5")


def _groups(config: Config) -> dict[str, tuple[str, ...]]:
    """Returns the settings of each task."""
    from harness.tables import is_here, or_digits
    from task_settings.settings import GROUPS

    from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS, JOINT

    asked = [checks.choose("task", name, GROUPS) for name in config.tasks] or list(GROUPS)
    if config.smoke or not is_here(JOINT):
        or_digits(JOINT)  # says so where the published table is not here
        return {DIGITS: DIGITS_TASKS[:3] if config.smoke else DIGITS_TASKS}
    return {name: GROUPS[name] for name in dict.fromkeys(asked)}


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
