"""Makes the weightings of an objective among which the codes of an inversion are divided."""

from __future__ import annotations

import numpy as np

from ncp_jax.types import Float


def preference_weights(count: int, metrics: int) -> Float[np.ndarray, "p s"]:
    """Returns factors >= 0 on the weights of s metrics, whose mean is 1: the same ones for the same numbers.

    Two metrics get evenly spaced factors, from one metric alone to the other alone, in an order of which any first part
    is spread out as well. More get each metric alone, then random factors, uniform on the simplex.
    """
    if metrics == 2:
        order = np.argsort(np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1))  # multiples of the golden ratio
        share = (order / max(count - 1, 1)) if count > 1 else np.full(1, 0.5)
        return 2 * np.stack([share, 1 - share], axis=1)
    random = np.random.default_rng(0).dirichlet(np.ones(metrics), count)
    random[:metrics] = np.eye(metrics)[:count]
    return metrics * random
