"""The command line: ``ncp-jax search``, ``cost``, ``rank``, ``order``, ``report``, ... Heavy imports wait."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import tyro

from ncp_jax.console import guarded, use_compilation_cache

_Append = tyro.conf.UseAppendAction


@dataclasses.dataclass(frozen=True)
class Search:
    """Find architectures: move random codes along the gradient of a predictor, print the best.

    Without options it searches NAS-Bench-MR's segmentation task with the predictor that ships with the package.
    """

    task: str = "seg"
    """Benchmark task: seg, cls-50-100, nas-bench-201/cifar10, transnas-micro/jigsaw, ... (see `ncp-jax data list`)."""
    table: Path | None = None
    """Your own CSV: a column of architecture strings, the others metrics. Needs --space and a direction."""
    space: str | None = None
    """Space of --table: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro."""
    maximize: Annotated[tuple[str, ...], _Append] = ()
    """Metric to raise, NAME or NAME=WEIGHT (weights in standard deviations). May be given again."""
    minimize: Annotated[tuple[str, ...], _Append] = ()
    """Metric to lower, likewise."""
    codes: int = 4096
    """Random starts moved at once."""
    steps: int = 70
    """Gradient steps."""
    strategy: str = "continuous"
    """continuous (all positions move) or winner-takes-all (the one with the largest gradient)."""
    precision: str = "float32"
    """Of the matrix products while codes move: float32, tf32 or bfloat16."""
    max_gflops: float | None = None
    """Only architectures of at most so many GFLOPs (multiply-adds / 1e9)."""
    bound: Annotated[tuple[str, ...], _Append] = ()
    """Narrower limits on positions, POSITION=LOW..HIGH; * and ? are wild: *.num_channels[*]=8..64. May be repeated."""
    confidence: float = 0.0
    """Follow and rank by the ensemble's bound: so many spreads on the bad side of its mean."""
    trust: float = 0.0
    """Weight of a trust region around the measured table."""
    discreteness: str = "none"
    """Where gradients are taken: none (at the relaxed code), straight-through (at the nearest legal one), annealed."""
    restarts: int = 0
    """Rounds in which codes that repeat an architecture begin anew elsewhere."""
    polish: int = 0
    """Of so many of the best architectures all single edits are tried in the end."""
    keep: int = 65536
    """Architectures kept, at most."""
    devices: int | None = None
    """Devices that share the codes; all without it."""
    memory_mb: float | None = None
    """Device memory that may be used at once, MB."""
    seed: int = 0
    """Seed of the starts and of any training."""
    members: int = 8
    """Networks in the ensemble, where one is trained."""
    retrain: bool = False
    """Train anew from the table, even where a predictor ships with the package."""
    out: Path | None = None
    """Folder for result.json, codes.csv and search.png."""
    json: bool = False
    """Print result.json instead of the table."""

    def run(self) -> None:
        """Runs the search and prints or writes what it found."""
        began = time.perf_counter()
        from ncp_jax.commands.search import SearchConfig, describe, run_search, write_result
        from ncp_jax.files import make_folder

        use_compilation_cache()
        import_s = time.perf_counter() - began
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(SearchConfig)}
        config = SearchConfig(**fields)
        if self.out is not None:
            make_folder(self.out)  # a folder that cannot be written is known before the work, not after it
            # Matplotlib takes most of a second to import: meanwhile XLA computes.
            threading.Thread(
                target=importlib.import_module, args=("matplotlib.backends.backend_agg",), daemon=True
            ).start()
        result = run_search(config, say=lambda text: print(f"ncp-jax: {text}", file=sys.stderr))
        result.summary["timing"] = {"import_s": import_s, **result.summary["timing"]}
        # First the screen, then the files: a disk that fills up does not cost the result.
        print(json.dumps(result.summary, indent=1, allow_nan=False) if self.json else describe(result), flush=True)
        if self.out is not None:
            for path in write_result(result, self.out):
                print(f"ncp-jax: wrote {path}", file=sys.stderr)


