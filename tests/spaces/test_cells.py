from __future__ import annotations

import itertools

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces import nas_bench_201
from ncp_jax.spaces.cells import EDGES
from ncp_jax.spaces.nas_bench_201 import NAS_BENCH_201, OPS, from_naslib, from_ncp_onehot
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO


def paths(edges, node=0):
    """All paths from a node to the output, as lists of edges."""
    if node == 3:
        return [[]]
    return [[edge, *rest] for edge in edges if edge[0] == node for rest in paths(edges, edge[1])]


def graph(code):
    """The isomorphism class of a code's cell: the set of its labelled forms after pruning, by definition."""
    edges = {edge: op for edge, op in zip(EDGES, code, strict=True) if op}
    live = {edge for path in paths(list(edges)) for edge in path}
    forms = []
    for names in ({0: 0, 1: 1, 2: 2, 3: 3}, {0: 0, 1: 2, 2: 1, 3: 3}):
        renamed = {(names[a], names[b]): edges[a, b] for a, b in live}
        if all(a < b for a, b in renamed):
            forms.append(tuple(sorted(renamed.items())))
    return min(forms)


@pytest.mark.parametrize(("space", "classes"), [(NAS_BENCH_201, 8765), (TRANSNAS_MICRO, 1948)])
def test_canonical_against_brute_force(space, classes):
    codes = [tuple(code) for code in space.all_codes().tolist()]
    smallest: dict[tuple, tuple] = {}
    for code in codes:  # in lexicographic order: the first of a class is its smallest
        smallest.setdefault(graph(code), code)
    assert len(smallest) == classes
    np.testing.assert_array_equal(space.canonical(np.array(codes)), [smallest[graph(code)] for code in codes])


def outputs(codes):
    """What cells compute for one input, with an operation of their own for each name that keeps zero."""
    rng = np.random.default_rng(0)
    matrices = {op: rng.normal(size=(5, 5)) for op in OPS[2:]}
    nodes = [np.broadcast_to(rng.normal(size=5), (len(codes), 5))]
    for node in (1, 2, 3):
        total = np.zeros((len(codes), 5))
        for (source, target), column in zip(EDGES, codes.T, strict=True):
            if target == node:
                applied = {"none": 0 * nodes[source], "skip_connect": nodes[source]}
                applied |= {op: np.sin(nodes[source] @ matrix) for op, matrix in matrices.items()}
                total += np.stack([applied[op] for op in OPS])[column, np.arange(len(codes))]
        nodes.append(total)
    return nodes[-1]


def test_rules_for_the_same_network():
    codes = NAS_BENCH_201.all_codes()
    found = {rule: NAS_BENCH_201.networks(codes, rule) for rule in NAS_BENCH_201.same_networks}
    # 6466 is the number of the benchmark's article; the others are counted by brute force, here and above.
    assert {rule: len(set(n.tolist())) for rule, n in found.items()} == {
        "isomorphism": 8765,
        "topology": 6466,
        "function": 4930,
    }
    np.testing.assert_array_equal(NAS_BENCH_201.networks(codes), found["isomorphism"])
    _, computed = np.unique(outputs(codes).round(6) + 0.0, axis=0, return_inverse=True)
    assert len(set(zip(computed.ravel().tolist(), found["function"].tolist(), strict=True))) == 4930
    # Both other rules merge only what computes the same; neither of them contains the other.
    pairs = {a: set(zip(found[a].tolist(), found["function"].tolist(), strict=True)) for a in found}
    assert {rule: len(some) for rule, some in pairs.items()} == {
        "isomorphism": 8765,
        "topology": 6466,
        "function": 4930,
    }
    for rule, numbers in found.items():
        smallest = np.asarray(NAS_BENCH_201.canonical(codes, rule))
        first = dict(reversed(list(zip(numbers.tolist(), codes.tolist(), strict=True))))
        assert smallest.tolist() == [first[number] for number in numbers.tolist()]


def test_topology_by_hand():
    cell = from_naslib([0, 1, 1, 2, 1, 0])  # skip into node 1, a convolution to node 2, skip out of it
    assert nas_bench_201.topology(cell.tolist()) == "#+#+#+(0)@nor_conv_3x3"
    assert nas_bench_201.function(cell.tolist()) == (("nor_conv_3x3", (("input", ()),)),)


def test_other_spaces_have_isomorphism_alone():
    assert TRANSNAS_MICRO.same_networks == ("isomorphism",)
    with pytest.raises(UsageError, match="rule for the same network in transnas-micro, got 'function'"):
        TRANSNAS_MICRO.canonical(TRANSNAS_MICRO.all_codes(), "function")
    with pytest.raises(UsageError, match="did you mean: topology"):
        NAS_BENCH_201.networks(NAS_BENCH_201.all_codes()[:2], "topologies")


