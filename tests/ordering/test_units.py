"""Integer units against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ncp_jax.ordering.units import in_units


def kinds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 7
    whole = rng.integers(0, 100, (n, n)).astype(float)
    huge = whole.copy()
    huge[0, 1] = 1e12
    return {
        "integers": whole,
        "quarters": whole / 4,
        "one huge": huge,
        "reals": rng.random((n, n)),
        "magnitudes": 10.0 ** rng.uniform(-30, 30, (n, n)),
        "subnormal": whole * 5e-324,
        "largest": whole * 2.0**1010,
        "offset": 1e9 + rng.random((n, n)),
        "equal": np.ones((n, n)),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("bits", [40, 48])
def test_units_never_exceed_the_difference(kind: str, bits: int) -> None:
    weights = kinds()[kind]
    n = len(weights)
    units = in_units(weights, bits)
    assert np.array_equal(units.matrix, -units.matrix.T)
    assert np.abs(np.triu(units.matrix)).sum() <= 2.0**bits
    unit = Fraction(2) ** -units.exponent
    for i in range(n):
        for j in range(n):
            entry, true = Fraction(units.matrix[i, j]), (Fraction(weights[i, j]) - Fraction(weights[j, i])) / unit
            if i == j:
                assert entry == 0
                continue
            assert entry * true >= 0
            assert abs(entry) <= abs(true) < abs(entry) * (1 + Fraction(2) ** -48) + 1
            assert entry == true or not units.exact
            assert entry % units.step == 0
    assert units.exact == (kind in ("integers", "quarters", "one huge", "subnormal", "largest", "equal", "offset"))


def test_a_cap_keeps_the_digits_of_the_rest() -> None:
    weights = kinds()["one huge"] + 0.1
    whole, cut = in_units(weights, 48), in_units(weights, 48, cap=500.0)
    assert cut.exponent > whole.exponent + 20
    assert cut.matrix[0, 1] == pytest.approx(500 * 2.0**cut.exponent)


@pytest.mark.parametrize("kind", kinds())
def test_a_gap_is_never_below_what_another_order_gains(kind: str) -> None:
    weights = kinds()[kind]
    rng = np.random.default_rng(1)
    units = in_units(weights, 48)
    exact = [[Fraction(w) for w in row] for row in weights.tolist()]

    def forward(order: np.ndarray) -> Fraction:
        return sum((exact[a][b] for k, a in enumerate(order) for b in order[k + 1 :]), Fraction(0))

    for _ in range(50):
        one, other = rng.permutation(7), rng.permutation(7)
        gap = units.gap(one, units.loss(other)[0])
        assert Fraction(gap) >= forward(other) - forward(one)