_Names = Annotated[tuple[str, ...], tyro.conf.Positional]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Count the parameters and FLOPs of codes: exact integers, in the convention of the space's published figures."""

    codes: _Names = ()
    """Codes, each as its architecture string or as its integers with commas between them."""
    space: str = "nas-bench-mr"
    """Space of the codes: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro."""
    task: str | None = None
    """Whose head and image are counted: class_scene (TransNAS) and cifar10 (NAS-Bench-201) without it."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints a line a code."""
        from ncp_jax.commands.cost import describe, run_cost

        result = run_cost(self.codes, space=self.space, task=self.task)
        print(json.dumps(result.summary, indent=1) if self.json else describe(result), flush=True)


@dataclasses.dataclass(frozen=True)
class DataList:
    """List the tables: size, licence, and whether they are here."""

    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the list."""
        from ncp_jax.benchmarks.store import list_files

        rows = [dataclasses.asdict(row) for row in list_files()]
        if self.json:
            print(json.dumps(rows, indent=1))
            return
        lines = [("name", "state", "kB", "licence", "what")]
        lines += [(r["name"], r["state"], f"{r['bytes'] / 1e3:.0f}", r["licence"], r["what"]) for r in rows]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        for line in lines:
            print("  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[4]]))


@dataclasses.dataclass(frozen=True)
class DataFetch:
    """Download tables (hash-checked, resumable), or take them from a local mirror."""

    names: _Names = ("all",)
    """Tables, families (nas-bench-mr), files, or all."""
    mirror: Path | None = None
    """Folder that holds the same files; default: the environment variable NCP_JAX_MIRROR."""

    def run(self) -> None:
        """Fetches, converts, and says what was done."""
        from ncp_jax.benchmarks.fetch import fetch_tables

        fetched = fetch_tables(self.names, mirror=self.mirror)
        for done in fetched:
            print(f"{done.action:10} {done.file}")
        if not fetched:
            print("nothing to fetch: these tables ship with ncp-jax")


@dataclasses.dataclass(frozen=True)
class DataVerify:
    """Check the files that are here against their published hashes."""

    names: _Names = ("all",)
    """Tables, families, files, or all."""

    def run(self) -> None:
        """Prints a line a file; an error if one is missing or altered."""
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
class DataPath:
    """Print the folder where tables are kept."""

    def run(self) -> None:
        """Prints the path."""
        from ncp_jax.benchmarks.store import cache_path

        print(cache_path())


_sub = tyro.conf.subcommand
_Data = (
    Annotated[DataList, _sub("list")]
    | Annotated[DataFetch, _sub("fetch")]
    | Annotated[DataVerify, _sub("verify")]
    | Annotated[DataPath, _sub("path")]
)


@dataclasses.dataclass(frozen=True)
class Data:
    """List, fetch and check the benchmark tables."""

    command: tyro.conf.OmitSubcommandPrefixes[_Data]

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()


@dataclasses.dataclass(frozen=True)
class Order:
    """Order elements by pairwise weights: as much weight as possible points forwards, with a bound on every order.

    The weight in row i, column j counts where i comes before j; weights are >= 0, the diagonal is ignored.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """LOLIB text (n, then n² numbers), .npy, or .csv (with or without row and column names)."""
    time_limit: float = 10.0
    """Seconds. 0 gives a first descent only."""
    seed: int = 0
    """Seed of the search."""
    json: bool = False
    """Print JSON: the whole order, and the heaviest 1000 of the dropped edges."""

    def run(self) -> None:
        """Orders the file's matrix and prints the result."""
        from ncp_jax.commands.order import describe, run_order

        result = run_order(self.file, time_limit=self.time_limit, seed=self.seed)
        print(json.dumps(result.summary, indent=1, allow_nan=False) if self.json else describe(result), flush=True)


