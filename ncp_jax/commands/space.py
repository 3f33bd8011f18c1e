"""Lists spaces and checks descriptions of spaces (``ncp-jax space``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

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

        summary = SpaceSummary.of(load_space(self.path))
        self.show(summary.to_json, lambda: str(summary))


@dataclasses.dataclass(frozen=True)
class SpaceList(JsonCommand):
    """List the spaces that ship: their size and an example."""

    def run(self) -> None:
        """Prints the list."""
        from ncp_jax.spaces import SPACES, get_space
        from ncp_jax.spaces.registry import DESCRIPTIONS

        spaces = {**SPACES, **{name: get_space(name) for name in DESCRIPTIONS}}
        rows = [
            {"name": s.name, "size": s.size, "length": s.length, "features": s.features, "example": s.example}
            for s in spaces.values()
        ]
        cells = [tuple(str(value) for value in row.values()) for row in rows]
        header = ("name", "codes", "positions", "features", "example")
        self.show(lambda: rows, lambda: format_table([header, *cells], "<>>><"))


@dataclasses.dataclass(frozen=True)
class SpaceSummary:
    """What a description says.

    Attributes:
      space: the space.
      estimate: 95 % interval of the number of codes, by draws; None where the space counts them.
      costs: costs of the example, in their units.
    """

    space: DescribedSpace
    estimate: tuple[float, float] | None
    costs: Mapping[str, float]

    @classmethod
    def of(cls, space: DescribedSpace) -> SpaceSummary:
        """Returns the summary of a space."""
        from ncp_jax.analysis.intervals import wilson_interval
        from ncp_jax.spaces import cost_model

        model = cost_model(space)
        code = space.from_string(space.example)
        costs = {name: float(value[0]) for name, value in model.in_units(code[None]).items()} if model else {}
        low, high = (1.0, 1.0) if space.counted else wilson_interval(*space.legal_draws())
        return cls(space, None if space.counted else (float(space.size) * low, float(space.size) * high), costs)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``ncp-jax space check --json``."""
        space = self.space
        return {
            "schema": "space/1",
            "name": space.name,
            "digest": space.description.digest,
            "size": space.size,
            "size_is_exact": space.counted,
            "size_estimate": None if self.estimate is None else list(self.estimate),
            "length": space.length,
            "features": space.features,
            "positions": [
                {"name": p.name, "kind": p.kind, "values": list(p.grid), "unit": p.unit, "only_if": p.only_if}
                for p in space.positions
            ],
            "forbid": list(space.description.forbid),
            "costs": [
                {"name": cost.name, "unit": cost.unit, "example": self.costs[cost.name]}
                for cost in space.description.costs
            ],
            "example": {"string": space.example, "code": space.from_string(space.example).tolist()},
        }

    def __str__(self) -> str:
        space = self.space
        size = f"{space.size}" if space.size < 10**6 else f"{space.size} ({space.size:.3g})"
        end = f"{size} codes, {space.length} positions, {space.features} features"
        lines = [f"{space.name}: {end if self.estimate is None else f'at most {end}'}"]
        if self.estimate is not None:
            low, high = self.estimate
            lines.append(
                "not counted, since a forbidden combination ties too many values together; "
                f"by draws {low:.3g} to {high:.3g} codes (95 % interval)"
            )
        rows = [("position", "kind", "values", "unit", "counts only if")]
        rows += [(p.name, p.kind, _values(p), p.unit, p.only_if) for p in space.positions]
        lines += ["", *(line.rstrip() for line in format_table(rows, "<<<<<").split("\n"))]
        forbidden = [f"forbidden: {text}" for text in space.description.forbid]
        costs = [f"cost: {c.name}, {self.costs[c.name]:.6g} {c.unit}".rstrip() for c in space.description.costs]
        lines += ["", *forbidden] if forbidden else []
        lines += ["", *(f"{line} in the example" for line in costs)] if costs else []
        return "\n".join([*lines, "", f"example: {space.example}"])


def _values(position: Any) -> str:
    texts = [position.text(digit) for digit in range(len(position.grid))]
    listed = ", ".join(texts) if len(texts) <= 6 else f"{texts[0]}, {texts[1]}, ..., {texts[-1]} ({len(texts)})"
    return listed if len(listed) <= 60 else f"{listed[:59]}…"


_SpaceCommand = Annotated[SpaceCheck, subcommand("check")] | Annotated[SpaceList, subcommand("list")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space(Command):
    """List spaces, and check the description of a space of your own."""

    SUBCOMMANDS: ClassVar[tuple[str, ...]] = ("check", "list")

    command: OmitSubcommandPrefixes[_SpaceCommand]

    def start(self) -> None:
        """Begins the chosen command."""
        self.command.start()

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()
