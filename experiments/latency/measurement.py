"""Measures inversion: starts one process per engine, times them in turns and puts the answers together as rows."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from latency.baselines import LOOP_JAX, codes_timed
from latency.clock import BackgroundLoad
from latency.config import STREAMED, LatencyConfig
from latency.process import Child
from latency.rows import ENGINE, BaselineDetails, OwnDetails, ProductRates, Row, StartUp
from ncp_jax.console import format_table

Cell = dict[str, Any]
_PAUSE = 0.2  # seconds between two engines, in which the threads of the one before go to sleep


def make_cells(config: LatencyConfig, seeds: int) -> list[Cell]:
    """Returns what is measured together: one cell per seed, number of codes and precision."""
    return [
        {"seed": seed, "codes": codes, "steps": config.steps, "precision": precision}
        for seed in range(seeds)
        for codes in config.codes
        for precision in config.precisions
    ]


def ticks_per_cell(config: LatencyConfig) -> int:
    """Returns how often ``measure`` reports progress: two start-ups, one warm-up round, the timed rounds."""
    return 2 + 1 + config.repeats


def measure(config: LatencyConfig, cell: Cell, tick: Callable[[], None]) -> list[Row]:
    """Measures the engine, and the baselines where the cell has the precision that they are compared at.

    Two processes one after the other give the first result, with an empty and with a filled compilation cache. The
    second stays; it and one process per baseline take turns, one timed run each, so that whatever else the machine does
    affects all alike. Where codes are streamed, a run is a whole ``propagate``: the first results of the two processes
    are the only runs, compilation not counted, and the baselines are timed at ``STREAMED`` codes.

    Args:
      config: settings of the measurement.
      cell: one of ``make_cells``.
      tick: called ``ticks_per_cell(config)`` times.

    Returns:
      One row per engine, this package's first.

    Raises:
      DataError: a process failed; the text is the last line it wrote.
    """
    load = BackgroundLoad()
    streamed = cell["codes"] > STREAMED
    held = min(cell["codes"], STREAMED)  # codes in memory at once
    names = config.baselines if cell["precision"] == config.baseline_precision else ()
    with tempfile.TemporaryDirectory(prefix="ncp-jax-latency-") as temporary, contextlib.ExitStack() as processes:
        folder = Path(temporary)
        cache = folder / "cache"
        cache.mkdir()
        job = {**cell, "folder": temporary, "smoke": config.smoke, "streamed": streamed}
        with Child("setup", folder, job | {"predictor": config.predictor, "codes": held}) as setup:
            setup.ask("write")

        with Child("engine", folder, job, cache=cache) as process:
            cold = process.ask("first")
        tick()
        engine = processes.enter_context(Child("engine", folder, job, cache=cache))
        warm = engine.ask("first")
        tick()

        baselines = {}
        for name in names:
            timed = {"engine": name, "codes": codes_timed(name, held, config.smoke)}
            role = "loop-jax" if name == LOOP_JAX else "torch"
            baselines[name] = processes.enter_context(Child(role, folder, job | timed))
        running = baselines if streamed else {ENGINE: engine, **baselines}
        seconds, rates = _time_in_turns(config, running, engine, tick)
        if streamed:
            seconds[ENGINE] = [first["search_s"] for first in (cold, warm)]

        products = ProductRates.median(rates)
        common = {"codes": cell["codes"], "steps": cell["steps"], "seed": cell["seed"], "products": products}
        rows = [_engine_row(common, cell["precision"], cold, warm, seconds[ENGINE], engine)]
        rows += [
            _baseline_row(common, name, seconds[name], process, engine, folder / f"{name}.npy")
            for name, process in baselines.items()
        ]
    # Only now: the load counts children as this process's own once they have ended.
    return [dataclasses.replace(row, others_busy_cores=load.busy_cores()) for row in rows]


def _time_in_turns(
    config: LatencyConfig, running: dict[str, Child], engine: Child, tick: Callable[[], None]
) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """Times every engine and the plain products in turns; the first round warms up and is not counted.

    Returns:
      Seconds of the runs by engine, and the rates of the plain products of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in running}
    rates = []
    for counted in (False, *(True,) * config.repeats):
        for name, child in running.items():
            time.sleep(0.0 if config.smoke else _PAUSE)
            run = child.ask("run")["seconds"]
            if counted:
                seconds[name].append(run)
        time.sleep(0.0 if config.smoke else _PAUSE)
        products = engine.ask("products")
        if counted:
            rates.append(products)
        tick()
    return seconds, rates


