"""Described spaces: the contract of all spaces, and conditions and forbidden combinations against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.spaces import NAS_BENCH_201, SPACES, Bounds, get_space, register
from ncp_jax.spaces.constrained import ConstrainedSpace, make_space
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.positions import Position

from . import test_base as contract
from . import test_bounds as bounds_contract
from . import test_graphs as graphs_contract
from . import test_registry as registry_contract
from .described import CONSTRAINED, DESCRIBED, PRODUCT

EVERY: tuple[Any, ...] = (
    contract.test_sizes_and_names,
    contract.test_is_a_constant_for_jax,
    contract.test_sample_is_legal_and_prefix_stable,
    contract.test_encode_project_round_trip,
    contract.test_project_is_legal_and_idempotent_anywhere,
    contract.test_clip_and_tangent,
    contract.test_mutate_reaches_every_neighbour,
    contract.test_strings_round_trip,
    contract.test_check_names_what_is_wrong,
    contract.test_wrong_shapes_and_types,
    contract.test_is_valid_finds_illegal_values,
    contract.test_networks_are_numbered_by_first_appearance,
    contract.test_canonical_is_idempotent_and_legal,
)
OF_PRODUCTS = (
    contract.test_mutate_is_one_legal_edit,
    contract.test_neighbours_match_brute_force,
    contract.test_sample_is_uniform,
)
OF_ONE = (
    contract.test_mutate_row_by_row,
    contract.test_random_methods_inside_jit,
    contract.test_x64_gives_the_same_codes,
)
SMALL = ("tests-product", "tests-constrained")
few = settings(max_examples=8, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    for space in DESCRIBED.values():
        register(space)
    yield
    for name in DESCRIBED:
        del SPACES[name]


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_contract_of_spaces(name: str) -> None:
    """One test for all, so that each method is compiled once."""
    space = DESCRIBED[name]
    for test in EVERY:
        test(space)
    for text in ("", "x", "64", "1_2-3", "|||", "٣٣-1"):
        contract.test_bad_strings_show_a_right_one(space, text)
    for wrong in (-1, "size", 1.5):
        contract.test_from_index_outside(space, wrong)
    for method in contract.METHODS:
        contract.test_vmap_equals_batched_and_does_not_recompile(space, method)
    graphs_contract.test_every_space_has_graphs(space)
    graphs_contract.test_a_batch_is_its_rows(space)
    registry_contract.test_a_string_says_its_space(space)
    if name in SMALL:
        contract.test_index_is_a_bijection_on_small_spaces(space)
    if name == "tests-product":
        for test in OF_PRODUCTS:
            test(space)
    if name == "tests-constrained":
        for by_name in OF_ONE:
            by_name(name)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("tests-product", {"depth": (3, 4), "kernel": (1, 2), "rate": (None, 3)}),
        ("tests-constrained", {"kernel4": (1, 2), "width": (24, None)}),
    ],
)
def test_the_contract_of_bounds(name: str, limits: Any) -> None:
    bounds = Bounds.of(DESCRIBED[name], limits)
    bounds_contract.test_unrestricted_bounds_are_the_space(bounds)
    bounds_contract.test_projection_is_within_and_idempotent(bounds)
    bounds_contract.test_json_round_trip(bounds)
    if name == "tests-product":
        bounds_contract.test_projection_is_the_nearest_by_brute_force(bounds)
        bounds_contract.test_box_holds_the_codes_left_and_no_less(bounds)
        bounds_contract.test_sample_is_uniform_over_the_codes_left(bounds)
        return
    every = DESCRIBED[name].all_codes()
    live = DESCRIBED[name].live(every)
    left = every[((every[:, 1] >= 1) | ~live[:, 1]) & (every[:, 4] >= 24)]
    assert bounds.size == len(left)
    assert {tuple(c) for c in np.asarray(bounds.sample(jax.random.key(0), 2000)).tolist()} == {
        *map(tuple, left.tolist())
    }
    np.testing.assert_array_equal(
        bounds.contains(every), [tuple(c) in {*map(tuple, left.tolist())} for c in every.tolist()]
    )
    hot = np.asarray(DESCRIBED[name].encode(left))
    assert ((bounds.lower <= hot) & (hot <= bounds.upper)).all()


def test_bounds_of_a_large_space() -> None:
    space = DESCRIBED["tests-large"]
    bounds = Bounds.of(space, {"stages": (2, 3), "width0": (None, 64), "kernel?": (2, 2)})
    assert bounds.size == Bounds.of(space, {"stages": (2, 2), "width0": (None, 64), "kernel?": (2, 2)}).size + (
        Bounds.of(space, {"stages": (3, 3), "width0": (None, 64), "kernel?": (2, 2)}).size
    )
    codes = np.asarray(bounds.sample(jax.random.key(0), 16))
    assert set(codes[:, 0]) == {2, 3}
    assert (codes[:, 1] <= 64).all()
    with pytest.raises(UsageError, match="forbidden combinations and bounds that leave a code of tests-large"):
        Bounds.of(space, {"rate": (60, None), "decay": (6, None)})


def legal(code: list[int], rates: tuple[float, ...]) -> bool:
    """The rules of the constrained space, by hand."""
    stages, kernel, rate, _, width = code
    seven = stages == 4 and kernel == 2 and rates[rate] > 0.02
    return not seven and width * stages <= 130 and not (stages == 2 and width <= 16)


def canonical(code: list[int]) -> tuple[int, ...]:
    stages, kernel, rate, sub, width = code
    kernel = kernel if stages == 4 else 0
    return (stages, kernel, rate, sub if kernel else 0, width)


def test_conditions_and_forbidden_combinations_by_brute_force() -> None:
    space = DESCRIBED["tests-constrained"]
    every = np.array(list(itertools.product(*space.values)), np.int32)
    rates = space.positions[2].grid
    good = [legal(code, rates) for code in every.tolist()]
    np.testing.assert_array_equal(space.is_valid(every), good)
    forms = sorted({canonical(code) for code in every[good].tolist()})
    assert space.size == len(forms)
    assert list(map(tuple, space.all_codes().tolist())) == forms
    np.testing.assert_array_equal(space.canonical(every[good]), [canonical(code) for code in every[good].tolist()])
    np.testing.assert_array_equal(space.check(every[good]), [canonical(code) for code in every[good].tolist()])
    np.testing.assert_array_equal(
        space.index(every), [forms.index(canonical(c)) if g else -1 for c, g in zip(every.tolist(), good, strict=True)]
    )
    drawn = np.bincount(np.asarray(space.index(space.sample(jax.random.key(0), 12000))), minlength=space.size)
    assert abs(drawn - 12000 / space.size).max() < 6 * np.sqrt(12000 / space.size)

    codes, scale = space.all_codes(), space.upper - space.lower
    hot = np.asarray(space.encode(codes)) / scale
    anywhere = bounds_contract.anywhere(space, 0)
    distances = ((hot[None] - anywhere[:, None] / scale) ** 2).sum(-1)
    np.testing.assert_array_equal(space.project(anywhere), codes[distances.argmin(-1)])

    for code in codes[::17].tolist():
        edits = set()
        for place, values in enumerate(space.values):
            for value in values:
                edited = [*code[:place], value, *code[place + 1 :]]
                if space.live(np.array(code))[place] and legal(edited, rates) and value != code[place]:
                    edits.add(canonical(edited))
        candidates, valid = map(np.asarray, space.neighbours(np.array(code)))
        assert {*map(tuple, candidates[valid].tolist())} == edits


def test_a_large_space_is_counted_drawn_and_numbered_exactly() -> None:
    """The count by recursion over the stages, each of which only ties a width to a kernel."""
    space = DESCRIBED["tests-large"]
    pair, wide, both = 16 * 3 - 4, 16 * 3 - 4, 0
    for first, second in itertools.product(range(8, 129, 8), repeat=2):
        kernels = [3 - (width > 96) for width in (first, second)]
        both += kernels[0] * kernels[1] * (first + second <= 200)
    # Kernels count in every code; a dead width leaves all three.
    chains = [pair * 3**3, both * 3**2, both * wide * 3, both * wide * wide]
    rates = sum(rate > 0.1 for rate in space.positions[13].grid)
    decays = sum(decay > 0.5 for decay in space.positions[14].grid)
    assert space.size == sum(chains) * 4**4 * (64 * 11 - rates * decays) * 31 * 31 * 2
    assert space.size > 10**15
    assert space.counted
    codes = np.asarray(space.sample(jax.random.key(1), contract.N))
    numbers = space.index(codes)
    assert all(isinstance(number, int) and 0 <= number < space.size for number in numbers)
    np.testing.assert_array_equal(space.from_index(numbers), codes)
    assert space.index(space.from_index(space.size - 1)) == space.size - 1
    stages = np.asarray(space.sample(jax.random.key(2), 4000))[:, 0]
    for stage, chain in enumerate(chains, 1):
        share = chain / sum(chains)
        assert abs((stages == stage).mean() - share) < 6 * np.sqrt(share * (1 - share) / 4000)


NAMES = ("a", "b", "c", "d")


@st.composite
def descriptions(draw: st.DrawFn) -> SpaceDescription:
    """Small spaces with conditions on earlier positions and forbidden combinations of all kinds."""
    positions: list[Position] = []
    for name in NAMES[: draw(st.integers(2, 4))]:
        kind = draw(st.sampled_from([{"values": (1, 2, 4)}, {"choices": ("x", "y", "z")}, {"boolean": True}]))
        condition = draw(terms(positions)) if positions and draw(st.booleans()) else ""
        positions.append(Position(name, **kind, only_if=condition))
    forbid = tuple(
        f"{draw(st.sampled_from(['', 'not ']))}({draw(terms(positions))} {draw(st.sampled_from(['and', 'or']))} "
        f"{draw(terms(positions))})"
        for _ in range(draw(st.integers(0, 2)))
    )
    return SpaceDescription("drawn", tuple(positions), forbid)


def terms(positions: list[Position]) -> st.SearchStrategy[str]:
    def term(position: Position) -> st.SearchStrategy[str]:
        if position.boolean:
            return st.sampled_from([position.name, f"{position.name} == false"])
        if position.choices:
            return st.sampled_from([f"{position.name} != 'x'", f"{position.name} in ['y', 'z']"])
        return st.sampled_from([f"{position.name} > 1", f"{position.name} * 2 - 1 == 3", f"{position.name} <= 2"])

    return st.one_of([term(position) for position in positions])


@settings(max_examples=60, deadline=None)
@given(descriptions())
def test_any_rules_leave_what_brute_force_leaves(description: SpaceDescription) -> None:
    """On the host, where nothing compiles: the states of positions, their count, and every code by its number."""
    plain = make_space(SpaceDescription("plain", description.positions))
    every = np.array(list(itertools.product(*plain.values)), np.int32)
    left = {form for code in every.tolist() if (form := _judged(code, description)) is not None}
    if not left:
        with pytest.raises(UsageError, match="that leave a code of drawn"):
            make_space(description)
        return
    space = make_space(description)
    assert space.size == len(left)
    assert {*map(tuple, space.settled(every)[np.asarray(space._is_valid(every))].tolist())} == left
    if isinstance(space, ConstrainedSpace):
        assert {*map(tuple, space._from_index_host(np.arange(space.size).astype(object)).tolist())} == left
        live, _ = space.values_left()
        for place, values in enumerate(live):
            found = {form[place] for form in left if space.live(np.array(form))[place]}
            assert found == {*values} or (not found and len(values) == 1)


def _judged(code: list[int], description: SpaceDescription) -> tuple[int, ...] | None:
    """The canonical form of a code, or None if it is forbidden: Python's own ``eval``, with None for the unknown."""
    names: dict[str, Any] = {}
    form = []
    for position, value in zip(description.positions, code, strict=True):
        live = not position.only_if or _truth(position.only_if, names) is True
        meaning = position.grid[value] if not position.ordered else value
        names[position.name] = meaning if live else None
        form.append(value if live else position.codes[0])
    return None if any(_truth(text, names) is True for text in description.forbid) else tuple(form)


