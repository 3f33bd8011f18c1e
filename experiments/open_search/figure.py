"""Draws the best value against the number of trials, a panel a benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, save_figure
from open_search.methods import read_method
from open_search.trials import Comparison

ACROSS = 4  # panels in a row
STYLES = {
    "ncp": (BLUE, "-"),
    "bayesian": (GREEN, "-"),
    "neural-ensemble": ("#ee6677", "-"),
    "arch-graph": ("#ccbb44", "-"),
    "reinforce": ("#44bb99", "-"),
    "evolution": ("#66ccee", "-"),
    "local-search": ("#222255", "-"),
    "random": (GREY, "-"),
    "optuna-gp": (ORANGE, "--"),
    "optuna-tpe": ("#aa3377", "--"),
    "optuna-cmaes": ("#999933", "--"),
    "smac3": ("#882255", ":"),
}


def curves_figure(comparison: Comparison, path: Path) -> Path:
    """Draws the mean over seeds of the best value so far, from the tenth trial on.

    Args:
      comparison: the searches.
      path: PNG file to write.
    """
    names = list(comparison.runs)
    rows = -(-len(names) // ACROSS)
    figure, panels = new_panels(len(names), width=3.4 * min(len(names), ACROSS) + 1.2, height=2.8 * rows, rows=rows)
    for axes, benchmark in zip(panels, names, strict=True):
        for method, runs in comparison.runs[benchmark].items():
            mean = np.mean([run.best() for run in runs], axis=0)
            name, workers = read_method(method)
            colour, line = STYLES[name]
            first = min(10, len(mean)) - 1
            trials = np.arange(first + 1, len(mean) + 1)
            width = 1.4 if workers == 1 else 0.8
            axes.plot(trials, mean[first:], color=colour, linestyle=line, linewidth=width, label=method)
        axes.set_title(benchmark, fontsize=9)
        axes.set_xlabel("trials")
        axes.set_ylabel("best value")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
    return save_figure(figure, path)
