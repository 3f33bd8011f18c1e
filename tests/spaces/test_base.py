"""The contract of every space in the registry: a new entry is tested by existing."""

from __future__ import annotations

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.spaces import ALIASES, SPACES, get_space
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.codes import _run

SMALL = [name for name, space in SPACES.items() if space.size <= 2**20]
N = 16  # one batch size for all tests, so that each method compiles once
few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


@pytest.fixture(params=SMALL)
def small(request):
    return SPACES[request.param]


def draw(space, seed, n=N):
    return space.sample(jax.random.key(seed), n)


def test_sizes_and_names(space):
    assert space.length == len(space.values) == len(space.position_names)
    assert len(set(space.position_names)) == space.length
    assert space.lower.shape == space.upper.shape == (space.features,)
    assert space.lower.dtype == space.upper.dtype == np.float32
    assert (space.lower < space.upper).all()
    assert isinstance(space.size, int)


def test_known_sizes():
    sizes = {name: (space.length, space.features, space.size) for name, space in SPACES.items()}
    assert sizes == {
        "nas-bench-mr": (27, 27, 2**80),
        "nas-bench-201": (6, 30, 15625),
        "transnas-micro": (6, 24, 4096),
        "transnas-macro": (6, 30, 3256),
        "nats-size": (5, 5, 32768),
    }


def test_get_space():
    for name, space in SPACES.items():
        assert get_space(name.upper()) is space
    for alias, name in ALIASES.items():
        assert get_space(alias) is SPACES[name]
    with pytest.raises(UsageError, match=r"'nas-bench-202'.*did you mean: nas-bench-201"):
        get_space("nas-bench-202")


def test_is_a_constant_for_jax(space):
    codes = draw(space, 0)
    assert hash(space) == hash(get_space(space.name))
    assert jax.tree.leaves(space) == []
    argument = jax.jit(lambda s, c: s.encode(c))(space, codes)
    static = jax.jit(lambda s, c: s.encode(c), static_argnums=0)(space, codes)
    np.testing.assert_array_equal(argument, static)


def test_sample_is_legal_and_prefix_stable(space):
    @few
    @given(seeds)
    def check(seed):
        codes = draw(space, seed)
        assert codes.shape == (N, space.length)
        assert codes.dtype == jnp.int32
        assert space.is_valid(codes).all()
        np.testing.assert_array_equal(codes[:3], draw(space, seed, 3))
        np.testing.assert_array_equal(codes, space.check(codes))

    check()
    assert draw(space, 0, 0).shape == (0, space.length)


def test_sample_is_uniform(space):
    """Frequencies of all values at all positions, 6 standard errors wide."""
    codes = np.asarray(draw(space, 1, 20000))
    for place, values in enumerate(space.values):
        for value in values:
            share = (space.all_codes()[:, place] == value).mean() if space.size <= 2**20 else 1 / len(values)
            got = (codes[:, place] == value).mean()
            assert abs(got - share) < 6 * np.sqrt(share * (1 - share) / len(codes)), (place, value)


def test_encode_project_round_trip(space):
    @few
    @given(seeds)
    def check(seed):
        codes = draw(space, seed)
        relaxed = space.encode(codes)
        assert relaxed.dtype == jnp.float32
        assert relaxed.shape == (N, space.features)
        assert ((relaxed >= space.lower) & (relaxed <= space.upper)).all()
        np.testing.assert_array_equal(space.project(relaxed), codes)

    check()


def test_project_is_legal_and_idempotent_anywhere(space):
    @few
    @given(seeds, st.sampled_from([1.0, 1e3, 1e6]))
    def check(seed, scale):
        relaxed = scale * np.random.default_rng(seed).normal(size=(N, space.features))
        codes = space.project(relaxed.astype(np.float32))
        assert codes.dtype == jnp.int32
        assert space.is_valid(codes).all()
        np.testing.assert_array_equal(space.project(space.encode(codes)), codes)

    check()
    extremes = np.full((N, space.features), np.inf, np.float32) * np.where(np.arange(N) % 2, 1, -1)[:, None]
    assert space.is_valid(space.project(extremes)).all()


