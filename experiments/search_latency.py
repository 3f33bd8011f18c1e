"""Measures the speed of inversion: start-up, steady state, share of the device's matrix-product rate, baselines.

    python experiments/search_latency.py --codes 4096 16384 --against torch,loop --out out/latency

Every engine is measured in a process of its own. ``--against torch`` needs PyTorch: pip install ".[torch]".
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      codes: numbers of codes inverted at once, separated by spaces or commas. Above 65536 codes a run is one whole
        search, which streams its codes, and there are two runs.
      steps: iterations of each inversion.
      precision: precisions of the matrix products: float32, bfloat16, …; baselines compute in float32.
      against: baselines: "torch" is the authors' loop with a batch axis in PyTorch, "torch-frozen" the same without
        gradients of the weights, "torch-folded" this package's method in PyTorch, "loop" one code after the other.
      repeats: timed runs of each engine, in turns; the median is reported.
      predictor: "ncp" for the authors' architecture with random weights, "shipped" for the ensemble of the package.
    """

    codes: tuple[int | str, ...] = (4096, 16384)
    steps: int = 70
    precision: tuple[str, ...] = ("float32",)
    against: tuple[str, ...] = ()
    repeats: int = 7
    predictor: str = "ncp"


def run(config: Config) -> dict[str, Any]:
    """Measures every cell, writes records, a figure and summary.json, returns the summary."""
    import importlib.metadata

    from harness.tables import shipped_hash
    from latency.config import make_config
    from latency.figure import latency_figure
    from latency.measurement import latency_table, make_cells, measure, speed_ratios, ticks_per_cell
    from latency.rows import Row

    from ncp_jax.records.journal import Records

    latency = make_config(
        codes=config.codes,
        steps=config.steps,
        precision=config.precision,
        against=config.against,
        repeats=config.repeats,
        predictor=config.predictor,
        smoke=config.smoke,
    )
    has_torch = any("torch" in name for name in latency.baselines)
    versions = {"torch": importlib.metadata.version("torch")} if has_torch else {}
    settings = latency.to_json() | {"seeds": config.seeds} | versions
    settings |= {"shipped": shipped_hash()} if latency.predictor == "shipped" else {}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    cells, done, ticks = make_cells(latency, config.seeds), 0, ticks_per_cell(latency)

    with ProgressBar("latency") as bar:

        def tick() -> None:
            nonlocal done
            done += 1
            bar(done, len(cells) * ticks)

        for cell in cells:
            if records.get(cell) is None:
                records.add(cell, {"rows": [row.to_json() for row in measure(latency, cell, tick)]})
            else:
                done += ticks

    rows = [Row.from_json(row) for record in records.of(cells) for row in record["results"]["rows"]]
    latency_figure(rows, config.out / "latency.png")
    print(latency_table(rows))
    results = {"rows": [row.to_json() for row in rows], "ratios": speed_ratios(rows)}
    return write_summary(config.out, "search_latency", results, settings, versions=versions)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
