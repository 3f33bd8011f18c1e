"""The Python loops: tables as dictionaries, budgets, repeats, and what they are told not to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from references.python_searches import PYTHON_SEARCHES, PythonTable, python_search

from ncp_jax import MetricSpec, Table, checks, get_space, load_table
from ncp_jax.searchers import Candidates
from ncp_jax.searchers.run import PATIENCE

SPACE = get_space("transnas-macro")
CODES = SPACE.all_codes()[::3]
LOSS = np.random.default_rng(0).normal(size=len(CODES)).astype(np.float32)
TABLE = Table.from_arrays(
    "t", space=SPACE, codes=CODES, values=LOSS[:, None], metrics=[MetricSpec("loss", direction="minimize")]
)
PREPARED = PythonTable.of(TABLE)
every = pytest.mark.parametrize("name", PYTHON_SEARCHES)


def test_dictionaries_hold_the_table_oriented() -> None:
    assert PREPARED.codes == [tuple(code) for code in CODES.tolist()]
    np.testing.assert_array_equal(np.float32([PREPARED.values[code] for code in PREPARED.codes]), -LOSS)


@pytest.mark.parametrize("space", ["nas-bench-201", "transnas-micro", "transnas-macro"])
def test_neighbours_and_networks_are_those_of_the_candidates(space: str) -> None:
    codes = get_space(space).all_codes()[:400]
    values = np.arange(400.0)[:, None]
    table = Table.from_arrays("t", space=space, codes=codes, values=values, metrics=[MetricSpec("acc")])
    check_relations(PythonTable.of(table), Candidates.of(table))


def test_neighbours_in_a_sparse_table_are_the_nearest(mirror: Path) -> None:
    table = load_table("nas-bench-mr/cls-50-1000")
    check_relations(PythonTable.of(table), Candidates.of(table))


def check_relations(dictionaries: PythonTable, candidates: Candidates) -> None:
    rows, degrees = np.asarray(candidates.neighbours), np.asarray(candidates.degree)
    for code, near, degree in zip(dictionaries.codes, rows, degrees, strict=True):
        assert dictionaries.neighbours[code] == [dictionaries.codes[row] for row in near[:degree]]
    classes = dict(zip(dictionaries.codes, np.asarray(candidates.classes).tolist(), strict=True))
    first = {number: code for code, number in reversed(classes.items())}
    assert dictionaries.networks == {code: first[number] for code, number in classes.items()}


@every
@pytest.mark.parametrize("repeats", ["counted", "free", "free-isomorphs"])
def test_budgets_and_seeds(name: str, repeats: str) -> None:
    runs = [python_search(name, PREPARED, budget=40, seed=s, repeats=repeats, settings={}) for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    for run in runs:
        assert (len(run.codes), len(run.values)) == (40, 40)
        assert run.values == [PREPARED.values[code] for code in run.codes]
        assert run.asks == 40 if repeats == "counted" else run.asks >= 40
        networks = {PREPARED.networks[code] for code in run.codes}
        assert repeats == "counted" or len(set(run.codes)) == 40
        assert repeats != "free-isomorphs" or len(networks) == 40


def test_patience_ends_a_run_among_known_architectures() -> None:
    two = PythonTable.of(TABLE)._replace(codes=PREPARED.codes[:1], neighbours={PREPARED.codes[0]: PREPARED.codes[:1]})
    for name in PYTHON_SEARCHES:
        run = python_search(name, two, budget=9, seed=0, repeats="free", settings={})
        assert (run.codes, run.asks) == (PREPARED.codes[:1], PATIENCE * (16 if name == "random" else 9))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "evolutoin"}, r"expected a known searcher, got 'evolutoin'; did you mean: evolution"),
        ({"repeats": "fre"}, r"expected a known repeats, got 'fre'; did you mean: free"),
        ({"settings": {"populatoin": 3}}, r"expected a known setting of evolution, got 'populatoin'"),
        ({"settings": {"population": 0}}, r"to be an integer in 1..100000, got 0"),
    ],
)
def test_wrong_calls(changes: dict, text: str) -> None:
    given = {"name": "evolution", "budget": 3, "seed": 0, "repeats": "free", "settings": {}} | changes
    with pytest.raises(checks.UsageError, match=text):
        python_search(given.pop("name"), PREPARED, **given)


def test_names_are_read_without_case() -> None:
    given = {"budget": 5, "seed": 0, "settings": {}}
    assert python_search("Evolution", PREPARED, repeats="FREE", **given) == python_search(
        "evolution", PREPARED, repeats="free", **given
    )
