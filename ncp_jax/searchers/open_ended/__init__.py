"""Searches spaces of any size for architectures to train next: nothing is listed, results come in any order."""

from ncp_jax.searchers.open_ended.config import OPEN_SEARCHERS, OpenConfig
from ncp_jax.searchers.open_ended.observations import Observation
from ncp_jax.searchers.open_ended.session import OpenSession, Suggestion

__all__ = ["OPEN_SEARCHERS", "Observation", "OpenConfig", "OpenSession", "Suggestion"]
