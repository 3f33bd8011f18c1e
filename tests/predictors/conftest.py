from __future__ import annotations

import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation

METRICS = (
    MetricSpec("a/acc", task="a", unit="%"),
    MetricSpec("b/loss", task="b", direction="minimize"),
    MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"),
)


@pytest.fixture(scope="session")
def folded() -> Callable[..., Predictor]:
    """Makes an ensemble of random folded networks on NAS-Bench-MR: 27 features, three metrics."""

    def make(*, log: bool = False, members: int = 3, seed: int = 0, apply: FoldedMLP | None = None) -> Predictor:
        rng = np.random.default_rng(seed)
        sizes = ((2 if log else 1) * 27, 6, 9, 3)
        w = [rng.normal(size=(members, i, o)) / np.sqrt(i) for i, o in itertools.pairwise(sizes)]
        b = [rng.normal(size=(members, o)) for o in sizes[1:]]
        # As folded heads do: each output reads three hidden units of its own.
        w[-1] *= np.kron(np.eye(3), np.ones((3, 1)))
        scale = Standardisation(
            *(jnp.asarray(a, jnp.float32) for a in (rng.uniform(20, 40, 27), rng.uniform(5, 20, 27))),
            *(jnp.asarray(a, jnp.float32) for a in ([70.0, 3.0, 1.5], [4.0, 0.5, 0.7])),
        )
        params = {name: tuple(jnp.asarray(a, jnp.float32) for a in arrays) for name, arrays in (("w", w), ("b", b))}
        if log:
            params |= {n: jnp.tile(getattr(scale, n), (members, 1)) for n in ("x_mean", "x_std")}
        return Predictor(params, scale, apply or FoldedMLP(log=log), METRICS, "nas-bench-mr")

    return make
