"""Searches spaces of any size for architectures to train next: nothing is listed, results come in any order."""

from ncp_jax.searchers.open_ended.observations import Observation
from ncp_jax.searchers.open_ended.session import OpenConfig, OpenSession, Suggestion
from ncp_jax.searchers.open_ended.strategies import OPEN_SEARCHERS

__all__ = ["OPEN_SEARCHERS", "Observation", "OpenConfig", "OpenSession", "Suggestion"]