def _truth(text: str, names: dict[str, Any]) -> bool | None:
    if text.startswith("not "):
        inner = _truth(text[4:], names)
        return None if inner is None else not inner
    if text.startswith("("):
        word = "and" if " and " in text else "or"
        parts = [_truth(part, names) for part in text[1:-1].split(f" {word} ")]
        decisive = word == "or"
        return decisive if decisive in parts else None if None in parts else not decisive
    name = text.split()[0]
    return None if names[name] is None else bool(eval(text.replace("false", "False"), {}, names))


def test_wide_combinations_are_sampled_and_repaired() -> None:
    positions = [Position(f"w{place}", range=(1, 16)) for place in range(8)]
    space = make_space(SpaceDescription("wide", tuple(positions), ("+".join(p.name for p in positions) + " > 40",)))
    assert isinstance(space, ConstrainedSpace)
    assert not space.counted
    assert space.size == 16**8
    hits, draws = space.legal_draws()
    assert 0 < hits < draws
    codes = space.sample(jax.random.key(0), contract.N)
    assert (np.asarray(codes).sum(-1) <= 40).all()
    np.testing.assert_array_equal(space.project(space.encode(codes)), codes)
    anywhere = np.random.default_rng(0).uniform(2, 12, (contract.N, 8)).astype(np.float32)
    found = np.asarray(space.project(anywhere))
    assert (found.sum(-1) <= 40).all()
    np.testing.assert_array_equal(space.project(space.encode(found)), found)
    # The nearest real numbers of that sum are no farther than any code.
    least = np.maximum(anywhere.sum(-1) - 40.5, 0) / np.sqrt(8)
    distance = np.linalg.norm(found - anywhere, axis=-1)
    assert (distance <= 1.25 * least + 1.5).all()
    for extreme in (np.inf, -np.inf, np.nan):
        assert space.is_valid(space.project(np.full((2, 8), extreme, np.float32))).all()
    with pytest.raises(UsageError, match="a space whose codes can be counted, got wide"):
        space.index(codes)


