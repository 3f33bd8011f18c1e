"""Draws the pictures of the README and of the documentation, from the benchmark that ships with the package.

    python examples/pictures.py                          # writes docs/images/*.png, in about a minute
    python examples/pictures.py --out out --smoke        # seconds; the pictures mean nothing

Values of other benchmarks are not drawn: their tables are not this project's to publish.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

import ncp_jax as ncp
from ncp_jax.analysis.hypervolume import pareto_front
from ncp_jax.commands.search_figure import search_figure
from ncp_jax.drawing import GREEN, GREY, ORANGE, new_axes, save_figure

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
TASK, LEARNED = "digits/class", 400
WEIGHTS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)  # of FLOPs, in standard deviations
SEARCHERS = ("random", "evolution", "local-search", "ncp")


def fit_predictor(steps: int) -> tuple[ncp.Table, ncp.Predictor]:
    """Returns the whole table and a predictor of accuracy and FLOPs that learned 400 random rows of it."""
    whole = ncp.load_table(TASK)
    rows = np.random.default_rng(0).choice(len(whole), LEARNED, replace=False)
    values = np.stack([whole.measured(name) for name in ("accuracy", "flops")], axis=1)
    metrics = [whole.metric(name) for name in ("accuracy", "flops")]
    codes = np.asarray(whole.codes)
    table = ncp.Table.from_arrays(TASK, space=whole.space, codes=codes, values=values, metrics=metrics)
    recipe = ncp.Recipe("small", widths=(64, 64), epochs=steps // 4, decay_rows=0, precision="float32")
    return table, ncp.fit(table.select(rows), recipe=recipe, members=4, key=jax.random.key(0))


def draw_search(path: Path, table: ncp.Table, predictor: ncp.Predictor, codes: int) -> Path:
    """Draws one search: accuracy up, FLOPs down."""
    goal = ncp.Objective(maximize={"accuracy": 1.0}, minimize={"flops": 0.2})
    found = ncp.propagate(predictor, goal, codes=codes, key=jax.random.key(1))
    title = f"{TASK}: {codes} codes, {ncp.PropagationConfig().steps} steps"
    return search_figure(path, found=found, predictor=predictor, objective=goal, table=table, title=title)


def draw_front(
    path: Path, table: ncp.Table, predictor: ncp.Predictor, codes: int, weights: tuple[float, ...] = WEIGHTS
) -> Path:
    """Draws the measured accuracy and FLOPs of the proposals of some searches, and the front."""
    proposed = []
    for weight in weights:
        goal = ncp.Objective(maximize={"accuracy": 1.0}, minimize={"flops": weight})
        proposed.append(ncp.propagate(predictor, goal, codes=codes, key=jax.random.key(1)).top(5).codes)
    rows = np.unique(np.asarray(table.rows(np.concatenate(proposed))))
    accuracy, flops = table.measured("accuracy"), table.measured("flops") * 1e6
    front = np.flatnonzero(pareto_front(np.stack([accuracy, flops], axis=1)))
    front = front[np.argsort(flops[front])]
    figure, axes = new_axes()
    axes.scatter(flops, accuracy, s=5, c=GREY, lw=0, label=f"all {len(table)} architectures (measured)")
    axes.step(flops[front], accuracy[front], where="post", c=GREEN, lw=1.6, label="Pareto front of the table")
    label = f"{len(rows)} proposals (measured afterwards)"
    axes.scatter(flops[rows], accuracy[rows], s=34, marker="^", c=ORANGE, ec="white", lw=0.5, zorder=3, label=label)
    axes.set_xlabel("thousand multiply-adds of one image")
    axes.set_ylabel("validation accuracy [%]")
    axes.set_title(
        f"{TASK}: a predictor that learned {LEARNED} architectures, {len(weights)} weights of FLOPs", fontsize=10
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return save_figure(figure, path)


def draw_curve(path: Path, seeds: int, budget: int, searchers: tuple[str, ...] = SEARCHERS) -> Path:
    """Draws how soon searchers find good architectures: one figure of the report of a study."""
    grid = ncp.Grid({name: [{}] for name in searchers}, (TASK,), budget=budget, seeds=seeds)
    with tempfile.TemporaryDirectory() as folder:
        ncp.run_study(grid, folder)
        report = ncp.write_report(folder)
        [drawn] = [p for p in report.paths if p.name == "curve-digits-class-percentile.png"]
        path.write_bytes(drawn.read_bytes())
    return path


def draw_pictures(folder: Path, *, smoke: bool = False) -> list[Path]:
    """Draws all pictures into a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, predictor = fit_predictor(steps=40 if smoke else 400)
    codes = 64 if smoke else 2048
    return [
        draw_search(folder / "search.png", table, predictor, codes),
        draw_front(folder / "front.png", table, predictor, codes, WEIGHTS[:1] if smoke else WEIGHTS),
        draw_curve(folder / "curve.png", 2, 8, ("random",)) if smoke else draw_curve(folder / "curve.png", 100, 100),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draws the pictures of the documentation.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    parser.add_argument("--smoke", action="store_true", help="draw quickly; the pictures mean nothing")
    options = parser.parse_args()
    for picture in draw_pictures(options.out, smoke=options.smoke):
        print(f"wrote {picture}")
