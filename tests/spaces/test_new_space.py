"""A space that only this file knows: one class and its registrations serve every part of the library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import MetricSpec, Objective, Predictor, Table, build, networks, propagate
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.checks import UsageError
from ncp_jax.networks.blocks import Chain
from ncp_jax.networks.families import FAMILIES, single_branch_head
from ncp_jax.networks.layers import Convolution, Parameters
from ncp_jax.predictors import FoldedMLP, Standardisation
from ncp_jax.propagation import PropagationConfig
from ncp_jax.searchers import Candidates, make_searcher, search
from ncp_jax.spaces import ALIASES, SPACES, Bounds, CostModel, cost_model, cost_tasks, find_code, get_space, register
from ncp_jax.spaces.base import CategoricalSpace, OrdinalSpace
from ncp_jax.spaces.costs import CostFamily, register_costs
from ncp_jax.spaces.costs.model import SCALE, UNITS, count_rows, floating
from ncp_jax.spaces.costs.registry import _FAMILIES
from ncp_jax.spaces.graphs import ArchitectureGraphs, chain, join_features

from . import test_base as contract
from . import test_bounds as bounds_contract

DEEPEST, CLASSES, SIDE = 4, 7, 8


# What a new space's file holds, from here


class StackSpace(OrdinalSpace):
    """Stacks of equal convolutions: depth, width and kernel; strings like ``stack-2-16-3``."""

    def _format(self, code: list[int]) -> str:
        return "stack-" + "-".join(map(str, code))

    def _parse(self, text: str) -> list[int]:
        name, *numbers = text.split("-")
        if name != "stack" or len(numbers) != self.length:
            raise self._bad_string(text, "which is not stack-depth-width-kernel")
        return self._numbers(text, numbers)

    def _graphs(self, codes: np.ndarray) -> ArchitectureGraphs:
        live = np.arange(DEEPEST) < codes[:, :1]
        nodes = np.repeat(np.log2(codes[:, None, 1:]), DEEPEST, axis=1)
        return join_features(nodes, live, chain(DEEPEST), [np.log(codes)])


STACKS = StackSpace(
    name="stacks",
    values=((1, 2, 3, 4), (8, 16, 32), (1, 3, 5)),
    position_names=("depth", "width", "kernel"),
    example="stack-2-16-3",
    aliases=("stk",),
    mark="stack",
)


def count(depth: Any, width: Any, kernel: Any) -> dict[str, Any]:
    weights = kernel * kernel * (3 * width + (depth - 1) * width * width)
    return {"flops": SIDE**2 * weights + CLASSES * width, "params": weights + CLASSES * width + CLASSES}


def stack_costs(task: str) -> CostModel:
    def relaxed(codes: Any) -> dict[str, Any]:
        counts = count(*jnp.moveaxis(floating(STACKS, codes), -1, 0))
        return {cost: counts[cost] / SCALE[unit] for cost, unit in UNITS.items()}

    def exact(codes: Any) -> dict[str, np.ndarray]:
        return count_rows(STACKS, codes, lambda rows: count(*rows.T.astype(np.int64)))

    return CostModel(STACKS.name, UNITS, exact, relaxed, task)


def stack_parts(code: Sequence[int], task: networks.Task, outputs: int, parameters: Parameters) -> networks.Parts:
    depth, width, kernel = code
    layers = [Convolution(width if i else 3, width, kernel, parameters=parameters) for i in range(depth)]
    head = single_branch_head(task, width, 1, outputs, parameters=parameters)
    return networks.Parts({"stack": Chain(layers)}, head, stride=1, whole=False)


def register_stacks() -> None:
    register(STACKS)
    register_costs(STACKS, CostFamily(("shapes",), stack_costs))
    tasks = {"shapes": networks.Task("classification", CLASSES, SIDE)}
    networks.register(
        STACKS, networks.NetworkFamily(tasks, stack_parts, lambda total, *_: total.convolved + total.multiplied)
    )


# to here


@pytest.fixture(scope="module", autouse=True)
def space() -> Iterator[StackSpace]:
    register_stacks()
    yield STACKS
    for registry in (SPACES, _FAMILIES, FAMILIES):
        del registry[STACKS.name]
    del ALIASES["stk"]


@pytest.fixture
def table(space: StackSpace) -> Table:
    codes = space.all_codes()
    values = np.log(codes).sum(axis=1) + np.random.default_rng(0).normal(size=len(codes))
    return Table.from_arrays(
        "stacks/shapes", space="stk", codes=codes, values=values[:, None], metrics=[MetricSpec("acc", task="shapes")]
    )


def predictor(metrics: Sequence[MetricSpec], seed: int = 0) -> Predictor:
    rng = np.random.default_rng(seed)
    mean, scale = (STACKS.lower + STACKS.upper) / 2, (STACKS.upper - STACKS.lower) / 3
    params = {
        "w": tuple(jnp.asarray(rng.normal(size=(2, i, o)), jnp.float32) for i, o in ((3, 5), (5, len(metrics)))),
        "b": tuple(jnp.asarray(rng.normal(size=(2, o)), jnp.float32) for o in (5, len(metrics))),
    }
    ends = (jnp.zeros(len(metrics)), jnp.ones(len(metrics)))
    units = Standardisation(jnp.asarray(mean), jnp.asarray(scale), *ends)
    return Predictor(params, units, FoldedMLP(log=False), tuple(metrics), STACKS.name)


@pytest.mark.parametrize(
    "test",
    [
        contract.test_sizes_and_names,
        contract.test_is_a_constant_for_jax,
        contract.test_sample_is_legal_and_prefix_stable,
        contract.test_sample_is_uniform,
        contract.test_encode_project_round_trip,
        contract.test_project_is_legal_and_idempotent_anywhere,
        contract.test_project_is_nearest,
        contract.test_mutate_is_one_legal_edit,
        contract.test_mutate_reaches_every_neighbour,
        contract.test_neighbours_match_brute_force,
        contract.test_index_is_a_bijection_on_small_spaces,
        contract.test_strings_round_trip,
        contract.test_check_names_what_is_wrong,
        contract.test_canonical_is_idempotent_and_legal,
    ],
    ids=lambda test: test.__name__,
)
def test_the_contract_of_spaces(test: Any, space: StackSpace) -> None:
    test(space)


@pytest.mark.parametrize(
    "test",
    [
        bounds_contract.test_unrestricted_bounds_are_the_space,
        bounds_contract.test_projection_is_within_and_idempotent,
        bounds_contract.test_projection_is_the_nearest_by_brute_force,
        bounds_contract.test_box_holds_the_codes_left_and_no_less,
        bounds_contract.test_sample_is_uniform_over_the_codes_left,
        bounds_contract.test_json_round_trip,
    ],
    ids=lambda test: test.__name__,
)
def test_the_contract_of_bounds(test: Any, space: StackSpace) -> None:
    test(Bounds.of(space, {"depth": (2, 3), "kernel": (3, None)}))


def test_names_and_texts(space: StackSpace) -> None:
    assert get_space("STK") is get_space("stacks") is space
    found, code = find_code("stack-3-8-5")
    assert found is space
    np.testing.assert_array_equal(code, space.read("3, 8, 5"))
    with pytest.raises(UsageError, match=r"architecture string of stacks, got 'stack-9-8-5' with 9 where position 0"):
        find_code("stack-9-8-5")
    with pytest.raises(UsageError, match="a name that no other space has, got stk; rename the space"):
        register(StackSpace("stk", space.values, space.position_names, space.example))


def test_graphs(space: StackSpace) -> None:
    graphs = space.graphs([[2, 16, 3], [4, 8, 5]])
    chex.assert_shape([graphs.nodes, graphs.live, graphs.links], [(2, 4, 6), (2, 4), (4, 4)])
    np.testing.assert_array_equal(graphs.live, [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(space.smooth_attributes(jnp.array([[2.0, 16, 3], [4, 8, 5]])), graphs.attributes)


def test_costs_are_those_of_the_networks(space: StackSpace) -> None:
    assert cost_tasks(space) == ("shapes",)
    codes = space.all_codes()
    model = cost_model(space, "Shapes")
    exact, relaxed = model.exact(codes), jax.jit(model.relaxed)(space.encode(codes))
    for cost, unit in UNITS.items():
        np.testing.assert_allclose(relaxed[cost], exact[cost] / SCALE[unit], rtol=1e-5)
    for row in (0, 17, 35):
        network = build("stk", codes[row], abstract=True)
        assert networks.published_cost(network) == {cost: exact[cost][row] for cost in UNITS}
        assert networks.summarise(network).to_json()["string"] == space.to_string(codes[row])


@pytest.mark.parametrize("name", ["random", "evolution"])
def test_searchers(name: str, table: Table) -> None:
    searcher = make_searcher(name)
    one = jax.tree.map(lambda *leaves: np.array(leaves), *type(searcher).together([searcher]))
    view = QueryView.of(table, budget=20)
    runs = search(one, np.zeros(1, np.int32), Candidates.of(table), view)
    rows = np.asarray(runs.rows)[0]
    assert len(set(rows[rows >= 0].tolist())) == 20


def test_propagation_keeps_a_limit(space: StackSpace) -> None:
    model = cost_model(space)
    counts = np.sort(model.exact(space.all_codes())["flops"])
    goal, config = Objective(maximize={"acc": 1.0}), PropagationConfig(steps=6, learning_rate=5.0)
    guide = predictor([MetricSpec("acc", task="shapes")])
    for most in (counts[0], counts[9], counts[-1]):
        found = propagate(guide, goal, codes=64, key=jax.random.key(1), config=config, max_gflops=float(most / 1e9))
        exact = model.exact(found.codes)["flops"]
        np.testing.assert_array_equal(found.costs["flops"], exact / 1e9)
        assert (exact <= most).all()
    with pytest.raises(UsageError, match=r"a GFLOPs limit >= .*, the space's smallest"):
        propagate(guide, goal, codes=4, key=jax.random.key(1), max_gflops=float(counts[0] / 1e9 * 0.99))


class Choices(CategoricalSpace):
    """Choices whose alphabets differ from position to position; strings like ``0.2.1``."""

    def _format(self, code: list[int]) -> str:
        return ".".join(map(str, code))

    def _parse(self, text: str) -> list[int]:
        return self._numbers(text, text.split("."))


@pytest.mark.parametrize(
    "test",
    [contract.test_encode_project_round_trip, contract.test_project_is_legal_and_idempotent_anywhere],
    ids=lambda test: test.__name__,
)
def test_positions_may_have_alphabets_of_their_own(test: Any) -> None:
    choices = Choices("choices", ((0, 1), (0, 1, 2), (1, 2)), ("a", "b", "c"), "0.2.1")
    test(choices)
    relaxed = np.random.default_rng(0).normal(size=(50, choices.features)).astype(np.float32)
    hot = np.asarray(choices.encode(choices.all_codes()))
    nearest = ((relaxed[:, None] - hot) ** 2).sum(axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(choices.project(relaxed), choices.all_codes()[nearest])
    some = choices.all_codes()[1::2]
    nearest = ((relaxed[:, None] - hot[1::2]) ** 2).sum(axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(choices._project_among(relaxed, some), some[nearest])


def test_a_space_without_costs_and_networks() -> None:
    choices = Choices("choices", ((0, 1), (0, 1, 2)), ("a", "b"), "0.2")
    assert cost_model(choices) is None
    with pytest.raises(UsageError, match="a space with networks, got 'choices'; choose from: nas-bench-mr"):
        build(choices, [0, 2])


def test_a_parser_that_only_raises_is_a_clear_error() -> None:
    """Files are recognised by trying to read their cells: a user's parser need not know the library's errors."""

    class Plain(CategoricalSpace):
        def _format(self, code: list[int]) -> str:
            return "-".join(map(str, code))

        def _parse(self, text: str) -> list[int]:
            return [int(part) for part in text.split("-")]

    space = Plain(name="plain", values=((0, 1, 2),) * 3, position_names=("a", "b", "c"), example="0-1-2")
    assert space.from_string("2-1-0").tolist() == [2, 1, 0]
    for text in ("a", "", "0-1-x", "0-1"):
        with pytest.raises(UsageError, match="an architecture string of plain, got"):
            space.from_string(text)