def test_rules_that_leave_nothing() -> None:
    many = tuple(Position(f"w{place}", range=(1, 16)) for place in range(20))
    total = " + ".join(position.name for position in many)
    cases = {
        ("w0 >= 1",): "none: 'w0 >= 1' is always true",
        ("w0 > 8", "w0 <= 8"): "none with all of them",
        ("w0 > w1", "w1 > w2", "w2 > w0", "w0 == w1", "w1 == w2 or w0 < w1"): "none with all of them",
        (f"{total} >= 20",): "is always true",
        (f"{total} > 21",): "none in 16384 draws, which proves nothing",
    }
    for forbid, text in cases.items():
        with pytest.raises(UsageError, match=f"leave a code of nothing.*{text}"):
            make_space(SpaceDescription("nothing", many, forbid))


def nas_bench_201() -> DescribedSpace:
    names = ("e01", "e02", "e12", "e03", "e13", "e23")
    ops = NAS_BENCH_201.ops
    return make_space(SpaceDescription("nb201-described", tuple(Position(name, choices=ops) for name in names)))


def test_nas_bench_201_described_is_the_built_in_space() -> None:
    space, built = nas_bench_201(), get_space("nas-bench-201")
    key, rng = jax.random.key(3), np.random.default_rng(0)
    assert (space.size, space.length, space.features, space.values) == (15625, 6, 30, built.values)
    codes = built.sample(key, contract.N)
    np.testing.assert_array_equal(space.sample(key, contract.N), codes)
    np.testing.assert_array_equal(space.mutate(key, codes), built.mutate(key, codes))
    np.testing.assert_array_equal(space.encode(codes), built.encode(codes))
    np.testing.assert_array_equal(space.all_codes(), built.all_codes())
    for mine, theirs in zip(space.neighbours(codes), built.neighbours(codes), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    anywhere = jnp.asarray(rng.normal(size=(contract.N, 30)), jnp.float32)
    for method in ("project", "clip", "tangent"):
        np.testing.assert_allclose(
            getattr(space, method)(anywhere), getattr(built, method)(anywhere), rtol=1e-6, atol=1e-7
        )


def test_the_text_forms_of_values() -> None:
    space = DESCRIBED["tests-constrained"]
    texts = ("stages=2 rate=1e-4 width=24.0", "stages=2 width=24 rate=0.000100 kernel4=7x7 sub=yes")
    for text in texts:
        assert space.to_string(space.from_string(text)) == "stages=2 rate=0.0001 width=24"
    for text, why in {
        "stages=5 rate=0.1 width=16": "with stages=5, the nearest value is 4",
        "stages=3 rate=0.0003 width=16": "with rate=0.0003, the nearest value is 0.000398",
        "stages=4 rate=0.1 width=16": "without kernel4",
        "stages=4 kernel4=5x5 rate=0.1 width=16": "without sub",
        "stages=4 kernel4=6x6 rate=0.1 width=16": "the values are 3x3, 5x5, 7x7; nearest: ",
        "stages=3 stages=3 rate=0.1 width=16": "with stages twice",
        "stages=3 rate=0.1 width=many": "a number belongs here",
        "stages=4 kernel4=7x7 sub=no rate=0.1 width=16": "no combination that .*kernel4 == '7x7' and rate > 0.02",
    }.items():
        with pytest.raises(UsageError, match=why):
            space.from_string(text)
    product = DESCRIBED["tests-product"]
    assert product.to_string([2, 2, 4, 1, 32]) == "depth=2 kernel=7 x 7 rate=0.1 skip=true width=32"
    assert PRODUCT.positions[2].grid == (0.001, 0.00316, 0.01, 0.0316, 0.1)
    assert CONSTRAINED.digest != PRODUCT.digest
