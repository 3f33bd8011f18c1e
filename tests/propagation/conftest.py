from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation
from ncp_jax.propagation import engine, execution
from ncp_jax.spaces import get_space

METRICS = (
    MetricSpec("acc", task="a", unit="%"),
    MetricSpec("loss", task="b", direction="minimize"),
    MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"),
)


@pytest.fixture(scope="session")
def ensemble() -> Callable[..., Predictor]:
    """Makes an ensemble of random folded networks over a space; without hidden units it is linear."""

    def make(
        space: str = "transnas-micro",
        *,
        members: int = 2,
        hidden: Sequence[int] = (6,),
        metrics: Sequence[MetricSpec] = METRICS,
        seed: int = 0,
        log: bool = False,
    ) -> Predictor:
        rng, f = np.random.default_rng(seed), get_space(space).features
        lower, upper = get_space(space).lower, get_space(space).upper
        sizes = ((2 if log else 1) * f, *hidden, len(metrics))
        w = [rng.normal(size=(members, i, o)) / np.sqrt(i) for i, o in itertools.pairwise(sizes)]
        b = [rng.normal(size=(members, o)) for o in sizes[1:]]
        scale = Standardisation(
            *(jnp.asarray(a, jnp.float32) for a in ((lower + upper) / 2, (upper - lower) / 3)),
            *(jnp.asarray(a, jnp.float32) for a in (np.full(len(metrics), 2.0), np.full(len(metrics), 0.5))),
        )
        params = {name: tuple(jnp.asarray(a, jnp.float32) for a in arrays) for name, arrays in (("w", w), ("b", b))}
        if log:
            params |= {n: jnp.tile(getattr(scale, n), (members, 1)) for n in ("x_mean", "x_std")}
        return Predictor(params, scale, FoldedMLP(log=log), tuple(metrics), space)

    return make


@dataclasses.dataclass(frozen=True)
class Network:
    """One member of a folded ensemble without logarithms, in float64: the oracle for what moves codes."""

    layers: list[tuple[np.ndarray, np.ndarray]]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Standard predictions [m] of a standard code [f]."""
        return self.with_jacobian(x)[0]

    def with_jacobian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predictions [m], and their derivatives by the code [m, f]."""
        jacobian, (*hidden, (last_w, last_b)) = np.eye(len(x)), self.layers
        for w, b in hidden:
            a = x @ w + b
            sigmoid = 1 / (1 + np.exp(-a))
            x = a * sigmoid
            jacobian = (sigmoid * (1 + a * (1 - sigmoid)))[:, None] * (w.T @ jacobian)
        return x @ last_w + last_b, last_w.T @ jacobian


@pytest.fixture(scope="session")
def network() -> Callable[[Predictor, int], Network]:
    """Makes the oracle of one member."""

    def make(predictor: Predictor, member: int) -> Network:
        w, b = ([np.asarray(a[member], np.float64) for a in predictor.params[n]] for n in ("w", "b"))
        return Network(list(zip(w, b, strict=True)))

    return make


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of 8 codes, however many there are, so that a few dozen codes are several; returns that number."""
    monkeypatch.setitem(engine.TILE, "cpu", 8)
    monkeypatch.setitem(engine.GROWTH, "cpu", 1)
    monkeypatch.setitem(engine.GROWTH_OF_SEVERAL, "cpu", 1)
    return 8


@pytest.fixture(scope="module")
def small_portions() -> Iterator[None]:
    """Tiles of 8 codes and portions of 32, two units of two members, so that a few dozen codes are several portions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine.TILE, "cpu", 8)
        patch.setitem(engine.GROWTH, "cpu", 1)
        patch.setitem(engine.GROWTH_OF_SEVERAL, "cpu", 1)
        patch.setitem(execution.LARGEST, "cpu", 32)
        yield