@dataclasses.dataclass(frozen=True)
class Rank:
    """Rank a table's architectures from few measurements, with other tasks as sources (Arch-Graph).

    Relations between architectures are learned, the trusted ones become an acyclic graph, and its top is measured next.
    """

    table: str
    """Table (transnas-micro/jigsaw, see `ncp-jax data list`) or CSV file; a query reads one of its values."""
    sources: Annotated[tuple[str, ...], _Append] = ()
    """Table or CSV file of another task, all (the benchmark's other tasks), or none. May be given again."""
    source_budget: int | None = None
    """Measurements used of each source; all of them without it."""
    space: str | None = None
    """Space of CSV files."""
    maximize: str | None = None
    """Metric of CSV files, higher better."""
    minimize: str | None = None
    """Metric of CSV files, lower better."""
    budget: int = 50
    """Architectures measured on the table."""
    seed: int = 0
    """Seed of the search."""
    out: Path | None = None
    """Folder for rank.json and queries.csv."""
    json: bool = False
    """Print rank.json instead of the summary."""

    def run(self) -> None:
        """Runs the search, prints what it found."""
        from ncp_jax.commands.rank import RankConfig, describe, run_rank, write_rank
        from ncp_jax.files import make_folder

        use_compilation_cache()
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(RankConfig) if hasattr(self, f.name)}
        config = RankConfig(**fields)
        if self.out is not None:
            make_folder(self.out)
        result = run_rank(config)
        print(json.dumps(result.summary, indent=1, allow_nan=False) if self.json else describe(result), flush=True)
        if self.out is not None:
            for path in write_rank(result, self.out):
                print(f"ncp-jax: wrote {path}", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Build:
    """Say what network a code denotes: parameters and multiply-adds, by stage. Nothing is trained or downloaded."""

    code: Annotated[str, tyro.conf.Positional]
    """Architecture string (quote it), or the code's integers with commas."""
    space: str | None = None
    """Space of the code; needed where integers are a code of several."""
    task: str | None = None
    """What the head is for: classification, segmentation, video, cls-50-1000, jigsaw, normal, cifar10, ..."""
    classes: int | None = None
    """Classes; those of the benchmark without it."""
    side: int | None = None
    """Pixels a side of the images; those of the benchmark without it."""
    summary: bool = False
    """Print the table of stages instead of a line."""
    json: bool = False
    """Print the same as JSON."""

    def run(self) -> None:
        """Prints the network's counts."""
        from ncp_jax.networks import build, describe, summarise
        from ncp_jax.spaces import SPACES, find_code, get_space, read_code

        if self.space is None:
            space, code = find_code(self.code, SPACES)
        else:
            space = get_space(self.space)
            code = read_code(space, self.code)
        network = build(space, code, self.task, classes=self.classes, abstract=True)
        if self.json:
            print(json.dumps(summarise(network, self.side), indent=1, allow_nan=False))
        else:
            print(describe(network, self.side, stages=self.summary))


@dataclasses.dataclass(frozen=True)
class Report:
    """Turn a study's records into one HTML page, a summary, CSV and figures.

    Everything is made from the records alone, and may be made while the study runs.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """The study's folder: study.json, records*.jsonl."""
    out: Path | None = None
    """Folder for report.html, report.json, CSV and PNG; the study's own without it."""
    json: bool = False
    """Print report.json instead of the main table."""

    def run(self) -> None:
        """Writes the report, prints its main table."""
        from ncp_jax.reports import describe, write_report

        report = write_report(self.folder, self.out)
        print(json.dumps(report.summary, indent=1, allow_nan=False) if self.json else describe(report), flush=True)
        for path in report.paths:
            print(f"ncp-jax: wrote {path}", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Version:
    """Print the version."""

    def run(self) -> None:
        """Prints it."""
        from ncp_jax import __version__

        print(__version__)


Command = (
    Annotated[Search, _sub("search")]
    | Annotated[Cost, _sub("cost")]
    | Annotated[Rank, _sub("rank")]
    | Annotated[Order, _sub("order")]
    | Annotated[Build, _sub("build")]
    | Annotated[Report, _sub("report")]
    | Annotated[Data, _sub("data")]
    | Annotated[Version, _sub("version")]
)


def main() -> None:
    """Entry point of ``ncp-jax``."""
    command: Command = tyro.cli(
        Command,
        prog="ncp-jax",
        description="Neural architecture search with predictors, in JAX.",
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    sys.exit(guarded(command.run))


if __name__ == "__main__":
    main()
