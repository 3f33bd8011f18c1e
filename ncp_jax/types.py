"""Defines the types of arrays and parameters in signatures."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

Direction: TypeAlias = Literal["maximize", "minimize"]
Key: TypeAlias = PRNGKeyArray
Params: TypeAlias = Any

__all__ = ["Array", "Bool", "Direction", "Float", "Int", "Key", "Params", "UInt"]
