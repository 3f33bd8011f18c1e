"""Runs one search, trial by trial, and compares many."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.comparison import holm, signed_rank
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.records.journal import Record
from ncp_jax.types import Float
from open_search.benchmarks import Benchmark
from open_search.methods import make, read_method

WARM_UP = 15  # trials whose times to ask are not counted: programs compile in them


@dataclasses.dataclass(frozen=True)
class Trials:
    """One finished search.

    Attributes:
      values: value of each trial without noise, in the order of the trials.
      told: what the searcher was told.
      ask_s: median of the seconds that a trial was waited for, after the first ones.
    """

    values: tuple[float, ...]
    told: tuple[float, ...]
    ask_s: float

    def best(self) -> Float[np.ndarray, " t"]:
        """Returns after each trial the value of the trial that was best as told so far."""
        leader = [int(np.argmax(self.told[: n + 1])) for n in range(len(self.told))]
        return np.array(self.values)[leader]


def search(benchmark: Benchmark, method: str, *, seed: int, trials: int, folder: Path) -> Trials:
    """Runs one search. The noise of trial t depends on the seed and t alone, whatever is asked.

    With several workers, as many trials run at any time, all for the same time: they end in the order in which they
    began, and the next one is asked for before the others have ended.
    """
    random = np.random.default_rng((seed, 2))
    name, workers = read_method(method)
    one = make(name, benchmark.space, seed=seed, trials=trials, folder=str(folder))
    running: collections.deque[np.ndarray] = collections.deque()
    values: list[float] = []
    told: list[float] = []
    waited: list[float] = []
    while len(values) < trials:
        while len(running) < workers and len(waited) < trials:
            started = time.perf_counter()
            running.append(one.ask())
            waited.append(time.perf_counter() - started)
        code = running.popleft()
        values.append(float(benchmark.true(code[None])[0]))
        told.append(values[-1] + benchmark.noise * float(random.normal()))
        one.tell(code, told[-1])
    return Trials(tuple(values), tuple(told), statistics.median(waited[WARM_UP:] or waited))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The searches of all seeds.

    Attributes:
      runs: benchmark → method → the search of each seed.
      marks: numbers of trials after which the searches are compared.
      rank: benchmark → a function that gives the rank of a value in the table; only of complete tables.
    """

    runs: dict[str, dict[str, list[Trials]]]
    marks: tuple[int, ...]
    rank: dict[str, Callable[[float], int]]

    def at(self, benchmark: str, method: str, mark: int) -> Float[np.ndarray, " s"]:
        """Returns the best value of each seed after some trials."""
        return np.array([run.best()[mark - 1] for run in self.runs[benchmark][method]])

    def to_json(self) -> dict[str, Any]:
        """Returns means with intervals, ranks in tables, times, and paired tests of each method against each other."""
        methods = list(dict.fromkeys(method for by_method in self.runs.values() for method in by_method))
        best = {
            benchmark: {
                method: {str(mark): mean_interval(self.at(benchmark, method, mark)) for mark in self.marks}
                for method in by_method
            }
            for benchmark, by_method in self.runs.items()
        }
        ranks = {
            benchmark: {
                method: {
                    str(mark): mean_interval([float(rank(v)) for v in self.at(benchmark, method, mark)], least=1)
                    for mark in self.marks
                }
                for method in self.runs[benchmark]
            }
            for benchmark, rank in self.rank.items()
        }
        optimum = {
            benchmark: {
                method: mean_interval([float(_found(run, rank)) for run in runs], least=1)
                for method, runs in self.runs[benchmark].items()
            }
            for benchmark, rank in self.rank.items()
        }
        asked = {
            method: statistics.median(
                run.ask_s for by_method in self.runs.values() for run in by_method.get(method, [])
            )
            for method in methods
        }
        return {
            "best": best,
            "ranks": ranks,
            "trials_to_optimum": optimum,
            "ask_s": asked,
            "tests": {str(mark): self._tests(mark) for mark in self.marks},
            "kept_by_workers": self._kept_by_workers(methods),
        }

    def _kept_by_workers(self, methods: list[str]) -> dict[str, dict[str, Any]]:
        """Returns what searches with several workers gain over random search, as a share of what single ones gain.

        The interval is over the benchmarks. Only of methods that were run in both ways, beside random search.
        """
        found: dict[str, dict[str, Any]] = {}
        for method in methods:
            name, workers = read_method(method)
            if workers == 1 or name not in methods or "random" not in methods:
                continue
            found[method] = {}
            for mark in self.marks:
                means = [
                    {one: self.at(benchmark, one, mark).mean() for one in (method, name, "random")}
                    for benchmark in self.runs
                ]
                shares = [(m[method] - m["random"]) / (m[name] - m["random"]) for m in means if m[name] != m["random"]]
                if shares:
                    found[method][str(mark)] = mean_interval(shares)
        return found

    def _tests(self, mark: int) -> list[dict[str, Any]]:
        """Returns paired tests on each benchmark, p-values corrected over all pairs of methods (Holm)."""
        found: list[dict[str, Any]] = []
        for benchmark, by_method in self.runs.items():
            names = list(by_method)
            pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
            tests, p_values = [], []
            for a, b in pairs:
                difference = self.at(benchmark, a, mark) - self.at(benchmark, b, mark)
                _, p = signed_rank(self.at(benchmark, a, mark), self.at(benchmark, b, mark))
                tests.append({"benchmark": benchmark, "a": a, "b": b, "difference": mean_interval(difference), "p": p})
                p_values.append(p)
            for test, corrected in zip(tests, holm(p_values) if p_values else [], strict=True):
                found.append(test | {"p_holm": float(corrected)})
        return found


def _found(run: Trials, rank: Callable[[float], int]) -> int:
    """Returns the number of trials until the best value of the table was met; one more than all if it was not."""
    met = [n for n, value in enumerate(run.values, 1) if rank(value) == 1]
    return met[0] if met else len(run.values) + 1


def of_record(record: Record) -> Trials:
    """Returns the search of a record."""
    results = record["results"]
    return Trials(tuple(results["values"]), tuple(results["told"]), results["ask_s"])
