from __future__ import annotations

import ast
import json

import numpy as np
import pytest


@pytest.fixture(scope="session")
def published(mirror):
    """Codes and the published params and flops, as integers, of one task of a TransNAS space ("micro", "macro")."""
    files = {
        space: json.loads((mirror / "naslib" / f"zc_transbench101_{space}.json").read_text())
        for space in ("micro", "macro")
    }

    def read(space, task):
        rows = files[space][task]
        codes = np.array([ast.literal_eval(arch) for arch in rows])
        costs = {
            cost: np.array([round(row[cost]["score"] * 1e6) for row in rows.values()]) for cost in ("params", "flops")
        }
        return codes, costs

    return read