def _engine_row(
    common: dict[str, Any],
    precision: str,
    cold: dict[str, Any],
    warm: dict[str, Any],
    runs: list[float],
    engine: Child,
) -> Row:
    facts = engine.ask("facts")
    changed = 0.0 if precision == "float32" else engine.ask("changed")["share"]
    return Row(
        engine=ENGINE,
        precision=precision,
        codes_timed=common["codes"],
        runs_s=runs,
        flops_per_code_step=facts["flops_per_code_step"],
        peak_memory_mb=cold["peak_memory_mb"],
        device_peak_memory_mb=cold["device_peak_memory_mb"],
        details=OwnDetails(facts["tile"], StartUp.from_json(cold), StartUp.from_json(warm), changed),
        **common,
    )


def _baseline_row(
    common: dict[str, Any],
    name: str,
    runs: list[float],
    baseline: Child,
    engine: Child,
    path: Path,
) -> Row:
    facts = baseline.ask("facts")
    baseline.ask("ends", path=str(path))
    return Row(
        engine=name,
        precision="float32",
        codes_timed=facts["codes_timed"],
        runs_s=runs,
        flops_per_code_step=facts["flops_per_code_step"],
        peak_memory_mb=facts["peak_memory_mb"],
        device_peak_memory_mb=facts.get("device_peak_memory_mb"),
        details=BaselineDetails(facts["import_s"], engine.ask("compare", path=str(path))),
        **common,
    )


def speed_ratios(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Returns the engine's code-steps/s in float32 over those of each baseline, by baseline and number of codes.

    Rates are medians over seeds.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row.precision == "float32":
            rates.setdefault((row.engine, row.codes), []).append(row.code_steps_per_s)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    ratios: dict[str, dict[str, float]] = {}
    for (engine, codes), rate in medians.items():
        if engine != ENGINE and (ENGINE, codes) in medians:
            ratios.setdefault(engine, {})[str(codes)] = medians[ENGINE, codes] / rate
    return ratios


def latency_table(rows: Sequence[Row]) -> str:
    """Returns text for people: one line per row, the start-up of each engine row, cautions, and the speed ratios."""
    columns = ["engine", "codes", "precision", "code-steps/s", "GFLOP/s", "products", "fraction", "best", "memory"]
    speeds = [
        [
            *(
                row.engine,
                str(row.codes),
                row.precision,
                f"{row.code_steps_per_s:,.0f}",
                f"{row.flops_per_s / 1e9:.4g}",
            ),
            *(f"{row.products.reference / 1e9:.4g}", f"{row.fraction:.1%}", f"{row.products.best / 1e9:.4g}"),
            f"{row.peak_memory_mb:.0f} MB",
        ]
        for row in rows
    ]
    starts = [["seconds, empty → filled cache", "first result", "after import", "import", "compile"]]
    names = ("first_result_s", "first_result_after_import_s", "import_s", "compile_s")
    for row in rows:
        if isinstance(row.details, OwnDetails):
            cold, warm = row.details.cold, row.details.warm
            times = [f"{getattr(cold, name):.2f} → {getattr(warm, name):.2f}" for name in names]
            starts.append([f"{row.codes} codes, {row.precision}", *times])
    text = [format_table([columns, *speeds], "<" + ">" * 8), "", format_table(starts, "<" + ">" * 4)]

    busy = max((row.others_busy_cores or 0.0 for row in rows), default=0.0)
    if busy > 0.25:
        text.append(f"caution: {busy:.1f} cores were at work for others; measure on an idle machine")
    for row in rows:
        if row.changed_architectures:
            share = row.changed_architectures
            text.append(f"{row.precision}, {row.codes} codes: {share:.2%} end in another architecture")
    for baseline, by_codes in speed_ratios(rows).items():
        ratios = ", ".join(f"{ratio:.2f} at {codes}" for codes, ratio in by_codes.items())
        text.append(f"{ENGINE} / {baseline}: {ratios}")
    return "\n".join(text)
