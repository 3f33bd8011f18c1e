"""Search methods: array programs that run by the thousand in one call, and searchers that run on the host."""

from __future__ import annotations

# Each import registers a searcher; their order is that of the registry.
from ncp_jax.searchers.random_search import RandomSearch  # isort: skip
from ncp_jax.searchers.evolution import Evolution  # isort: skip
from ncp_jax.searchers.local_search import LocalSearch  # isort: skip
from ncp_jax.searchers.reinforce import Reinforce  # isort: skip
from ncp_jax.searchers.bayesian import Bayesian  # isort: skip
from ncp_jax.searchers.neural import NeuralEnsemble  # isort: skip
from ncp_jax.searchers.ncp import NCPSearch  # isort: skip
from ncp_jax.searchers.arch_graph_searcher import ArchGraph  # isort: skip
from ncp_jax.searchers.source_searchers import MeanRank, SourceGaussianProcess, SourceSearcher  # isort: skip
from ncp_jax.searchers.curve_searchers import Asha, CurveSearcher, Halving  # isort: skip
from ncp_jax.searchers.early_stopping import EarlyStopping  # isort: skip

from ncp_jax.searchers.base import (
    SEARCHERS,
    ArraySearcher,
    HostSearcher,
    Predictions,
    Searcher,
    choice,
    make,
    make_searcher,
    number,
    register,
)
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.epochs import search_on_curves
from ncp_jax.searchers.run import Leaders, Runs, search, search_on_host
from ncp_jax.searchers.session import SearchSession

__all__ = [
    "SEARCHERS",
    "ArchGraph",
    "ArraySearcher",
    "Asha",
    "Bayesian",
    "Candidates",
    "CurveSearcher",
    "EarlyStopping",
    "Evolution",
    "Halving",
    "HostSearcher",
    "Leaders",
    "LocalSearch",
    "MeanRank",
    "NCPSearch",
    "NeuralEnsemble",
    "Predictions",
    "RandomSearch",
    "Reinforce",
    "Runs",
    "SearchSession",
    "Searcher",
    "SourceGaussianProcess",
    "SourceSearcher",
    "choice",
    "make",
    "make_searcher",
    "number",
    "register",
    "search",
    "search_on_curves",
    "search_on_host",
]
