from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.propagation.choice import fastest


class Bench:
    """A clock that only the candidates move, and a list of who ran."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, []

    def clock(self) -> float:
        return self.now

    def candidate(self, name: str, *seconds: float) -> Callable[[], None]:
        """Takes these times in turn, the last of them ever after."""
        times = list(seconds)

        def run() -> None:
            self.ran.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return run


def failing() -> None:
    raise RuntimeError("out of shared memory")


def test_the_quickest_is_chosen_whatever_its_compilation_took() -> None:
    bench = Bench()
    ways = {"xla": bench.candidate("xla", 1.0, 3.0), "kernel": bench.candidate("kernel", 60.0, 2.0, 9.0, 9.0)}
    assert fastest(ways, key=object(), clock=bench.clock) == "kernel"
    assert bench.ran == ["xla"] * 4 + ["kernel"] * 4
    assert fastest(ways, key=object(), repeats=1, clock=bench.clock) == "xla"


def test_of_equals_the_first_is_chosen() -> None:
    bench = Bench()
    assert fastest({n: bench.candidate(n, 1.0) for n in ("b", "a")}, key=object(), clock=bench.clock) == "b"


def test_a_key_is_measured_once() -> None:
    bench, key = Bench(), ("gpu", 128, object())
    ways = {"xla": bench.candidate("xla", 2.0), "kernel": bench.candidate("kernel", 1.0)}
    assert [fastest(ways, key=key, repeats=1, clock=bench.clock) for _ in range(3)] == ["kernel"] * 3
    assert len(bench.ran) == 4
    fastest(ways, key=("cpu", 128, object()), repeats=1, clock=bench.clock)
    assert len(bench.ran) == 8


def test_what_fails_is_not_chosen_and_is_told_once() -> None:
    bench, key = Bench(), object()
    ways = {"kernel": failing, "xla": bench.candidate("xla", 1.0)}
    with pytest.warns(UserWarning, match="kernel failed and is not used: RuntimeError: out of shared memory"):
        assert fastest(ways, key=key, clock=bench.clock) == "xla"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fastest(ways, key=key, clock=bench.clock) == "xla"


def test_where_all_fail_the_error_is_raised() -> None:
    with pytest.warns(UserWarning, match="kernel failed"), pytest.raises(RuntimeError, match="out of shared memory"):
        fastest({"kernel": failing}, key=object())


@pytest.mark.parametrize(("ways", "repeats"), [({}, 3), ({"xla": failing}, 0)])
def test_nothing_to_measure(ways: dict, repeats: int) -> None:
    with pytest.raises(UsageError, match="expected at least one candidate and one repeat, got"):
        fastest(ways, key=object(), repeats=repeats)