def test_clip_and_tangent(space):
    """Codes and clipped codes stay where they are; steps along a tangent leave the box only through its faces."""
    rng = np.random.default_rng(0)
    anywhere = jnp.asarray(rng.normal(size=(N, space.features)) * 3 * space.upper, jnp.float32)
    inside = space.clip(anywhere)
    chex.assert_equal_shape([anywhere, inside])
    assert ((inside >= space.lower) & (inside <= space.upper)).all()
    chex.assert_trees_all_close(space.clip(inside), inside, rtol=1e-6)
    codes = space.encode(draw(space, 0))
    chex.assert_trees_all_equal(space.clip(codes), codes)
    slope = space.tangent(anywhere)
    chex.assert_trees_all_close(space.tangent(slope), slope, rtol=1e-4, atol=1e-4)
    middle = space.clip((jnp.asarray(space.lower) + space.upper) / 2)[None]
    step = 1e-2 * slope / jnp.abs(slope).max()
    chex.assert_trees_all_close(space.clip(middle + step), middle + step, rtol=1e-5)


def test_project_is_nearest(space):
    rng = np.random.default_rng(0)
    center, half = (space.upper + space.lower) / 2, (space.upper - space.lower) / 2
    relaxed = (center + 1.5 * half * rng.uniform(-1, 1, size=(N, space.features))).astype(np.float32)
    got = np.asarray(space.project(relaxed))
    if space.size > 2**20:  # ordinal: position by position
        for row, code in zip(relaxed, got, strict=True):
            assert code.tolist() == [min(v, key=lambda a: abs(a - x)) for v, x in zip(space.values, row, strict=True)]
        return
    codes = space.all_codes()
    every = np.asarray(space.encode(codes), np.float64)
    distances = ((every[None] - relaxed[:, None].astype(np.float64)) ** 2).sum(-1)
    np.testing.assert_array_equal(got, codes[distances.argmin(-1)])


def test_mutate_is_one_legal_edit(space):
    @few
    @given(seeds)
    def check(seed):
        codes = draw(space, seed)
        changed = space.mutate(jax.random.key(seed), codes)
        assert changed.dtype == jnp.int32
        assert space.is_valid(changed).all()
        np.testing.assert_array_equal((changed != codes).sum(-1), 1)

    check()


@pytest.mark.parametrize("name", ["nas-bench-mr", "transnas-macro"])
def test_mutate_row_by_row(name):
    """More rows change nothing in the others; leading dimensions only fold the rows."""
    space, key = SPACES[name], jax.random.key(2)
    codes = draw(space, 3)
    changed = space.mutate(key, codes)
    np.testing.assert_array_equal(space.mutate(key, codes[:3]), changed[:3])
    np.testing.assert_array_equal(space.mutate(key, codes.reshape(4, 4, -1)), changed.reshape(4, 4, -1))


def test_mutate_reaches_every_neighbour(space):
    code = draw(space, 4)[0]
    changed = space.mutate(jax.random.key(5), jnp.tile(code, (10000, 1)))
    candidates, valid = (np.asarray(part) for part in space.neighbours(code))
    assert {tuple(c) for c in np.asarray(changed).tolist()} == {tuple(c) for c in candidates[valid].tolist()}


def test_neighbours_match_brute_force(space):
    for code in np.asarray(draw(space, 6)):
        candidates, valid = (np.asarray(part) for part in space.neighbours(code))
        got = [tuple(c) for c in candidates[valid].tolist()]
        if space.size <= 2**20:
            every = space.all_codes()
            expected = every[(every != code).sum(-1) == 1].tolist()
        else:
            expected = [
                [*code[:place].tolist(), value, *code[place + 1 :].tolist()]
                for place, values in enumerate(space.values)
                for value in values
                if value != code[place]
            ]
        assert len(got) == len(set(got))
        assert set(got) == {tuple(c) for c in expected}
        assert len({tuple(c) for c in candidates.tolist()}) == len(candidates)


