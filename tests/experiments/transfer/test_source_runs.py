"""What searches of sources leave behind."""

from __future__ import annotations

import numpy as np
import pytest
from transfer.pairs import Tasks
from transfer.source_runs import SourceRuns

from ncp_jax import load_table, make_searcher
from ncp_jax.searchers import ArraySearcher, Runs


def test_a_search_that_ends_early_offers_its_best_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Tasks.choose([load_table("digits/class"), load_table("digits/edges")], ["class"], [])
    rows = np.array([[7, 3, -1], [5, -1, -1]])
    values = np.where(rows >= 0, -rows, -np.inf)
    paid = np.array([2, 1])
    ended = Runs(rows, values, paid, paid, np.zeros(2))  # type: ignore[arg-type]  # as from the host
    monkeypatch.setattr(SourceRuns, "search", lambda *_: ended)
    searcher = make_searcher("random")
    assert isinstance(searcher, ArraySearcher)
    best = SourceRuns(tasks, 3, (0, 1)).best_rows(searcher, "class", "edges")
    assert best.tolist() == [[3, 7, 3], [5, 5, 5]]
