from __future__ import annotations

import contextlib
import doctest
import inspect
import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import ncp_jax
from ncp_jax.checks import UsageError

JOBS = ("search", "rank", "order", "fit", "propagate", "run_study", "write_report", "build", "cost")


@pytest.mark.parametrize("name", ncp_jax.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(ncp_jax, name)
    assert value is getattr(ncp_jax, name)
    if name != "SPACES":
        assert value.__name__ == name
        assert value.__doc__


def test_the_names_are_those_that_the_lazy_table_knows() -> None:
    assert sorted(ncp_jax.__all__) == sorted(ncp_jax._MODULE)
    assert set(ncp_jax.__all__) <= set(dir(ncp_jax))


def test_completion_offers_public_names_alone() -> None:
    assert [name for name in dir(ncp_jax) if not name.startswith("__")] == sorted(ncp_jax.__all__)


def test_what_a_notebook_shows_is_short() -> None:
    table = ncp_jax.load_table("digits/class")
    shipped = ncp_jax.load_shipped("nas-bench-mr")
    assert shipped is not None
    ordered = ncp_jax.order(np.arange(900.0).reshape(30, 30), time_limit=0)
    shown = [table, table.index, ncp_jax.Candidates.of(table), shipped[0], ordered, ordered.ordering]
    shown += [ncp_jax.Bounds.of("nas-bench-mr", {}), table.to_host()]
    for value in shown:
        assert repr(value).startswith(f"{type(value).__name__}(")
        assert len(repr(value)) < 600
        assert not re.search(r"([0-9.]+, *){5}", repr(value)), repr(value)
    assert "params=<10 arrays of 341,584 numbers>, scale=Standardisation(x_mean=float32[27]" in repr(shipped[0])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ncp_jax' has no attribute 'propagat'"):
        _ = ncp_jax.propagat


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ncp_jax.__version__ == project["version"]


def test_the_oldest_versions_are_those_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={'.'.join(map(str, ncp_jax._PYTHON))}"
    assert f"jax>={'.'.join(map(str, ncp_jax._JAX))}" in project["dependencies"]


@pytest.mark.parametrize(
    ("python", "jax", "message"),
    [
        ((3, 10, 9), "0.10.2", "ncp-jax: expected Python 3.11 or newer, got 3.10.9; install it"),
        ((3, 12, 0), "0.9.1", 'ncp-jax: expected JAX 0.10.2 or newer, got 0.9.1; pip install "jax>=0.10.2"'),
        ((3, 12, 0), None, 'ncp-jax: expected JAX 0.10.2 or newer, got none; pip install "jax>=0.10.2"'),
        ((3, 14, 0), "0.11.0.dev20270101", None),
    ],
)
def test_versions_that_are_too_old(
    python: tuple[int, ...], jax: str | None, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if jax is None:
            raise PackageNotFoundError(name)
        return jax

    monkeypatch.setattr(ncp_jax.importlib.metadata, "version", version)
    monkeypatch.setattr(ncp_jax.sys, "version_info", (*python, "final", 0))
    with contextlib.nullcontext() if message is None else pytest.raises(ImportError, match=re.escape(message)):
        ncp_jax._check_versions()


@pytest.mark.parametrize("name", JOBS)
def test_every_job_has_an_example_that_runs(name: str) -> None:
    text = inspect.getdoc(getattr(ncp_jax, name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    lines = sum(example.source.count("\n") + example.want.count("\n") for example in test.examples)
    assert 2 <= lines <= 8
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("name", ["search", "rank", "cost"])
def test_a_config_or_its_fields(name: str) -> None:
    job, config = getattr(ncp_jax, name), {"rank": ncp_jax.RankConfig("x")}.get(name)
    kind = {"search": ncp_jax.SearchConfig, "rank": ncp_jax.RankConfig, "cost": ncp_jax.CostConfig}[name]
    with pytest.raises(UsageError, match=f"expected a known field of {kind.__name__}, got 'tsak'"):
        job(tsak="seg")
    with pytest.raises(UsageError, match=f"expected a {kind.__name__} or its fields as keywords, got both"):
        job(config or kind(), space="macro")
