"""Defines the types of arrays and parameters in signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jaxtyping import Bool, Float, Int, UInt

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import PRNGKeyArray as Key

Direction: TypeAlias = Literal["maximize", "minimize"]
Params: TypeAlias = Any

__all__ = ["Array", "Bool", "Direction", "Float", "Int", "Key", "Params", "UInt"]


def __getattr__(name: str) -> Any:
    """Imports the names that need JAX when they are asked for: reports and statistics do without it."""
    import jaxtyping

    if name not in ("Array", "Key"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return jaxtyping.Array if name == "Array" else jaxtyping.PRNGKeyArray
