"""Settings: what is legal, what becomes of it, and what the texts say."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from ncp_jax import checks
from ncp_jax.searchers import SEARCHERS, ArraySearcher, Evolution, HostSearcher, LocalSearch, RandomSearch
from ncp_jax.searchers.base import choice, make, make_searcher, number, register, searcher_class


@searcher_class
class Example(RandomSearch):
    name: ClassVar[str] = "example"

    rate: float = number(0.5, "a share", least=0, most=1)
    count: int = number(3, "a number of things", least=1, whole=True)
    size: int = choice(4, "a size", least=2)
    kind: str = choice("plain", "what kind", options=("plain", "fancy"))
    width: int = choice(8, "a width", options=(8, 16))


def test_defaults_and_given_values() -> None:
    assert make(Example, {}).settings() == {"rate": 0.5, "count": 3, "size": 4, "kind": "plain", "width": 8}
    given = make(Example, {"RATE": 1, "count": 5.0, "size": np.int64(2), "kind": "Fancy", "width": 16})
    assert given.settings() == {"rate": 1.0, "count": 5, "size": 2, "kind": "fancy", "width": 16}
    assert [type(value) for value in given.settings().values()] == [float, int, int, str, int]


def test_numbers_are_leaves_and_choices_are_static() -> None:
    leaves, shape = jax.tree.flatten(make(Example, {"rate": 0.25, "count": 7}))
    assert leaves == [0.25, 7]
    assert shape == jax.tree.structure(make(Example, {"rate": 0.75}))
    assert shape != jax.tree.structure(make(Example, {"size": 5}))


def test_settings_are_json_ready_after_a_trip_to_the_device() -> None:
    moved = jax.tree.map(jax.numpy.asarray, make(Example, {"rate": 0.25}))
    assert moved.settings() == {"rate": 0.25, "count": 3, "size": 4, "kind": "plain", "width": 8}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rat": 1}, r"expected a known setting of example, got 'rat'; did you mean: rate"),
        ({"zzz": 1}, r"got 'zzz'; choose from: rate, count, size, kind, width"),
        ({"rate": 1.5}, r"expected rate of example \(a share\) to be a number in 0\.\.1, got 1\.5; give another value"),
        ({"rate": float("nan")}, r"got nan"),
        ({"rate": "0.5"}, r"got '0\.5'"),
        ({"rate": True}, r"got True"),
        ({"rate": None}, r"got None"),
        ({"count": 0}, r"expected count of example \(a number of things\) to be an integer >= 1, got 0"),
        ({"count": 2.5}, r"to be an integer >= 1, got 2\.5"),
        ({"count": float("inf")}, r"got inf"),
        ({"count": float("nan")}, r"got nan"),
        ({"count": 10**12}, r"got 1000000000000"),
        ({"size": 1}, r"expected size of example \(a size\) to be an integer >= 2, got 1"),
        ({"size": 2.5}, r"got 2\.5"),
        ({"kind": "fncy"}, r"expected a known kind of example, got 'fncy'; did you mean: fancy"),
        ({"width": 9}, r"expected width of example \(a width\) to be one of \(8, 16\), got 9; choose one of them"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        make(Example, settings)


@pytest.mark.parametrize(
    ("searcher", "settings"),
    [
        (Evolution, {"population": 0}),
        (Evolution, {"tournament": 0}),
        (Evolution, {"capacity": 5}),
        (LocalSearch, {"move": "worst"}),
        (RandomSearch, {"seed": 1}),
    ],
)
def test_wrong_settings_of_the_searchers(searcher: type, settings: dict[str, Any]) -> None:
    with pytest.raises(checks.UsageError, match="expected"):
        make(searcher, settings)


@pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)
def test_defaults_are_legal_and_errors_say_what_a_setting_is(searcher: type) -> None:
    made = make(searcher, {})
    assert make(searcher, made.settings()).settings() == made.settings()
    for field in dataclasses.fields(searcher):
        meta = field.metadata
        if meta.get("what") and meta.get("options") is None:
            with pytest.raises(checks.UsageError) as caught:
                make(searcher, {field.name: object()})
            assert f"{field.name} of {searcher.name} ({meta['what']})" in str(caught.value)


def test_the_registry_keeps_its_order() -> None:
    names = ["random", "evolution", "local-search", "bayesian", "neural-ensemble", "ncp", "arch-graph"]
    assert [name for name in SEARCHERS if name in names] == names  # the order of a comparison of all
    for name, kind in SEARCHERS.items():
        made = make_searcher(name)
        assert (type(made), made.name) == (kind, name)
        assert isinstance(made, ArraySearcher) != isinstance(made, HostSearcher)


def test_register_makes_a_searcher_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array program or one that runs on the host."""

    class Random(RandomSearch):
        name: ClassVar[str] = "random-twice"

        rate: float = number(0.5, "a share", least=0, most=1)

    class First(HostSearcher):
        name: ClassVar[str] = "first"
        runs_per_call: ClassVar[int] = 3

        step: int = choice(1, "distance of two queries")

        def run(self, guard, seeds, sources=None):
            guard.query(np.tile(np.arange(guard.budget) * self.step, (len(seeds), 1)))

    for cls in (Random, First):
        monkeypatch.setitem(SEARCHERS, cls.name, cls)  # taken back in the end
        register(cls)
    assert make_searcher("Random-Twice", rate=1).settings() == {"rate": 1.0}
    assert jax.tree.leaves(make_searcher("random-twice")) == [0.5]
    assert make_searcher("first", step=2).settings() == {"step": 2}
    assert make_searcher("first", step=2).program() == make_searcher("first", step=2)
    assert make_searcher("first").program() != make_searcher("first", step=2)
    with pytest.raises(checks.UsageError, match=r"expected a known searcher, got 'frist'; did you mean: first"):
        make_searcher("frist")