def test_index_is_a_bijection_on_small_spaces(small):
    codes = small.all_codes()
    assert codes.shape == (small.size, small.length)
    assert codes.dtype == np.int32
    assert small.is_valid(codes).all()
    index = small.index(codes)
    assert index.dtype == jnp.int32
    np.testing.assert_array_equal(index, np.arange(small.size))
    assert codes.tolist() == sorted(codes.tolist())
    np.testing.assert_array_equal(small.from_index(7), codes[7])
    np.testing.assert_array_equal(small.from_index(jnp.array([[7, 8]])), codes[[[7, 8]]])
    assert small.index(np.full(small.length, 9)) == -1
    assert small.index(np.full(small.length, -1)) == -1


def test_index_of_a_large_space_uses_python_integers():
    space = SPACES["nas-bench-mr"]
    codes = np.asarray(draw(space, 8)).reshape(4, 4, -1)
    index = space.index(codes)
    assert index.shape == (4, 4)
    assert all(isinstance(i, int) for i in index.ravel())
    np.testing.assert_array_equal(space.from_index(index), codes)
    assert space.index(codes[1, 2]) == index[1, 2]
    np.testing.assert_array_equal(space.from_index(jnp.array([5, 6])), space.from_index([5, 6]))
    first, last = [v[0] for v in space.values], [v[-1] for v in space.values]
    assert space.index(first) == 0
    assert space.index(last) == space.size - 1
    np.testing.assert_array_equal(space.from_index(space.size - 1), last)
    rows = codes.reshape(-1, space.length).tolist()
    assert sorted(rows) == [rows[i] for i in np.argsort(index.ravel())]
    with pytest.raises(UsageError, match=r"at most 1048576 codes"):
        space.all_codes()


@pytest.mark.parametrize("wrong", [-1, "size", 1.5])
def test_from_index_outside(space, wrong):
    with pytest.raises(UsageError, match=rf"an index of {space.name}, an integer in 0\.\."):
        space.from_index(space.size if wrong == "size" else wrong)


def test_strings_round_trip(space):
    codes = np.asarray(draw(space, 9)) if space.size > 2**20 else space.all_codes()
    texts = space.to_strings(codes)
    assert len(set(texts)) == len({tuple(c) for c in codes.tolist()})
    back = space.from_strings(texts)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, codes)
    assert space.to_string(codes[0]) == texts[0]
    np.testing.assert_array_equal(space.from_string(f" {texts[0]}\n"), codes[0])
    assert space.from_strings([]).shape == (0, space.length)
    assert space.to_string(space.from_string(space.example)) == space.example


@pytest.mark.parametrize("text", ["", "x", "64", "1_2-3", "64-99999-basic", "|||", "٣٣-1"])
def test_bad_strings_show_a_right_one(space, text):
    with pytest.raises(UsageError) as error:
        space.from_string(text)
    assert space.example in str(error.value)
    assert repr(text) in str(error.value)


def test_check_names_what_is_wrong(space):
    codes = np.array(draw(space, 10))
    assert space.check(codes[0]).shape == (1, space.length)
    assert space.check(codes.astype(float).tolist()).dtype == np.int32
    for value in (999, -3, 1.5, np.nan, 2**40):
        bad = codes.astype(object)
        bad[5, 2] = value
        with pytest.raises(UsageError, match=r"in row 5, position 2 \(.*\) to be one of .*, got ") as error:
            space.check(bad, where="row")
        assert space.position_names[2] in str(error.value)
    with pytest.raises(UsageError, match=rf"to be {space.length} integers.*shape \(16, {space.length - 1}\)"):
        space.check(codes[:, :-1])
    for nonsense in ("abc", [[1, 2], [3]], None, 5, [], [10**400]):
        with pytest.raises(UsageError, match=rf"code of {space.name}"):
            space.check(nonsense)
    with pytest.raises(UsageError):
        space.to_string(np.full(space.length, 999))


