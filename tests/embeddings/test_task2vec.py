"""The Fisher information against closed forms and against finite differences of the log-likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

from ncp_jax.checks import DataError, UsageError
from ncp_jax.embeddings import fisher_diagonal, task2vec
from ncp_jax.embeddings.probe import open_probe
from ncp_jax.embeddings.task2vec import _add_chunk

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3)).astype(np.float32)
PARAMS = {"w": RNG.normal(size=(3, 4)).astype(np.float32), "b": RNG.normal(size=4).astype(np.float32)}
LINEAR = (lambda params, x: x @ params["w"] + params["b"], PARAMS)


class Net(nnx.Module):
    """Convolution, BatchNorm, dropout, pooling, linear: one of each kind of layer and of state."""

    def __init__(self, *, outputs: int = 3, seed: int = 0) -> None:
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(1, 2, (2, 2), rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.norm.mean[...] = jnp.array([0.3, -0.2])
        self.norm.var[...] = jnp.array([0.5, 2.0])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(2, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.drop(nnx.swish(self.norm(self.conv(x)))).mean(axis=(1, 2)))


IMAGES = RNG.normal(size=(5, 4, 4, 1)).astype(np.float32)


def test_linear_regression_in_closed_form() -> None:
    found = fisher_diagonal(LINEAR, X, likelihood="gaussian")
    np.testing.assert_allclose(found["w"], np.tile((X**2).mean(axis=0)[:, None], 4), rtol=1e-5)
    np.testing.assert_allclose(found["b"], np.ones(4), rtol=1e-6)


def test_softmax_regression_in_closed_form() -> None:
    p = softmax(X.astype(np.float64) @ PARAMS["w"] + PARAMS["b"], axis=1)
    spread = p * (1 - p)
    found = fisher_diagonal(LINEAR, X)
    np.testing.assert_allclose(found["w"], (X**2).T @ spread / len(X), rtol=1e-4)
    np.testing.assert_allclose(found["b"], spread.mean(axis=0), rtol=1e-4)


def brute_force(module: nnx.Module, images: np.ndarray, likelihood: str, step: float = 1e-5) -> dict[str, Any]:
    """Central differences in double precision, a weight at a time: of log p(y) for all y, or of the outputs."""
    with jax.enable_x64(True):
        apply, params, rest = open_probe(module)
        wide = [
            jax.tree.map(lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, t) for t in (params, rest)
        ]
        leaves, tree = jax.tree.flatten(wide[0])

        @jax.jit
        def outputs(leaves: list[jax.Array]) -> jax.Array:
            found = apply(jax.tree.unflatten(tree, leaves), wide[1], jnp.asarray(images, jnp.float64))
            return jax.nn.log_softmax(found) if likelihood == "categorical" else found

        weights = np.exp(outputs(leaves)) if likelihood == "categorical" else np.ones(outputs(leaves).shape)
        fisher = [np.zeros(leaf.shape) for leaf in leaves]
        for number, leaf in enumerate(leaves):
            for place in np.ndindex(leaf.shape):
                ends = [[*leaves[:number], leaf.at[place].add(d), *leaves[number + 1 :]] for d in (step, -step)]
                slope = np.asarray(outputs(ends[0]) - outputs(ends[1])) / (2 * step)
                fisher[number][place] = (weights * slope**2).sum(axis=1).mean()
        return jax.tree.unflatten(tree, fisher)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_a_convolutional_network_against_finite_differences(likelihood: str) -> None:
    found = fisher_diagonal(Net(), IMAGES, likelihood=likelihood, chunk=2)
    expected = brute_force(Net(), IMAGES, likelihood)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), found, expected)


def test_outputs_of_any_rank_are_gaussian_means() -> None:
    apply, params = LINEAR
    square = (lambda p, x: apply(p, x).reshape(-1, 2, 2), params)
    single = (lambda p, x: apply(p, x)[:, 0], params)
    whole = fisher_diagonal(LINEAR, X, likelihood="gaussian")
    jax.tree.map(np.testing.assert_array_equal, fisher_diagonal(square, X, likelihood="gaussian"), whole)
    np.testing.assert_allclose(fisher_diagonal(single, X, likelihood="gaussian")["b"], [1, 0, 0, 0])


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_the_chunk_does_not_matter(likelihood: str) -> None:
    whole = fisher_diagonal(LINEAR, X, likelihood=likelihood, chunk=1000)
    part = fisher_diagonal(LINEAR, X, likelihood=likelihood, chunk=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), part, whole)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_draws_of_y_approach_the_expectation_and_do_not_depend_on_the_chunk(likelihood: str) -> None:
    exact = fisher_diagonal(LINEAR, X, likelihood=likelihood)
    settings = {"likelihood": likelihood, "samples": 4000}
    drawn = fisher_diagonal(LINEAR, X, key=jax.random.key(2), **settings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.06), drawn, exact)
    other = fisher_diagonal(LINEAR, X, key=jax.random.key(3), **settings)
    assert not np.array_equal(other["w"], drawn["w"])
    part = fisher_diagonal(LINEAR, X, key=jax.random.key(2), chunk=3, **settings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), part, drawn)


def test_the_module_is_left_alone_and_its_mode_does_not_matter() -> None:
    module = Net()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param, nnx.BatchStat)[1]))
    training = fisher_diagonal(module, IMAGES, chunk=2)
    assert not module.norm.use_running_average
    assert not module.drop.deterministic
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)), before)
    module.eval()
    jax.tree.map(np.testing.assert_array_equal, fisher_diagonal(module, IMAGES, chunk=2), training)


def test_another_data_set_of_any_size_and_another_probe_of_one_structure_do_not_recompile() -> None:
    first = fisher_diagonal(Net(), IMAGES, chunk=2)
    programs = _add_chunk._cache_size()
    second = fisher_diagonal(Net(seed=1), IMAGES[:3] + 1, chunk=2)
    assert _add_chunk._cache_size() == programs
    assert not np.allclose(first["conv"]["kernel"], second["conv"]["kernel"])


def test_the_embedding_averages_within_each_output_unit() -> None:
    fisher = jax.tree.map(np.asarray, fisher_diagonal(Net(), IMAGES, chunk=2))
    found = task2vec(Net(), IMAGES, chunk=2)
    kernel = fisher["conv"]["kernel"]
    expected = [fisher["conv"]["bias"], [kernel[..., unit].mean() for unit in range(2)], fisher["norm"]["bias"]]
    expected += [fisher["norm"]["scale"], fisher["out"]["bias"], fisher["out"]["kernel"].mean(axis=0)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    only = task2vec(Net(), IMAGES, chunk=2, keep=lambda path: path == "conv/kernel")
    np.testing.assert_allclose(only, expected[1], rtol=1e-6)


def test_without_its_head_the_embedding_has_one_length_for_any_number_of_classes() -> None:
    def embed(classes: int) -> jax.Array:
        return task2vec(Net(outputs=classes), IMAGES, chunk=2, keep=lambda path: not path.startswith("out"))

    assert embed(2).shape == embed(3).shape == (8,)


def test_a_scalar_parameter_is_a_unit_of_its_own() -> None:
    probe = (lambda params, x: x * params, np.float32(2.0))
    np.testing.assert_allclose(task2vec(probe, X, likelihood="gaussian"), [(X**2).sum(axis=1).mean()], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"inputs": X[:0]},
            UsageError,
            r"expected inputs \[n, \.\.\.\] of n >= 1 examples, got shape \[0, 3\]; give the task",
        ),
        ({"inputs": np.where(X > 1, np.nan, X)}, DataError, "expected finite inputs, got NaN or infinity; leave out"),
        (
            {"probe": (LINEAR[0], PARAMS | {"b": np.full(4, np.nan)})},
            DataError,
            "expected finite Fisher information, got",
        ),
        ({"likelihood": "poisson"}, UsageError, "expected a known likelihood, got 'poisson'"),
        ({"samples": 5}, UsageError, r"expected a key for the samples, got none; give key=jax\.random\.key\(0\)"),
        ({"samples": -1}, UsageError, "expected samples to be an integer 0 or more, got -1"),
        ({"chunk": 0}, UsageError, "expected chunk to be an integer 1 or more, got 0"),
        ({"chunk": 2.5}, UsageError, "expected chunk to be an integer 1 or more, got 2.5"),
        ({"probe": LINEAR[0]}, UsageError, r"expected a Flax NNX module or \(apply, params\), got function"),
        (
            {"probe": (lambda p, x: (x @ p["w"])[:, :1], PARAMS)},
            UsageError,
            r"expected a probe with logits \[n, classes >= 2\], got \[1, 1\] for inputs \[1, 3\]; pool over positions",
        ),
        ({"probe": (lambda p, x: (x @ p["w"])[:, None], PARAMS)}, UsageError, r"got \[1, 1, 4\] for inputs"),
        ({"probe": (lambda p, x: x @ p["w"].sum(1), PARAMS)}, UsageError, r"got \[1\] for inputs"),
        (
            {"probe": (lambda p, x: (x @ p["w"]).sum(), PARAMS), "likelihood": "gaussian"},
            UsageError,
            r"expected a probe with outputs \[n, \.\.\.\], got \[\] for inputs",
        ),
    ],
)
def test_wrong_calls(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fisher_diagonal(**({"probe": LINEAR, "inputs": X} | changes))


def test_a_filter_that_keeps_nothing_lists_the_paths() -> None:
    with pytest.raises(
        UsageError, match="expected a filter that keeps a parameter, got one that keeps none; the paths: b, w"
    ):
        task2vec(LINEAR, X, keep=lambda path: path == "kernel")
