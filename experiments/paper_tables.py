"""The papers' tables beside this project's figures, made from records alone.

    python experiments/paper_tables.py --records out/train_predictors out/arch_micro --out out/papers

Published figures stand in papers/published.toml with their sources. A line without a record says which command makes
it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.script import run_main

from ncp_jax.commands.command import Verbosity


@dataclasses.dataclass(frozen=True)
class Config(Verbosity):
    """Options.

    Attributes:
      records: folders of finished experiments, each with a summary.json.
      out: folder for papers.md and papers.json.
    """

    records: tuple[Path, ...] = ()
    out: Path = Path("out")


def run(config: Config) -> dict[str, Any]:
    """Reads the records, writes papers.md and papers.json, and returns the content of the second."""
    from papers.lines import all_blocks, read_folders
    from papers.page import markdown, missing, to_json

    from ncp_jax.console import say
    from ncp_jax.files import atomic_write, make_folder
    from ncp_jax.records.journal import write_json

    blocks = all_blocks(read_folders(config.records))
    folder = make_folder(config.out, remedy="choose another --out")
    atomic_write(folder / "papers.md", markdown(blocks).encode())
    content = to_json(blocks)
    write_json(folder / "papers.json", content)
    lines = [line for block in blocks for line in block.lines]
    print(f"{sum(line.ours is not None for line in lines)} of {len(lines)} lines have a record: {folder / 'papers.md'}")
    for command, count in missing(blocks).items():
        say(f"{count} lines wait for: {command}")
    return content


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
