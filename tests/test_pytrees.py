"""Programs compiled for one class are never run for another, whatever the addresses of the classes are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp

import ncp_jax
from ncp_jax.pytrees import register_dataclass

CLASSES = 200  # with the structures of JAX, some ten of them run the program of another


def _class(number: int) -> type:
    made = type(f"Class{number}", (), {"__annotations__": {"at": "int"}, "at": 0, "number": number})
    return register_dataclass(dataclasses.dataclass(frozen=True)(made))


def test_jit_tells_classes_of_equal_fields_apart() -> None:
    number_of = jax.jit(lambda tree: tree.number)
    made = [_class(number) for number in range(CLASSES)]
    assert [int(number_of(cls())) for cls in made] == list(range(CLASSES))
    structures = [jax.tree.structure(cls()) for cls in made]
    assert all(structures[0] != other for other in structures[1:])


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Sample:
    x: object
    name: str = dataclasses.field(metadata={"static": True})
    y: object = 2.0


def test_static_fields_are_structure_and_the_others_are_leaves() -> None:
    sample = Sample(jnp.ones(3), "a")
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(sample)[0]]
    assert paths == [".x", ".y"]
    assert jax.tree.structure(sample) == jax.tree.structure(Sample(0, "a"))
    assert jax.tree.structure(sample) != jax.tree.structure(Sample(0, "b"))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, sample)
    assert (type(doubled), doubled.name, doubled.y) == (Sample, "a", 4.0)


def test_the_package_registers_its_dataclasses_so() -> None:
    package = Path(ncp_jax.__file__).parent
    ours = re.compile(r"tree_util\.register_dataclass|struct\.dataclass|flax\.struct")
    found = [str(path) for path in package.rglob("*.py") if ours.search(path.read_text(encoding="utf-8"))]
    assert found == [str(package / "pytrees.py")]  # its docstring
