"""The fused kernel, interpreted on CPU, against its steps written out in float64 NumPy; and its lowering."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.propagation import kernels

F, ROWS = 27, 16


class Problem:
    """Random networks, forms, codes and a box that stops some of the codes; float32 numbers."""

    def __init__(
        self, units: Sequence[int] = (24,), *, members: int = 1, log: bool = False, n: int = 2 * ROWS, f: int = F
    ):
        rng = np.random.default_rng(len(units) + 10 * members)

        def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
            return rng.normal(0, scale, shape).astype(np.float32)

        sizes = ((2 if log else 1) * f, *units)
        self.log = log
        self.w = tuple(draw(members, i, o, scale=(2 / i) ** 0.5) for i, o in itertools.pairwise(sizes))
        self.b = tuple(draw(members, o, scale=0.5) for o in units)
        self.form = draw(members, units[-1])
        self.x = draw(members, n, f)
        # Raw units around the place where the logarithm is cut off.
        self.mean, self.std = 1 + draw(members, f, scale=0.2), 0.5 + rng.random((members, f), np.float32)
        self.box = (np.full(f, -1.5, np.float32) - rng.random(f, np.float32), np.full(f, 1.7, np.float32))

    @property
    def params(self) -> dict[str, Any]:
        return {"w": self.w, "b": self.b} | ({"x_mean": self.mean, "x_std": self.std} if self.log else {})

    def run(self, x: np.ndarray | None = None, **settings: Any) -> np.ndarray:
        chosen = {"steps": 6, "learning_rate": 0.3, "precision": "float32", "rows": ROWS, "interpret": True} | settings
        x = jnp.asarray(self.x if x is None else x)
        return np.asarray(kernels.fused_invert(self.params, self.form, x, self.box, log=self.log, **chosen))

    def inputs(self, k: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the first layer of network k reads at one code, and its derivative by the code, [inputs, f]."""
        if not self.log:
            return x, np.eye(len(x))
        mean, std = self.mean[k].astype(np.float64), self.std[k].astype(np.float64)
        raw = x * std + mean
        slope = np.where(raw > 0.5, std / (np.maximum(raw, 0.5) * np.log(2)), 0)
        return np.concatenate([x, np.log2(np.maximum(raw, 0.5))]), np.vstack([np.eye(len(x)), np.diag(slope)])

    def value(self, k: int, x: np.ndarray) -> float:
        """The form of the last hidden layer of network k at one code."""
        hidden, _ = self.inputs(k, x)
        for w, b in zip(self.w, self.b, strict=True):
            a = hidden @ w[k].astype(np.float64) + b[k]
            hidden = a / (1 + np.exp(-a))
        return float(hidden @ self.form[k])

    def gradient(self, k: int, x: np.ndarray) -> np.ndarray:
        """Its gradient by the code, by the Jacobians of the layers in turn."""
        hidden, jacobian = self.inputs(k, x)
        for w, b in zip(self.w, self.b, strict=True):
            a = hidden @ w[k].astype(np.float64) + b[k]
            sigmoid = 1 / (1 + np.exp(-a))
            hidden = a * sigmoid
            jacobian = (sigmoid * (1 + a * (1 - sigmoid)))[:, None] * (w[k].astype(np.float64).T @ jacobian)
        return self.form[k] @ jacobian

    def oracle(self, *, steps: int = 6, rate: float = 0.3, winner: bool = False) -> np.ndarray:
        ends = np.array(self.x, np.float64)
        for k, i in np.ndindex(ends.shape[:2]):
            for _ in range(steps):
                gradient = self.gradient(k, ends[k, i])
                if winner:
                    gradient = gradient * (np.arange(len(gradient)) == np.argmax(np.abs(gradient)))
                ends[k, i] = np.clip(ends[k, i] - rate * gradient, *self.box)
        return ends


@pytest.mark.parametrize("log", [False, True])
def test_the_oracle_knows_its_own_gradient(log: bool) -> None:
    problem = Problem((24, 5), members=3, log=log)
    x, step = problem.x[2, 0].astype(np.float64), 1e-6
    differences = [
        (problem.value(2, x + step * e) - problem.value(2, x - step * e)) / (2 * step) for e in np.eye(len(x))
    ]
    np.testing.assert_allclose(problem.gradient(2, x), differences, atol=1e-7)


