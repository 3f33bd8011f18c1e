"""Search methods as array programs: one run each as pure functions, thousands of runs in one call."""

from __future__ import annotations

from typing import Any

from ncp_jax import checks
from ncp_jax.searchers.base import Searcher, choice, make, number, register
from ncp_jax.searchers.bayesian import Bayesian
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.evolution import Evolution
from ncp_jax.searchers.local_search import LocalSearch
from ncp_jax.searchers.ncp import NCPSearch
from ncp_jax.searchers.neural import NeuralEnsemble
from ncp_jax.searchers.random_search import RandomSearch
from ncp_jax.searchers.run import Runs, search
from ncp_jax.searchers.session import SearchSession

SEARCHERS: dict[str, type[Searcher]] = {
    cls.name: cls for cls in (RandomSearch, Evolution, LocalSearch, Bayesian, NeuralEnsemble, NCPSearch)
}


def make_searcher(name: str, **settings: Any) -> Searcher:
    """A searcher by its name, with checked settings; those not given have their defaults.

    Raises:
      UsageError: an unknown searcher or setting (the text lists the nearest), or an illegal value.
    """
    return make(SEARCHERS[checks.choose("searcher", name, SEARCHERS)], settings)


__all__ = [
    "SEARCHERS",
    "Bayesian",
    "Candidates",
    "Evolution",
    "LocalSearch",
    "NCPSearch",
    "NeuralEnsemble",
    "RandomSearch",
    "Runs",
    "SearchSession",
    "Searcher",
    "choice",
    "make",
    "make_searcher",
    "number",
    "register",
    "search",
]
