"""Runs a plan: processes started one by one, timed in turn, and their answers put together as rows."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from latency.clock import Others
from latency.plan import STREAMED, Plan
from latency.process import Child
from latency.rivals import LOOP_JAX, codes_timed

ENGINE = "ncp-jax"
Row = dict[str, Any]
Cell = dict[str, Any]
_PAUSE = 0.2  # seconds between two engines' turns, in which the threads of the one before go to sleep


def cells_of(plan: Plan, seeds: int) -> list[Cell]:
    """What is measured in one go, each with its rivals beside it: a seed, a number of codes, a precision."""
    return [
        {"seed": seed, "codes": codes, "steps": plan.steps, "precision": precision}
        for seed in range(seeds)
        for codes in plan.codes
        for precision in plan.precisions
    ]


def turns(plan: Plan) -> int:
    """How often ``measure`` reports progress for one cell."""
    return 2 + 1 + plan.repeats


def measure(plan: Plan, cell: Cell, tick: Callable[[], None]) -> list[Row]:
    """Measures the engine, and the rivals where the cell has the precision that they are compared at.

    Two processes one after the other give the first result, with an empty and with a filled compilation cache. The
    second stays; it and one process a rival take turns, one timed run each, so that whatever else the machine does
    hits all alike. Where codes are streamed, a run is a whole ``propagate``: the first results of the two processes
    are all the runs there are, compilation not counted, and the rivals are timed at ``STREAMED`` codes.

    Args:
      plan: the plan.
      cell: one of ``cells_of``.
      tick: called ``turns(plan)`` times.

    Returns:
      A row for each engine, JSON-ready.

    Raises:
      DataError: a process failed; the text is the last line it wrote.
    """
    others_at_work = Others()
    streamed = cell["codes"] > STREAMED
    held = min(cell["codes"], STREAMED)
    rivals = plan.rivals if cell["precision"] == plan.compared else ()
    with tempfile.TemporaryDirectory(prefix="ncp-jax-latency-") as temporary, contextlib.ExitStack() as processes:
        folder = Path(temporary)
        cache = folder / "cache"
        cache.mkdir()
        job = {**cell, "folder": temporary, "smoke": plan.smoke, "streamed": streamed}
        with Child("setup", folder, job | {"predictor": plan.predictor, "codes": held}) as setup:
            setup.ask("write")
        with Child("engine", folder, job, cache=cache) as cold:
            first = {"cold": cold.ask("first")}
        tick()
        engine = processes.enter_context(Child("engine", folder, job, cache=cache))
        first["warm"] = engine.ask("first")
        tick()
        others = {}
        for name in rivals:
            timed = {"engine": name, "codes": codes_timed(name, held, plan.smoke)}
            others[name] = processes.enter_context(
                Child("loop-jax" if name == LOOP_JAX else "torch", folder, job | timed)
            )
        running = others if streamed else {ENGINE: engine, **others}
        seconds, rates = _rounds(plan, running, engine, tick)
        if streamed:
            seconds[ENGINE] = [first[start]["search_s"] for start in ("cold", "warm")]
        yardstick = _yardstick(rates)
        rows = [_own_row(cell, first, seconds[ENGINE], engine, yardstick)]
        rows += [
            _rival_row(cell, name, seconds[name], child, engine, folder, yardstick) for name, child in others.items()
        ]
    return [row | {"others_busy_cores": others_at_work.busy_cores()} for row in rows]


def _rounds(
    plan: Plan, running: dict[str, Child], engine: Child, tick: Callable[[], None]
) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """Lets every engine and the plain products run in turn; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    rates = []
    for counted in (False, *(True,) * plan.repeats):
        for name, child in running.items():
            time.sleep(0.0 if plan.smoke else _PAUSE)
            found = child.ask("run")["seconds"]
            if counted:
                seconds[name].append(found)
        time.sleep(0.0 if plan.smoke else _PAUSE)
        found = engine.ask("products")
        if counted:
            rates.append(found)
        tick()
    return seconds, rates


def _yardstick(rates: list[dict[str, float]]) -> Row:
    """Medians over the rounds of the plain products' rates, operations a second."""
    medians = {name: statistics.median(rate[name] for rate in rates) for name in rates[0]}
    squares = {name: rate for name, rate in medians.items() if name.startswith("square")}
    best = max(squares, key=squares.__getitem__)
    return {
        "products_full_flops_per_s": medians.get("full"),
        "products_tile_flops_per_s": medians["tile"],
        # The stricter of the two: whichever the device does faster.
        "products_flops_per_s": max(medians["tile"], medians.get("full", 0.0)),
        "best_products_flops_per_s": squares[best],
        "best_products_size": int(best.split()[1]),
    }


