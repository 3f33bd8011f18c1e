"""Graphs against paths enumerated one by one, and against cells and chains worked by hand."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces import NAS_BENCH_201, NAS_BENCH_MR, SPACES, TRANSNAS_MACRO, TRANSNAS_MICRO, get_space
from ncp_jax.spaces.cells import EDGES

NONE, SKIP, CONV1, CONV3, POOL = range(5)


def paths(edges, node=0):
    """All paths from a node to the output, as lists of edges."""
    if node == 3:
        return [[]]
    return [[edge, *rest] for edge in edges if edge[0] == node for rest in paths(edges, edge[1])]


def some_codes(space, n=40):
    return np.array(space.sample(jax.random.key(1), n))


@pytest.mark.parametrize("space", [NAS_BENCH_201, TRANSNAS_MICRO], ids=lambda space: space.name)
def test_cells_against_enumerated_paths(space):
    codes = np.random.default_rng(0).permutation(space.all_codes())[:600]
    graphs = space.graphs(codes)
    kinds = len(space.ops) - 1
    dead = 0
    for row, code in enumerate(codes.tolist()):
        ops = {edge: op for edge, op in zip(EDGES, code, strict=True) if op}
        whole = paths(list(ops))
        live = [any(edge in path for path in whole) for edge in EDGES]
        np.testing.assert_array_equal(graphs.live[row], live)
        used = [op for op, alive in zip(code, live, strict=True) if alive]
        expected = [used.count(kind + 1) for kind in range(kinds)]
        expected.append(len(used))
        expected.append(max((sum(ops[edge] in (CONV1, CONV3) for edge in path) for path in whole), default=0))
        expected.append(max((sum(ops[edge] == CONV3 for edge in path) for path in whole), default=0))
        expected.append(np.log1p(9 * used.count(CONV3) + used.count(CONV1)))
        expected += [
            [(0, 3)] in whole,
            [(0, 1), (1, 3)] in whole,
            [(0, 2), (2, 3)] in whole,
            [(0, 1), (1, 2), (2, 3)] in whole,
        ]
        np.testing.assert_allclose(graphs.attributes[row], expected, rtol=1e-6)
        dead += sum(op > 0 for op in code) - len(used)
    assert dead > 50, "the sample shows dead operations"


def test_a_cell_by_hand():
    """0>1 conv3x3, 0>2 none, 1>2 conv1x1, 0>3 pool, 1>3 none, 2>3 conv3x3: a path of three, and a pool beside it."""
    graphs = get_space("nb201").graphs([[CONV3, NONE, CONV1, POOL, NONE, CONV3]])
    np.testing.assert_array_equal(graphs.live[0], [1, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(
        graphs.nodes[0],
        [
            [0, 0, 1, 0, 1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 1, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 1, 0, 0, 0, 0, 0, 0, 1],
        ],
    )
    np.testing.assert_allclose(graphs.attributes[0], [0, 1, 2, 1, 4, 3, 2, np.log(20), 1, 0, 0, 1], rtol=1e-6)


def test_links_of_a_cell_by_hand():
    links = get_space("micro").graphs(np.zeros((0, 6), int)).links
    pairs = [(EDGES[i], EDGES[j]) for i, j in np.argwhere(links).tolist()]
    assert pairs == [((0, 1), (1, 2)), ((0, 1), (1, 3)), ((0, 2), (2, 3)), ((1, 2), (2, 3))]


@pytest.mark.parametrize("code", [[0] * 6, [CONV3, 0, 0, 0, 0, 0], [CONV3, 0, CONV1, 0, 0, 0], [0, 0, 2, 0, 2, 2]])
def test_a_cell_without_a_path_is_empty(code):
    graphs = NAS_BENCH_201.graphs([code])
    assert not graphs.nodes.any()
    assert not graphs.live.any()
    assert not graphs.attributes.any()


@pytest.mark.parametrize("space", [NAS_BENCH_201, TRANSNAS_MICRO], ids=lambda space: space.name)
def test_dead_operations_change_nothing(space):
    codes = space.all_codes()
    graphs = space.graphs(codes)
    pruned = np.where(graphs.live > 0, codes, NONE)
    assert (pruned != codes).any(axis=1).sum() > 500
    chex.assert_trees_all_equal(graphs, space.graphs(pruned))


def test_codes_that_differ_in_live_operations_have_different_nodes():
    codes = NAS_BENCH_201.all_codes()
    graphs = NAS_BENCH_201.graphs(codes)
    pruned = np.where(graphs.live > 0, codes, NONE)
    distinct = len(np.unique(pruned, axis=0))
    assert len(np.unique(graphs.nodes.reshape(len(codes), -1), axis=0)) == distinct


def test_a_macro_chain_by_hand():
    """Normal, channels x2, resolution /2, both; channels 1 2 2 4, sides 1 1 1/2 1/4 after them; two places absent."""
    graphs = get_space("macro").graphs([[1, 2, 3, 4, 0, 0]])
    np.testing.assert_array_equal(graphs.live[0], [1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(
        graphs.nodes[0],
        [
            [1, 0, 0, 0, 0, 0, 0.0],
            [0, 1, 0, 0, 1, 0, 0.2],
            [0, 0, 1, 0, 1, -1, 0.4],
            [0, 0, 0, 1, 2, -2, 0.6],
            [0, 0, 0, 0, 0, 0, 0.0],
            [0, 0, 0, 0, 0, 0, 0.0],
        ],
        rtol=1e-6,
    )
    # First convolution, three more, projection.
    params = [9 + 27, 18 + 108 + 2, 36 + 108 + 4, 72 + 432 + 8]
    multiply_adds = params[0] + params[1] + params[2] / 4 + params[3] / 16
    channels, sides = [0, 1, 1, 2, 2, 2], [0, 0, -1, -2, -2, -2]
    expected = [4, np.log2(multiply_adds), np.log2(sum(params)), *channels, *sides, 8 / 6, -7 / 6]
    np.testing.assert_allclose(graphs.attributes[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(graphs.links, np.diag(np.ones(5), 1))


def test_macro_costs_add_up_module_by_module():
    codes = TRANSNAS_MACRO.all_codes()[::41]
    attributes = TRANSNAS_MACRO.graphs(codes).attributes
    for code, row in zip(codes.tolist(), attributes, strict=True):
        width, side, params, multiply_adds = 1, 1.0, 0, 0.0
        for module in filter(None, code):
            inputs = width
            width *= 2 if module in (2, 4) else 1
            side /= 2 if module in (3, 4) else 1
            added = 9 * inputs * width + 3 * 9 * width * width + (inputs * width if module > 1 else 0)
            params, multiply_adds = params + added, multiply_adds + added * side * side
        np.testing.assert_allclose(2 ** row[1:3], [multiply_adds, params], rtol=1e-5)
        assert row[8] == np.log2(width)
        assert row[14] == np.log2(side)


def test_positions_of_multi_resolution():
    code = some_codes(NAS_BENCH_MR, 1)
    code[0, :3] = [8, 128, 3]
    graphs = get_space("mr").graphs(code)
    np.testing.assert_allclose(graphs.nodes[0, :3, 0], [0, 1, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(graphs.nodes[0, :, 1:], np.eye(27))
    np.testing.assert_array_equal(graphs.attributes[0, :27], graphs.nodes[0, :, 0])
    np.testing.assert_allclose(graphs.attributes[0, 27:], np.log(code[0]), rtol=1e-6)
    np.testing.assert_array_equal(np.argwhere(graphs.links), [[i, i + 1] for i in range(26)])


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
def test_every_space_has_graphs(space):
    codes = some_codes(space)
    graphs = space.graphs(codes)
    v = graphs.nodes.shape[1]
    assert graphs.nodes.shape[:2] == graphs.live.shape == (len(codes), v)
    assert graphs.links.shape == (v, v)
    assert len(graphs.attributes) == len(codes)
    chex.assert_type(jax.tree.leaves(graphs), np.float32)
    chex.assert_tree_all_finite(graphs)
    assert set(np.unique(graphs.live)) <= {0, 1}
    np.testing.assert_array_equal(graphs.nodes.any(axis=-1), graphs.live > 0)
    assert not np.tril(graphs.links).any(), "operations feed later ones"
    assert space.graphs(codes[:0]).nodes.shape == (0, *graphs.nodes.shape[1:])


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
def test_a_batch_is_its_rows(space):
    codes = some_codes(space, 5)
    batch = space.graphs(codes)
    for row, code in enumerate(codes):
        alone = space.graphs(code)
        np.testing.assert_array_equal(alone.nodes[0], batch.nodes[row])
        np.testing.assert_array_equal(alone.live[0], batch.live[row])
        np.testing.assert_allclose(alone.attributes[0], batch.attributes[row], rtol=1e-6)


def test_graphs_are_pytrees():
    graphs = get_space("micro").graphs(some_codes(TRANSNAS_MICRO))
    total = jax.jit(lambda g: g.nodes.sum() + g.attributes.sum())(graphs)
    np.testing.assert_allclose(total, graphs.nodes.sum() + graphs.attributes.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("space", "codes", "why"),
    [
        ("nb201", [[1, 2, 3]], r"code of nas-bench-201 to be 6 integers.*got shape \(1, 3\)"),
        ("micro", [[0, 0, 0, 0, 0, 4]], r"in code 0, position 5 \(edge 2>3\) to be one of 0, 1, 2, 3, got 4"),
        ("macro", [[1, 1, 1, 1, 0, 0]], "4 to 6 modules"),
        ("mr", [[1.5] * 27], "position 0"),
        ("nb202", [[0] * 6], "known space.*nb201"),
    ],
)
def test_bad_input(space, codes, why):
    with pytest.raises(UsageError, match=why):
        get_space(space).graphs(codes)
