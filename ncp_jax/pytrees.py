"""Registers dataclasses as pytrees that JAX never mistakes for each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def register_dataclass(cls: type[T]) -> type[T]:
    """Class decorator: registers a dataclass as a pytree, as ``jax.tree_util.register_dataclass`` does.

    Fields whose metadata say ``static`` are part of the structure, the others are children.

    Deviation from JAX's function of the same name: the structure names the class. In JAX 0.10, the structures of two
    registered dataclasses are equal where their static values are, whatever the classes, and only their hashes differ.
    Where these meet in one slot of a cache, ``jax.jit`` runs the program that it compiled for the other class.
    """
    fields = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    static = tuple(field.name for field in fields if field.metadata.get("static"))
    children = tuple(field.name for field in fields if not field.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in children)

    def flatten(tree: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, name) for name in children), (cls, *(getattr(tree, name) for name in static))

    def flatten_with_keys(tree: T) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        leaves, structure = flatten(tree)
        return tuple(zip(keys, leaves, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], leaves: Iterable[Any]) -> T:
        return cls(**dict(zip(children, leaves, strict=True)), **dict(zip(static, structure[1:], strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
