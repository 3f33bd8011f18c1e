"""The searches that learn against the same in plain float64, written anew: in distribution, on a tiny table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from ncp_jax import Table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import Candidates, Runs, make_searcher
from ncp_jax.searchers.inputs import raw_inputs
from ncp_jax.searchers.kernel_features import kernel_features

from . import numpy_models as models
from . import numpy_networks as networks

OURS, THEIRS = 200, 80  # seeds of each side: the plain ones take long, and as many show what is wrong
BUDGET = 24
AFTER = (6, 10, 16, 24)
NETWORKS = {"first": 6, "least": 3, "most": 4, "members": 2, "width": 4}
CLIMBS = NETWORKS | {"steps": 5, "best": 3, "strangers": 1, "polish": 1}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bayesian": ("bayesian", {"initial": 6}, "free"),
    "bayesian in batches": ("bayesian", {"initial": 6, "batch": 3, "shortlist": 60}, "free-isomorphs"),
    "bayesian by draws": ("bayesian", {"initial": 6, "acquisition": "thompson", "shortlist": 60}, "free"),
    "neural ensemble": ("neural-ensemble", NETWORKS | {"depth": 2}, "free"),
    "ncp": ("ncp", CLIMBS, "free"),
}
PYTHON_SEARCHES = {"bayesian": models.bayesian, "neural-ensemble": networks.neural_ensemble, "ncp": networks.ncp}
# Eleven statistics of five cases, and of all of them at most one in a hundred false alarms.
LEVEL = 0.01 / (11 * len(CASES))


class Sample(NamedTuple):
    """Statistics of runs [s, …], the same for both sides."""

    best: np.ndarray  # the best value after 6, 10, 16, 24 queries
    optimum: np.ndarray  # queries to the optimum, one more than the budget where it was not found
    asks: np.ndarray
    mean: np.ndarray  # of the values paid for
    late: np.ndarray  # the same of the last six
    different: np.ndarray  # networks among those paid for
    spread: np.ndarray  # variance of the codes paid for
    strides: np.ndarray  # edits from each to the next


def sample(rows: np.ndarray, asks: np.ndarray, world: models.World) -> Sample:
    values, codes = world.values[rows], world.relaxed[rows]
    best = np.maximum.accumulate(values, axis=1)
    return Sample(
        best=best[:, np.array(AFTER) - 1],
        optimum=(best < world.values.max()).sum(axis=1) + 1,
        asks=asks,
        mean=values.mean(axis=1),
        late=values[:, -6:].mean(axis=1),
        different=np.array([len(set(line)) for line in world.networks[rows].tolist()]),
        spread=codes.var(axis=1).sum(axis=-1),
        strides=(np.diff(codes, axis=1) ** 2).sum(axis=(1, 2)),
    )


@pytest.fixture(scope="module")
def world(small: Table, candidates: Candidates) -> Callable[[str], models.World]:
    points, blocks = kernel_features(candidates)
    neighbours = zip(np.asarray(candidates.neighbours), np.asarray(candidates.degree), strict=True)
    made = models.World(
        values=np.asarray(small.oriented("acc"), np.float64),
        networks=np.asarray(candidates.classes),
        pairs=models.pairs(np.asarray(points, np.float64), blocks),
        relaxed=np.asarray(candidates.relaxed, np.float64),
        neighbours=[near[:degree] for near, degree in neighbours],
        budget=BUDGET,
        merged=False,
    )
    return lambda repeats: made._replace(merged=repeats == "free-isomorphs")


@pytest.fixture(scope="module")
def ours(run: Callable[..., Runs], small: Table, world: Any) -> Callable[[str], Sample]:
    @functools.cache
    def make_sample(case: str) -> Sample:
        name, settings, repeats = CASES[case]
        view = QueryView.of(small, budget=BUDGET, repeats=repeats)
        runs = run(make_searcher(name, **settings), range(OURS), view)
        assert (runs.count == BUDGET).all()
        return sample(runs.rows, runs.asks, world(repeats))

    return make_sample


@pytest.fixture(scope="module")
def theirs(world: Any) -> Callable[..., Sample]:
    def make_sample(case: str, twist: str = "") -> Sample:
        name, settings, repeats = CASES[case]
        terms = world(repeats)
        find = functools.partial(PYTHON_SEARCHES[name], terms, twist=twist, **settings)
        runs = [find(np.random.default_rng(seed)) for seed in range(THEIRS)]
        return sample(np.array([found.rows for found in runs]), np.array([found.asks for found in runs]), terms)

    return make_sample


def p_values(a: Sample, b: Sample) -> np.ndarray:
    """Two-sample Kolmogorov-Smirnov of each statistic, rounded: sums differ in their last places."""
    pairs = [*zip(a.best.T, b.best.T, strict=True), *zip(a[1:], b[1:], strict=True)]
    return np.array([stats.ks_2samp(x.round(6), y.round(6), method="asymp").pvalue for x, y in pairs])


@pytest.mark.parametrize("case", CASES)
def test_they_find_the_same(case: str, ours: Any, theirs: Any) -> None:
    found = p_values(ours(case), theirs(case))
    assert len(found) == 11
    assert found.min() > LEVEL


@pytest.mark.parametrize(
    ("case", "twist"),
    [
        ("bayesian", "random choice"),
        ("bayesian in batches", "mean alone"),
        ("neural ensemble", "ten times the noise"),
        ("ncp", "downhill"),
    ],
)
def test_the_comparison_sees_a_difference(case: str, twist: str, ours: Any, theirs: Any) -> None:
    assert p_values(ours(case), theirs(case, twist)).min() < LEVEL


def test_plain_inputs_are_those_of_the_library(candidates: Candidates) -> None:
    """And their Jacobian is that by differences; the values between legal codes too."""
    x = np.random.default_rng(0).dirichlet(np.ones(4), size=(20, 6)).reshape(20, 24)
    values, jacobian = networks.Inputs.raw(x)
    np.testing.assert_allclose(values, raw_inputs(candidates.space, np.float32(x)), atol=1e-5)
    steps = 1e-6 * np.eye(24)
    slopes = [(networks.Inputs.raw(x + step)[0] - networks.Inputs.raw(x - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(jacobian, np.stack(slopes, axis=-1), atol=1e-7)


def test_the_plain_network_has_the_slopes_it_says() -> None:
    rng = np.random.default_rng(0)
    network, x = networks.drawn(rng, 3, 4, 2), rng.normal(size=(5, 3))
    said, jacobian, slope = networks.forward(network, x)
    np.testing.assert_allclose(networks.output(network, x), said, rtol=1e-12)
    weights = networks.flat(network)

    def changed(step: np.ndarray) -> np.ndarray:
        return networks.forward(networks.like(network, weights + step), x)[0]

    steps = 1e-6 * np.eye(len(weights))
    np.testing.assert_allclose(jacobian, np.stack([changed(s) - changed(-s) for s in steps], axis=1) / 2e-6, atol=1e-8)
    moved = [networks.forward(network, x + s)[0] - networks.forward(network, x - s)[0] for s in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(slope, np.stack(moved, axis=1) / 2e-6, atol=1e-8)
