"""Lists, downloads and verifies the benchmark tables (``ncp-jax data``)."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from ncp_jax.commands.command import Command, JsonCommand
from ncp_jax.console import format_table
from ncp_jax.files import cache_path


@dataclasses.dataclass(frozen=True)
class DataList(JsonCommand):
    """List the tables: their size, their licence, and whether they are on this machine."""

    def run(self) -> None:
        """Prints the list."""
        from ncp_jax.benchmarks.store import list_files

        rows = list_files()
        header = ("name", "state", "kB", "licence", "what")
        cells = [(row.name, row.state, f"{row.bytes / 1e3:.0f}", row.licence, row.what) for row in rows]
        self.show(lambda: [dataclasses.asdict(row) for row in rows], lambda: format_table([header, *cells], "<<<<<"))


@dataclasses.dataclass(frozen=True)
class DataFetch(Command):
    """Download tables, or copy them from a local mirror. Hashes are checked; files that are here already stay.

    Attributes:
      names: Tables, families (nas-bench-mr), files, or all.
      mirror: Folder that holds the same files; by default the environment variable NCP_JAX_MIRROR.
    """

    names: Positional[tuple[str, ...]] = ("all",)
    mirror: Path | None = None

    def keeps_work(self) -> bool:
        """Returns whether files are there: finished ones stay."""
        # It is asked when Ctrl-C is pressed, maybe during an import: ``cache_path`` must not begin another one.
        if not os.environ.get("NCP_JAX_DATA") and "pooch" not in sys.modules:
            return False
        return any(path.is_file() for path in (cache_path() / "raw").glob("*/[!.]*"))

    def run(self) -> None:
        """Fetches and converts the files, and prints one line per file."""
        from ncp_jax.benchmarks.fetch import fetch_tables

        fetched = fetch_tables(self.names, mirror=self.mirror)
        for done in fetched:
            print(f"{done.action:10} {done.file}")
        if not fetched:
            print("nothing to fetch: these tables ship with ncp-jax")


@dataclasses.dataclass(frozen=True)
class DataVerify(Command):
    """Check the files on this machine against their published hashes.

    Attributes:
      names: Tables, families, files, or all.
    """

    names: Positional[tuple[str, ...]] = ("all",)

    def run(self) -> None:
        """Prints one line per file; DataError if one is missing or altered."""
        from ncp_jax import checks
        from ncp_jax.benchmarks.store import verify_files

        found = verify_files(self.names)
        for check in found:
            print(f"{check.state:8} {check.file}")
        bad = [check.file for check in found if check.state != "ok"]
        if bad:
            raise checks.DataError(
                expected="every file whole",
                got=f"{len(bad)} missing or altered",
                remedy="run: ncp-jax data fetch " + " ".join(bad[:3]),
            )


@dataclasses.dataclass(frozen=True)
class DataPath(Command):
    """Print the folder where tables are kept."""

    def run(self) -> None:
        """Prints the path."""
        from ncp_jax.benchmarks.store import cache_path

        print(cache_path())


_DataCommand = (
    Annotated[DataList, subcommand("list")]
    | Annotated[DataFetch, subcommand("fetch")]
    | Annotated[DataVerify, subcommand("verify")]
    | Annotated[DataPath, subcommand("path")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Command):
    """List, fetch and check the benchmark tables."""

    command: OmitSubcommandPrefixes[_DataCommand]

    def keeps_work(self) -> bool:
        """Returns whether the chosen command keeps finished work."""
        return self.command.keeps_work()

    def start(self) -> None:
        """Begins the chosen command."""
        self.command.start()

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()