@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("units", "members"), [((5,), 3), ((24, 5), 1), ((16, 40, 24), 3)])
def test_the_steps(units: tuple[int, ...], members: int, log: bool, strategy: str) -> None:
    problem = Problem(units, members=members, log=log)
    wanted = problem.oracle(winner=strategy == "winner-takes-all")
    np.testing.assert_allclose(problem.run(strategy=strategy), wanted, atol=2e-5)
    lower, upper = problem.box
    assert ((wanted == lower) | (wanted == upper)).any(), "no code reaches the box: clipping is not tested"
    assert np.abs(wanted - problem.x).max() > 0.5


@pytest.mark.parametrize("log", [False, True])
def test_rounded_operands_stay_near(log: bool) -> None:
    problem = Problem((24, 40, 5), members=3, log=log)
    exact = problem.oracle(steps=3)
    error = problem.run(steps=3, precision="bfloat16") - exact
    assert 1e-5 < np.linalg.norm(error) / np.linalg.norm(exact - problem.x) < 1e-2


def test_a_bias_as_a_product_is_a_bias_added() -> None:
    problem = Problem((24, 40), members=3, log=True)
    numbers = (problem.params, problem.form * 0.3, jnp.asarray(problem.x), problem.box)
    settings = {"steps": 6, "winner": False, "precision": "float32", "rows": ROWS}
    added = kernels._run(kernels.PORTABLE, None, True, *numbers, **settings)
    np.testing.assert_allclose(added, problem.run(), atol=1e-5)


def test_three_rows_add_up_to_a_number_even_where_operands_are_rounded() -> None:
    b = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    rows = np.asarray(jax.jit(kernels._rows_that_add_up)(b))
    np.testing.assert_array_equal(rows, np.asarray(jnp.asarray(rows).astype(jnp.bfloat16).astype(jnp.float32)))
    np.testing.assert_allclose(rows.sum(axis=1, dtype=np.float64), b, rtol=2**-23)
    assert rows.shape == (2, 16, 16)


def test_of_equal_entries_the_first_stays() -> None:
    rows = jnp.array([[1.0, -2.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0], [3.0, -3.0, 3.0, -4.0]])
    alone = [[0.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -4.0]]
    np.testing.assert_array_equal(kernels._largest_alone(rows), alone)


def test_no_step_is_no_move() -> None:
    problem = Problem()
    np.testing.assert_array_equal(problem.run(steps=0), problem.x)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_depends_on_itself_alone(precision: str) -> None:
    problem = Problem((24, 5), members=3, log=True)
    whole = problem.run(precision=precision)
    other = np.random.default_rng(5).normal(size=problem.x.shape).astype(np.float32)
    kept = np.arange(2 * ROWS) % 5 == 2
    mixed = problem.run(np.where(kept[:, None], problem.x, other), precision=precision)
    np.testing.assert_array_equal(mixed[:, kept], whole[:, kept])
    assert (mixed[:, ~kept] != whole[:, ~kept]).any(axis=-1).all()
    np.testing.assert_allclose(problem.run(precision=precision, rows=2 * ROWS), whole, atol=1e-5)


def test_other_numbers_do_not_recompile() -> None:
    problem = Problem()
    first = problem.run(learning_rate=0.3)
    before = kernels.fused_invert._cache_size()
    assert (problem.run(learning_rate=0.1) != first).any()
    assert kernels.fused_invert._cache_size() == before
    problem.run(steps=5)
    assert kernels.fused_invert._cache_size() == before + 1


def test_numbers_may_be_swept_by_vmap() -> None:
    problem, rates = Problem((24, 5), members=3), jnp.array([0.1, 0.3])
    forms = jnp.stack([problem.form, -problem.form])

    def one(rate: jax.Array, form: jax.Array) -> jax.Array:
        settings = {"steps": 3, "precision": "float32", "rows": ROWS, "interpret": True}
        return kernels.fused_invert(problem.params, form, problem.x, problem.box, learning_rate=rate, **settings)

    for got, rate, form in zip(jax.vmap(one)(rates, forms), rates, forms, strict=True):
        np.testing.assert_allclose(got, one(rate, form), atol=1e-6)


def shapes(units: Sequence[int], members: int = 8, log: bool = True) -> dict[str, Any]:
    """Shapes of the parameters of an ensemble."""
    sizes, shape = ((2 if log else 1) * F, *units), jax.ShapeDtypeStruct
    params: dict[str, Any] = {
        "w": tuple(shape((members, i, o), jnp.float32) for i, o in itertools.pairwise(sizes)),
        "b": tuple(shape((members, o), jnp.float32) for o in units),
    }
    return params | ({name: shape((members, F), jnp.float32) for name in ("x_mean", "x_std")} if log else {})