def test_wrong_shapes_and_types(space):
    with pytest.raises(UsageError, match=rf"integer codes of {space.name}"):
        space.encode(jnp.zeros((2, space.length + 1), jnp.int32))
    with pytest.raises(UsageError, match=rf"integer codes of {space.name}"):
        jax.jit(space.canonical)(jnp.zeros((2, space.length), jnp.float32))
    with pytest.raises(UsageError, match=rf"relaxed codes of {space.name}"):
        space.project(jnp.zeros(space.features - 1))
    with pytest.raises(UsageError, match="n >= 0"):
        space.sample(jax.random.key(0), -1)


def test_is_valid_finds_illegal_values(space):
    codes = np.array(draw(space, 11))
    codes[3, 1], codes[7, 0] = 1000, -1
    np.testing.assert_array_equal(np.flatnonzero(~np.asarray(space.is_valid(codes))), [3, 7])


def test_networks_are_numbered_by_first_appearance(space: Space) -> None:
    codes = np.concatenate([draw(space, 30), draw(space, 5)])
    canonical = [tuple(code) for code in np.asarray(space.canonical(codes)).tolist()]
    order = list(dict.fromkeys(canonical))
    np.testing.assert_array_equal(space.networks(codes), [order.index(code) for code in canonical])


def test_canonical_is_idempotent_and_legal(space):
    canonical = space.canonical(draw(space, 12))
    assert canonical.dtype == jnp.int32
    assert space.is_valid(canonical).all()
    np.testing.assert_array_equal(space.canonical(canonical), canonical)


METHODS = ("encode", "project", "is_valid", "neighbours", "canonical", "index")


def argument_of(space, method, seed):
    codes = draw(space, seed)
    return space.encode(codes) + 0.1 if method == "project" else codes


@pytest.mark.parametrize("method", METHODS)
def test_vmap_equals_batched_and_does_not_recompile(space, method):
    if method == "index" and space.size >= 2**31:
        method = "canonical"  # index is computed on the host there
    function = getattr(space, method)
    mapped = jax.jit(jax.vmap(function))
    batch, other = argument_of(space, method, 13), argument_of(space, method, 14)
    expected = function(batch)
    chex.assert_trees_all_equal(mapped(batch), expected)
    square = jax.tree.map(lambda a: a.reshape(4, 4, *a.shape[1:]), expected)
    chex.assert_trees_all_equal(function(batch.reshape(4, 4, -1)), square)
    compiled = mapped._cache_size(), _run._cache_size()
    mapped(other)
    function(other)
    assert (mapped._cache_size(), _run._cache_size()) == compiled


@pytest.mark.parametrize("name", ["nas-bench-mr", "transnas-macro"])
def test_random_methods_inside_jit(name):
    space, key = SPACES[name], jax.random.key(17)
    walk = jax.jit(lambda key: space.mutate(key, space.sample(key, N)))
    np.testing.assert_array_equal(walk(key), space.mutate(key, space.sample(key, N)))
    compiled = walk._cache_size(), _run._cache_size()
    walk(jax.random.key(18))
    space.mutate(key, draw(space, 18))
    assert (walk._cache_size(), _run._cache_size()) == compiled


@pytest.mark.parametrize("name", ["nas-bench-mr", "nas-bench-201", "transnas-macro"])
def test_x64_gives_the_same_codes(name):
    space = SPACES[name]
    codes, key = draw(space, 15), jax.random.key(16)
    expected = (codes, space.mutate(key, codes), space.encode(codes), space.neighbours(codes), space.canonical(codes))
    index = space.index(codes)
    with jax.enable_x64(True):
        again = draw(space, 15)
        got = (again, space.mutate(key, again), space.encode(again), space.neighbours(again), space.canonical(again))
        np.testing.assert_array_equal(space.project(space.encode(again).astype(jnp.float64)), codes)
        assert space.project(space.encode(again)).dtype == jnp.int32
        np.testing.assert_array_equal(space.index(again), index)
    chex.assert_trees_all_equal(got, expected, strict=True)


def test_import_starts_no_backend():
    """An unknown platform would make the first use of a backend fail."""
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform", "PYTHONPATH": paths}
    code = "import ncp_jax.spaces as s; print(s.get_space('mr').size, s.get_space('macro').size)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(2**80), "3256"], done.stderr
