"""Lists spaces and checks descriptions of spaces (``ncp-jax space``)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from ncp_jax.commands.command import Command, JsonCommand
from ncp_jax.console import format_table

if TYPE_CHECKING:
    from ncp_jax.spaces import DescribedSpace


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceCheck(JsonCommand):
    """Check the description of a space, and show its size, its positions and an example.

    Attributes:
      path: TOML file with the description.
    """

    path: Positional[Path]

    def run(self) -> None:
        """Prints what the description says."""
        from ncp_jax.spaces import load_space

        space = load_space(self.path)
        summary = space_summary(space)
        self.show(lambda: summary, lambda: _text(space, summary))


@dataclasses.dataclass(frozen=True)
class SpaceList(JsonCommand):
    """List the spaces that ship: their size and an example."""

    def run(self) -> None:
        """Prints the list."""
        from ncp_jax.spaces import SPACES

        rows = [
            {"name": s.name, "size": s.size, "length": s.length, "features": s.features, "example": s.example}
            for s in SPACES.values()
        ]
        cells = [tuple(str(value) for value in row.values()) for row in rows]
        header = ("name", "codes", "positions", "features", "example")
        self.show(lambda: rows, lambda: format_table([header, *cells], "<>>><"))


def space_summary(space: DescribedSpace) -> dict[str, Any]:
    """Returns the content of ``ncp-jax space check --json``."""
    from ncp_jax.analysis.intervals import wilson_interval
    from ncp_jax.spaces import cost_model

    model = cost_model(space)
    code = space.from_string(space.example)
    costs = {name: float(value[0]) for name, value in model.in_units(code[None]).items()} if model else {}
    share = None if space.counted else wilson_interval(*space.legal_draws())
    return {
        "schema": "space/1",
        "name": space.name,
        "digest": space.description.digest,
        "size": space.size,
        "size_is_exact": space.counted,
        "size_estimate": None if share is None else [float(space.size) * end for end in share],
        "length": space.length,
        "features": space.features,
        "positions": [_position(space, place) for place in range(space.length)],
        "forbid": list(space.description.forbid),
        "costs": [
            {"name": cost.name, "unit": cost.unit, "example": costs[cost.name]} for cost in space.description.costs
        ],
        "example": {"string": space.example, "code": code.tolist()},
    }


def _position(space: DescribedSpace, place: int) -> dict[str, Any]:
    position = space.positions[place]
    return {
        "name": position.name,
        "kind": position.kind,
        "values": list(position.grid),
        "unit": position.unit,
        "only_if": position.only_if,
    }


def _text(space: DescribedSpace, summary: dict[str, Any]) -> str:
    size = f"{space.size}" if space.size < 10**6 else f"{space.size} ({space.size:.3g})"
    if space.counted:
        lines = [f"{space.name}: {size} codes, {space.length} positions, {space.features} features"]
    else:
        low, high = summary["size_estimate"]
        lines = [
            f"{space.name}: at most {size} codes, {space.length} positions, {space.features} features",
            "not counted, since a forbidden combination ties too many values together; "
            f"by draws {low:.3g} to {high:.3g} codes (95 % interval)",
        ]
    rows = [("position", "kind", "values", "unit", "counts only if")]
    rows += [(p.name, p.kind, _values(p), p.unit, p.only_if) for p in space.positions]
    lines += ["", format_table([tuple(row) for row in rows], "<<<<<")]
    lines += ["", *(f"forbidden: {text}" for text in space.description.forbid)] if space.description.forbid else []
    shown = [f"cost: {cost['name']}, {cost['example']:.6g} {cost['unit']} in the example" for cost in summary["costs"]]
    lines += ["", *(line.replace("  ", " ") for line in shown)] if shown else []
    return "\n".join([*(line.rstrip() for line in "\n".join(lines).split("\n")), "", f"example: {space.example}"])


def _values(position: Any) -> str:
    texts = [position.text(digit) for digit in range(len(position.grid))]
    listed = ", ".join(texts) if len(texts) <= 6 else f"{texts[0]}, {texts[1]}, ..., {texts[-1]} ({len(texts)})"
    return listed if len(listed) <= 60 else f"{listed[:59]}…"


_SpaceCommand = Annotated[SpaceCheck, subcommand("check")] | Annotated[SpaceList, subcommand("list")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space(Command):
    """List spaces, and check the description of a space of your own."""

    command: OmitSubcommandPrefixes[_SpaceCommand]

    def start(self) -> None:
        """Begins the chosen command."""
        self.command.start()

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()
