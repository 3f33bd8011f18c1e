"""The command line in this process, small tables of related tasks, and networks that train within a blink."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, cli, get_space
from ncp_jax.studies.arch_graph import ArchGraphConfig
from ncp_jax.training.relations import RelationInputs, RelationRecipe

N = 128
SPACE = get_space("transnas-micro")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs ``ncp-jax`` with some arguments; returns (exit status, stdout, stderr)."""
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ncp-jax", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        return (0 if code is None else int(code)), *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def codes() -> np.ndarray:
    """128 architectures of TransNAS-Bench-101 micro."""
    return np.asarray(SPACE.all_codes())[np.random.default_rng(0).permutation(SPACE.size)[:N]]


@pytest.fixture(scope="session")
def quality(codes: np.ndarray) -> np.ndarray:
    """Three tasks ``[3, 128]``, each the sum of what its operations are worth, without ties; much in common."""
    rng = np.random.default_rng(1)
    worth = np.array([0.0, 1.0, 2.0, 4.0]) + 0.5 * rng.normal(size=(3, 6, 4))
    return worth[:, np.arange(6), codes].sum(axis=-1).astype(np.float32)


@pytest.fixture(scope="session")
def make_table(codes: np.ndarray) -> Callable[..., Table]:
    """Makes a table of the first architectures from their values."""

    def make(values: np.ndarray, name: str = "tasks/a", *, rows: np.ndarray | None = None) -> Table:
        chosen = codes[: len(values)] if rows is None else codes[rows]
        column = np.asarray(values)[:, None]
        return Table.from_arrays(name, space=SPACE, codes=chosen, values=column, metrics=[MetricSpec("acc")])

    return make


@pytest.fixture(scope="session")
def tables(make_table: Callable[..., Table], quality: np.ndarray) -> list[Table]:
    return [make_table(values, f"tasks/{name}") for name, values in zip("abc", quality, strict=True)]


@pytest.fixture(scope="session")
def candidates(codes: np.ndarray) -> RelationInputs:
    return RelationInputs.of(SPACE, codes)


@pytest.fixture(scope="session")
def quick() -> ArchGraphConfig:
    """Four runs with a budget of 13 on all architectures share one compiled program in all tests."""
    recipe = RelationRecipe(width=8, members=2, steps=40, learning_rate=1e-2)
    return ArchGraphConfig(first=4, batch=3, shortlist=12, recipe=recipe)
