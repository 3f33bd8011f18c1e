"""Embeds tasks as vectors, and compares tasks by their embeddings."""

from __future__ import annotations

from ncp_jax.embeddings.fingerprint import choose_anchors, fingerprint
from ncp_jax.embeddings.probe import fit_head
from ncp_jax.embeddings.similarity import agreement, rank_correlations, similarity
from ncp_jax.embeddings.task2vec import fisher_diagonal, task2vec

__all__ = [
    "agreement",
    "choose_anchors",
    "fingerprint",
    "fisher_diagonal",
    "fit_head",
    "rank_correlations",
    "similarity",
    "task2vec",
]