def _rate_row(
    cell: Cell, engine: str, precision: str, codes: int, runs: list[float], flops: int, yardstick: Row
) -> Row:
    """What every row holds; ``runs`` are the seconds of inverting ``codes`` codes."""
    median = statistics.median(runs)
    rate = codes * cell["steps"] / median
    return {
        "engine": engine,
        "codes": cell["codes"],
        "steps": cell["steps"],
        "precision": precision,
        "seed": cell["seed"],
        "codes_timed": codes,
        "runs_s": runs,
        "median_s": median,
        "code_steps_per_s": rate,
        "flops_per_code_step": flops,
        "flops_per_s": rate * flops,
        **yardstick,
        "fraction": rate * flops / yardstick["products_flops_per_s"],
        "fraction_of_best": rate * flops / yardstick["best_products_flops_per_s"],
    }


def _own_row(cell: Cell, first: dict[str, Row], runs: list[float], engine: Child, yardstick: Row) -> Row:
    facts, cold, warm = engine.ask("facts"), first["cold"], first["warm"]
    flops = facts["flops_per_code_step"]
    return {
        **_rate_row(cell, ENGINE, cell["precision"], cell["codes"], runs, flops, yardstick),
        "tile": facts["tile"],
        **{f"cold_{name}": value for name, value in cold.items() if name.endswith("_s")},
        **{f"warm_{name}": value for name, value in warm.items() if name.endswith("_s")},
        # Of the process that did nothing but one ``propagate`` of this size, its compilation included.
        "peak_memory_mb": cold["peak_memory_mb"],
        "device_peak_memory_mb": cold["device_peak_memory_mb"],
        "changed_architectures": 0.0 if cell["precision"] == "float32" else engine.ask("changed")["share"],
    }


def _rival_row(
    cell: Cell, name: str, runs: list[float], child: Child, engine: Child, folder: Path, yardstick: Row
) -> Row:
    facts = child.ask("facts")
    path = folder / f"{name}.npy"
    child.ask("ends", path=str(path))
    row = _rate_row(cell, name, "float32", facts["codes_timed"], runs, facts["flops_per_code_step"], yardstick)
    return {
        **row,
        "import_s": facts["import_s"],
        "peak_memory_mb": facts["peak_memory_mb"],
        "device_peak_memory_mb": facts.get("device_peak_memory_mb"),
        "agreement": engine.ask("compare", path=str(path)),
    }


def ratios(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """How many times the engine's code-steps/s in float32 are a rival's, by rival and codes; medians over seeds."""
    rates: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["precision"] == "float32":
            rates.setdefault((row["engine"], row["codes"]), []).append(row["code_steps_per_s"])
    medians = {key: statistics.median(values) for key, values in rates.items()}
    found: dict[str, dict[str, float]] = {}
    for (engine, codes), rate in medians.items():
        if engine != ENGINE and (ENGINE, codes) in medians:
            found.setdefault(engine, {})[str(codes)] = medians[ENGINE, codes] / rate
    return found


_COLUMNS = ("engine", "codes", "precision", "code-steps/s", "GFLOP/s", "products", "fraction", "best", "memory")
_STARTS = ("first result", "after import", "import", "compile")


def report(rows: Iterable[Row]) -> str:
    """A line for each row, then the start-up of each own row, then the ratios; for people."""
    rows = list(rows)
    lines = [list(_COLUMNS)]
    for row in rows:
        giga = [row[name] / 1e9 for name in ("flops_per_s", "products_flops_per_s", "best_products_flops_per_s")]
        lines.append(
            [
                *(row["engine"], str(row["codes"]), row["precision"], f"{row['code_steps_per_s']:,.0f}"),
                *(f"{giga[0]:.4g}", f"{giga[1]:.4g}", f"{row['fraction']:.1%}", f"{giga[2]:.4g}"),
                f"{row['peak_memory_mb']:.0f} MB",
            ]
        )
    starts = [["seconds, empty → filled cache", *_STARTS]]
    names = ("first_result_s", "first_result_after_import_s", "import_s", "compile_s")
    starts += [
        [f"{row['codes']} codes, {row['precision']}"]
        + [f"{row[f'cold_{name}']:.2f} → {row[f'warm_{name}']:.2f}" for name in names]
        for row in rows
        if row["engine"] == ENGINE
    ]
    text = [_aligned(lines), "", _aligned(starts)]
    busy = max((row["others_busy_cores"] or 0.0 for row in rows), default=0.0)
    if busy > 0.25:
        text.append(f"caution: {busy:.1f} cores were at work for others; measure on an idle machine")
    for row in rows:
        if row.get("changed_architectures"):
            share = row["changed_architectures"]
            text.append(f"{row['precision']}, {row['codes']} codes: {share:.2%} end in another architecture")
    for rival, by_codes in ratios(rows).items():
        text.append(f"{ENGINE} / {rival}: " + ", ".join(f"{ratio:.2f} at {codes}" for codes, ratio in by_codes.items()))
    return "\n".join(text)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
