from __future__ import annotations

import doctest
import inspect
import tomllib
from pathlib import Path

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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ncp_jax' has no attribute 'propagat'"):
        _ = ncp_jax.propagat


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ncp_jax.__version__ == project["version"]


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