def test_dead_cells_are_one_class():
    dead = [[0] * 6, [3, 0, 0, 0, 0, 0], [0, 0, 2, 0, 1, 1], [1, 1, 1, 0, 0, 0]]
    assert not np.asarray(NAS_BENCH_201.canonical(np.array(dead))).any()


def test_equal_networks_measure_alike(zipped):
    """In the real table isomorphic cells differ by training noise, far less than cells do in general."""
    table = zipped("all_benchmarks_zen.zip", "class_object")
    assert set(table) == {tuple(code) for code in TRANSNAS_MICRO.all_codes().tolist()}
    values = np.array([table[tuple(code)] for code in TRANSNAS_MICRO.all_codes().tolist()])
    classes = np.asarray(TRANSNAS_MICRO.index(TRANSNAS_MICRO.canonical(TRANSNAS_MICRO.all_codes())))
    means = np.bincount(classes, values)[classes] / np.bincount(classes)[classes]
    assert (values - means).std() < 0.15 * values.std()


def test_strings_by_hand():
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    assert NAS_BENCH_201.from_string(text).tolist() == [3, 0, 1, 4, 2, 3]
    assert NAS_BENCH_201.to_string([3, 0, 1, 4, 2, 3]) == text
    assert TRANSNAS_MICRO.from_string("64-41414-1_02_333").tolist() == [1, 0, 2, 3, 3, 3]
    assert TRANSNAS_MICRO.to_string([1, 0, 2, 3, 3, 3]) == "64-41414-1_02_333"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("nor_conv_3x3~0", "nor_conv_5x5~0", "operation 'nor_conv_5x5', which is none of none, skip_connect"),
        ("none~2", "none~1", "edges are not those of four nodes"),
        ("none~2|", "", "edges are not those of four nodes"),
        ("|+|", "|", "edges are not those of four nodes"),
        ("~", "", "edges are not those of four nodes"),
    ],
)
def test_bad_nas_bench_201_strings(old, new, why):
    with pytest.raises(UsageError, match=why):
        NAS_BENCH_201.from_string(NAS_BENCH_201.example.replace(old, new))


def test_bad_micro_strings():
    with pytest.raises(UsageError, match=r"with 4 where position 1 \(edge 0>2\) to be one of 0, 1, 2, 3"):
        TRANSNAS_MICRO.from_string("64-41414-1_42_333")
    with pytest.raises(UsageError, match="not 64-41414-a_bc_def"):
        TRANSNAS_MICRO.from_string("64-41414-1_2_3333")


def test_maps_by_hand():
    # NASLib: edges 01 02 03 12 13 23 = skip, none, conv3x3, conv1x1, pool, skip
    assert from_naslib((0, 1, 2, 3, 4, 0)).tolist() == [1, 0, 2, 3, 4, 1]
    hot = np.eye(5)[[0, 1, 2, 3, 4, 4]].reshape(-1)  # NCP: pool, none, skip, conv1x1, conv3x3
    assert from_ncp_onehot(hot).tolist() == [4, 0, 1, 2, 3, 3]
    assert from_ncp_onehot(np.stack([hot, hot])).shape == (2, 6)
    for order in (nas_bench_201.NASLIB_OPS, nas_bench_201.NCP_OPS):
        assert sorted(order) == sorted(nas_bench_201.OPS)


@pytest.mark.parametrize("wrong", [(0, 1, 2), (0, 1, 2, 3, 4, 5), (0.5,) * 6, 3])
def test_from_naslib_refuses(wrong):
    with pytest.raises(UsageError, match="expected NASLib architectures"):
        from_naslib(wrong)


@pytest.mark.parametrize("wrong", [np.zeros(30), np.ones(30), np.eye(5).reshape(-1), np.full(30, 0.2), 1.0])
def test_from_ncp_onehot_refuses(wrong):
    with pytest.raises(UsageError, match="expected one-hot embeddings"):
        from_ncp_onehot(wrong)


def test_maps_agree_on_the_published_tables(zipped, pickled):
    """Two publishers, two encodings, one metric: under the right maps the accuracies are those of the same networks."""
    naslib = zipped("nb201_zen.zip", "ImageNet16-120")
    rows = pickled("nas-bench-201")
    every = set(itertools.product(range(5), repeat=6))
    ours = dict(zip(map(tuple, from_naslib(list(naslib)).tolist()), naslib.values(), strict=True))
    codes = from_ncp_onehot(np.stack([row["embedding"] for row in rows]))
    assert set(ours) == {tuple(code) for code in codes.tolist()} == every
    published = np.array([row["Acc"] for row in rows])
    looked_up = np.array([ours[tuple(code)] for code in codes.tolist()])
    assert np.corrcoef(published, looked_up)[0, 1] > 0.995
    assert (np.abs(published - looked_up) < 1e-4).sum() > 7500
