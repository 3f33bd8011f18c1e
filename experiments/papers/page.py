"""Writes the tables as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from papers.lines import Block

HEAD = ("quantity", "published", "source", "ours", "what differs")


def markdown(blocks: Sequence[Block]) -> str:
    """Returns the tables as Markdown."""
    parts = []
    for block in blocks:
        rows = [HEAD, ("---",) * len(HEAD), *(line.cells() for line in block.lines)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        parts.append(f"## {block.title}\n\n{block.text}\n\n{table}\n")
    return "\n".join(parts)


def to_json(blocks: Sequence[Block]) -> dict[str, Any]:
    """Returns the tables as papers.json holds them: titles, and lines with ``ours`` null where no record has it."""
    return {"schema": "paper_tables/1", "tables": [dataclasses.asdict(block) for block in blocks]}


def missing(blocks: Sequence[Block]) -> dict[str, int]:
    """Returns how many lines each command would fill in."""
    found: dict[str, int] = {}
    for block in blocks:
        for line in block.lines:
            if line.ours is None:
                found[line.command] = found.get(line.command, 0) + 1
    return found
