"""How fast a predictor is inverted: start-up, steady state, share of the device's plain matrix products, rivals.

    python experiments/search_latency.py --codes 4096 16384 --against torch,loop --out out/latency

Everything is measured in processes of its own. ``--against torch`` needs PyTorch: pip install ".[torch]".
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, run_main

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      codes: how many codes are inverted at once; lists are separated by spaces or commas. Above 65536 a run is one
        whole search, which streams its codes, and two runs are all.
      steps: iterations of each inversion.
      precision: of the matrix products: float32, bfloat16, …; rivals compute in float32.
      against: "torch" for the authors' loop batched by hand in PyTorch, "torch-frozen" for the same without gradients
        of the weights, "torch-folded" for this package's algebra carried over to PyTorch, "loop" for one code after the
        other.
      repeats: timed runs of each engine, in turns; their median counts.
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

    from latency.figure import latency_figure
    from latency.plan import make_plan
    from latency.study import cells_of, measure, ratios, report, turns

    from ncp_jax.records.journal import Records, write_json
    from ncp_jax.records.run_card import run_card

    plan = make_plan(
        codes=config.codes,
        steps=config.steps,
        precision=config.precision,
        against=config.against,
        repeats=config.repeats,
        predictor=config.predictor,
        smoke=config.smoke,
    )
    settings = plan.to_json() | {"seeds": config.seeds}
    records = Records(config.out, settings, resume=config.resume)
    cells, done = cells_of(plan, config.seeds), 0

    with ProgressBar("latency") as bar:

        def tick() -> None:
            nonlocal done
            done += 1
            bar(done, len(cells) * turns(plan))

        for cell in cells:
            if records.get(cell) is None:
                records.add(cell, {"rows": measure(plan, cell, tick)})
            else:
                done += turns(plan)

    rows = [row for record in records for row in record["results"]["rows"]]
    card = run_card()
    if any("torch" in name for name in plan.rivals):
        card["versions"]["torch"] = importlib.metadata.version("torch")
    summary = {"rows": rows, "ratios": ratios(rows), "config": settings, **card}
    write_json(config.out / "summary.json", summary)
    latency_figure(rows, config.out / "latency.png")
    print(report(rows))
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