CASES = [
    (platform, precision)
    for platform, precision in itertools.product(("cuda", "tpu"), kernels.PRECISIONS)
    if (platform, precision) != ("tpu", "tf32")
]


@pytest.mark.parametrize(("platform", "precision"), CASES)
@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
@pytest.mark.parametrize(("units", "log"), [((128, 128, 128), True), ((24, 5), False), ((24,), True)])
def test_it_lowers_without_a_device(platform: str, precision: str, strategy: str, units: tuple, log: bool) -> None:
    params, shape = shapes(units, log=log), jax.ShapeDtypeStruct
    rows = kernels.default_rows(platform, params, precision)
    traced = kernels.fused_invert.trace(
        params,
        shape((8, units[-1]), jnp.float32),
        shape((8, 2 * rows, F), jnp.float32),
        (shape((F,), jnp.float32), shape((F,), jnp.float32)),
        steps=70,
        learning_rate=shape((), jnp.float32),
        strategy=strategy,
        log=log,
        precision=precision,
        rows=rows,
    )
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert {"cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}[platform] in text


@pytest.mark.parametrize(
    ("platform", "units", "precision", "fits"),
    [
        ("cuda", (128, 128, 128), "bfloat16", True),
        ("gpu", (128, 128, 128), "bfloat16", True),
        ("cuda", (256, 128), "bfloat16", True),
        ("cuda", (256, 256), "bfloat16", False),
        ("cuda", (1024,), "bfloat16", False),
        ("cuda", (64, 64, 64), "tf32", True),
        ("cuda", (128, 128, 128), "tf32", False),
        ("cuda", (64, 64), "float32", True),
        ("cuda", (128, 128, 128), "float32", False),
        ("cuda", (), "bfloat16", False),
        ("tpu", (128, 128, 128), "bfloat16", True),
        ("tpu", (128, 128, 128), "float32", True),
        ("tpu", (64,), "tf32", False),
        ("tpu", (2048, 2048), "bfloat16", False),
        ("cpu", (24,), "bfloat16", False),
        ("rocm", (24,), "bfloat16", False),
    ],
)
def test_what_fits_on_chip(platform: str, units: tuple[int, ...], precision: str, fits: bool) -> None:
    params = shapes(units) if units else {"w": (), "b": ()}
    assert kernels.supported(platform, params, precision) is fits


def test_sizes_on_chip_are_powers_of_two() -> None:
    assert [kernels.padded(size) for size in (1, 16, 17, 27, 32, 128, 129)] == [16, 16, 32, 32, 32, 128, 256]


WRONG: dict[str, tuple[Callable[[Problem], dict[str, Any]], str]] = {
    "precision": (lambda p: {"precision": "float16"}, "expected a known precision, got 'float16'"),
    "strategy": (lambda p: {"strategy": "winner"}, "expected a known strategy, got 'winner'"),
    "rows": (lambda p: {"rows": 24}, "expected rows to be a power of two >= 16, got 24"),
    "few rows": (lambda p: {"rows": 8}, "expected rows to be a power of two >= 16, got 8"),
    "codes": (lambda p: {"x": p.x[:, :20]}, "expected a multiple of 16 codes for each network, got 20"),
    "no groups": (lambda p: {"x": p.x[0]}, r"expected codes of shape \[networks, codes, features\]"),
    "features": (lambda p: {"x": p.x[..., :-1]}, r"expected lower of shape \(26,\), got \(27,\)"),
    "networks": (lambda p: {"x": p.x[:2]}, r"expected the form of shape \(2, 5\), got \(3, 5\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    change, words = WRONG[name]
    problem = Problem((24, 5), members=3)
    with pytest.raises(UsageError, match=words):
        problem.run(**change(problem))


def test_layers_that_do_not_follow_each_other() -> None:
    problem = Problem((24, 5), members=3)
    problem.w = (problem.w[0][..., :-1], problem.w[1])
    with pytest.raises(UsageError, match=r"expected b\[0\] of shape \(3, 23\), got \(3, 24\)"):
        problem.run()


def test_unknown_precision_is_not_supported() -> None:
    with pytest.raises(UsageError, match="expected a known precision"):
        kernels.supported("cpu", shapes((24,)), "half")
