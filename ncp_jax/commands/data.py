"""Lists, downloads and verifies the benchmark tables (``ncp-jax data``)."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, ClassVar

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
        from ncp_jax.benchmarks.store import is_spared, verify_files

        found = verify_files(self.names)
        for check in found:
            print(f"{check.state:8} {check.file}")
        bad = [check.file for check in found if check.state != "ok" and not is_spared(check, self.names)]
        if bad:
            raise checks.DataError(
                expected="every file whole",
                got=f"{len(bad)} missing or altered",
                remedy="run: ncp-jax data fetch " + " ".join(bad[:3]),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataImport(JsonCommand):
    """Read an official benchmark file into tables, which every command then knows by name; nothing in it is run.

    Attributes:
      kind: What PATH holds: transnas (transnas-bench_v10141024.pth), nats (a folder or file of NATS-Bench),
        nas-bench-201 (NAS-Bench-201-v1_1-*.pth), naslib (nb201_*_full_training.pickle, or their folder) or evoxbench
        (its SQLite database).
      path: The file or folder. Where a part of a benchmark is there, that part is read.
      name: Name of the import, with which the names of its tables begin; by default that of the benchmark. A second
        import under the same name adds to the first.
      seeds: Trainings of one architecture with several seeds: each (a column for every seed) or mean.
      replace: Drop what was imported under this name before.
      memory_gb: Memory that the objects of one file may take, in GB.
      json: Print import.json instead of the summary.
    """

    kind: Positional[str]
    path: Positional[Path]
    name: str | None = None
    seeds: str = "each"
    replace: bool = False
    memory_gb: float = 2.0

    def run(self) -> None:
        """Imports, and prints one line for each table."""
        from ncp_jax.benchmarks.official.importing import import_tables
        from ncp_jax.console import ProgressBar, say

        with ProgressBar("ncp-jax: reading") as bar:
            made = import_tables(
                self.kind,
                self.path,
                name=self.name,
                seeds=self.seeds,
                replace=self.replace,
                memory_gb=self.memory_gb,
                notify=say,
                progress=bar,
            )
        header = ("table", "space", "rows", "columns", "curves", "failed")
        cells = [
            (t.name, t.space, str(t.rows), str(len(t.metrics)), str(len(t.curves)), str(max(t.failed)))
            for t in made.tables
        ]
        self.show(made.to_json, lambda: format_table([header, *cells], "<<>>>>"))


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
    | Annotated[DataImport, subcommand("import")]
    | Annotated[DataPath, subcommand("path")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Command):
    """List, fetch, check and import the benchmark tables."""

    SUBCOMMANDS: ClassVar[tuple[str, ...]] = ("list", "fetch", "verify", "import", "path")
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
