"""few_labels: networks on raw codes, ranks of proposals, paired tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from few_labels.ensembles import CodeNetwork, draw_labels, read_raw
from few_labels.ranking import Ranking
from few_labels.summary import paired_test, with_holm

from ncp_jax.searchers.ensemble import draw_networks, predict
from ncp_jax.searchers.inputs import Units, network_inputs
from ncp_jax.spaces import get_space


def test_a_network_on_raw_codes_predicts_the_same() -> None:
    space = get_space("transnas-micro")
    relaxed = space.encode(jnp.asarray(space.all_codes()[::1300]))
    units = Units(jnp.linspace(-1, 1, 35), jnp.linspace(0, 2, 35))
    networks = draw_networks(jax.random.key(0), 2, 35, 4, 1)
    raw = read_raw(networks, units)
    for member in range(2):
        one, other = (tuple(leaf[member] for leaf in some) for some in (networks, raw))
        wanted = predict(one, network_inputs(space.name, relaxed, units))
        found = jax.vmap(CodeNetwork(space.name), (None, 0))(other, relaxed)[:, 0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_gradients_are_finite_where_a_code_has_no_block() -> None:
    space = get_space("transnas-macro")
    nothing = jnp.zeros(space.features).at[:: space.letters].set(1.0)
    network = tuple(leaf[0] for leaf in draw_networks(jax.random.key(0), 1, 47, 4, 1))
    slope = jax.jit(jax.grad(lambda code: CodeNetwork(space.name)(network, code)[0]))(nothing)
    assert np.isfinite(slope).all()


def test_smaller_sets_of_labels_are_parts_of_larger_ones() -> None:
    small, large = draw_labels(50, 5, (3, 4)), draw_labels(50, 20, (4, 5))
    assert (small[1] == large[0, :5]).all()
    assert len(set(large[0])) == 20
    assert (small[0] != small[1]).any()


def test_ranks_among_codes_networks_and_connected_cells() -> None:
    # Codes 0 and 1 are one network, whose mean is second; code 3 computes nothing.
    ranking = Ranking(
        values=np.array([9.0, 5.0, 8.0, 1.0]),
        ranks=np.array([1, 3, 2, 4]),
        networks=np.array([0, 0, 1, 2]),
        network_ranks=np.array([2, 2, 1, 3]),
        connected=np.array([True, True, True, False]),
    )
    assert ranking.sizes() == {"codes": 4, "networks": 3, "connected": 3}
    found = ranking.judge(np.array([1, 2]))
    assert found == pytest.approx(
        {"percentile": 50.0, "percentile_networks": 100 / 3, "percentile_connected": 200 / 3, "regret": 1.0}
    )
    assert ranking.judge(np.array([3]))["percentile_connected"] == 100.0


def test_paired_tests_count_lower_as_better() -> None:
    test = paired_test([1.0] * 8 + [2.0], [2.0] * 8 + [2.0])
    assert (test["wins"], test["ties"], test["losses"]) == (8, 1, 0)
    assert test["difference"]["mean"] == pytest.approx(-8 / 9)
    assert test["p"] == pytest.approx(2 / 2**8)
    assert with_holm({"a": test, "b": test})["a"]["p_holm"] == pytest.approx(4 / 2**8)
