"""Trains a small ensemble with checkpoints, as a process that can be interrupted: ``fit.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from ncp_jax.console import guarded, prepare_jax


def fit_into(folder: Path) -> None:
    """Trains from the checkpoints in ``folder``, if there are any, and writes the predictor beside them."""
    import numpy as np

    import ncp_jax as ncp

    prepare_jax()
    table = ncp.load_table("digits/class").select(np.arange(100))
    recipe = ncp.Recipe("interrupted", widths=(8,), rates=(0.0,), epochs=80, decay_rows=0)  # segments of 20 epochs
    predictor = ncp.fit(table, recipe=recipe, members=2, key=0, checkpoint=folder / "checkpoint")
    ncp.save_predictor(folder / "predictor.npz", predictor)


if __name__ == "__main__":
    sys.exit(guarded(lambda: fit_into(Path(sys.argv[1]))))
