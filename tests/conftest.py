"""What all tests share: where the real tables are, a cache and a compilation cache of the session's own."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import gc
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before NumPy is imported, also by the processes that tests start. Matrices are small here: threads of BLAS only wait
# for each other, and for those of other workers, which made plain references several times slower.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from . import kept, upstream  # noqa: E402

# The first example of a test may compile; how long that takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax import Table
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
    from ncp_jax.studies import Grid
    from ncp_jax.training.relations import RelationInputs

REPOSITORY = Path(__file__).resolve().parent.parent
MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 35_000  # Linux allows 65,530 by default, and a module adds some thousands
COMPILED = "compiled"  # folder of the session's compiled programs, where the user has not set one
# Code of XLA's older emitter, which LLVM leaves as it is: a third of the time to compile.
UNOPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
# XLA ends a process whose flags it does not know, and newer ones do not know this one.
OLD_EMITTER = importlib.metadata.version("jaxlib").startswith("0.10.")
if OLD_EMITTER:
    # To split a program for compilers side by side takes a twentieth of the time, and workers fill the cores.
    UNOPTIMISED["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
# Workers of pytest-xdist inherit the flags of the session.
USERS_FLAGS = os.environ.get("XLA_FLAGS", "").replace(UNOPTIMISED.get("XLA_FLAGS", ""), "").strip()


def _prepare_environment() -> None:
    """Sets the environment before jax is imported; workers of pytest-xdist inherit the session's folders."""
    upstream.find_mirror()
    session = os.environ.get("NCP_JAX_TEST_SESSION")
    if session is None:
        session = tempfile.mkdtemp(prefix="ncp_jax_tests_")
        atexit.register(shutil.rmtree, session, ignore_errors=True)
        os.environ["NCP_JAX_TEST_SESSION"] = session
        os.environ["NCP_JAX_TEST_USERS_DATA"] = os.environ.get("NCP_JAX_DATA", "")
    # Never the cache of the person who runs the tests.
    os.environ["NCP_JAX_DATA"] = str(Path(session) / "data")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(session) / COMPILED))
    # Writing and reading a smaller program takes longer than to compile it.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.03")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # Else the session's folder is a part of what a compiled program is found by.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # lines of programs, which nobody reads here
    # Programs of the tests compile for seconds and run for milliseconds. The fixture `optimised` is for the others.
    for name, value in UNOPTIMISED.items():
        os.environ[name] = f"{USERS_FLAGS} {value}".strip() if name == "XLA_FLAGS" else value


_prepare_environment()

# Folders whose modules train, search or run scripts, the longest first.
LONG = ("experiments", "searchers", "studies", "propagation", "training", "commands")
# What makes a module long: programs of its own, Numba, other processes, optimised code, published tables, pages and
# figures.
LONG_WORK = re.compile(
    r"^\s*(import|from) jax\b|subprocess|optimised|mirror|load_table|numba|command:|write_report|_figure\(",
    re.MULTILINE,
)


@functools.cache
def _is_quick(path: Path) -> bool:
    folder = path.relative_to(REPOSITORY / "tests").parts[0]
    return folder not in ("commands", "experiments", "searchers") and not LONG_WORK.search(path.read_text())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m quick``, leaves out the other modules before they are imported, which takes longer than the tests."""
    module = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    return True if config.option.markexpr == "quick" and module and not _is_quick(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the quick modules; puts long ones first, so that no worker begins one when the others are done."""
    place = {name: number for number, name in enumerate(LONG)}
    for item in items:
        if _is_quick(item.path):
            item.add_marker(pytest.mark.quick)
    items.sort(key=lambda item: place.get(item.path.relative_to(REPOSITORY / "tests").parts[0], len(LONG)))


def pytest_configure(config: pytest.Config) -> None:
    """Brings the published tables where they are not at hand: once, before there are workers."""
    upstream.check_packages()
    lists = config.option.collectonly or config.option.markexpr == "quick"
    if not lists and not hasattr(config, "workerinput"):
        upstream.fetch(os.environ["NCP_JAX_TEST_USERS_DATA"] or None)
    if (folder := _kept_programs(config)) is not None:
        kept.bring(folder, _session_programs())


def pytest_sessionstart(session: pytest.Session) -> None:
    # Compiled programs are millions of objects that stay. Looking for garbage among them took a tenth of the time.
    gc.set_threshold(20_000, 20, 20)
    if session.config.option.markexpr != "quick" and not session.config.option.collectonly:
        _share_contexts()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    # Each compiled program is some mappings of memory. Where the system allows no more of them, the compiler crashes.
    if nextitem is not None and nextitem.path != item.path and MAPPINGS.exists() and "jax" in sys.modules:
        with MAPPINGS.open() as lines:
            many = sum(1 for _ in lines) > MOST_MAPPINGS
        if many:
            sys.modules["jax"].clear_caches()
            gc.collect()


def _share_contexts() -> None:
    """Lowers hundreds of programs in one MLIR context: making one takes as long as lowering a small program."""
    from jax._src.interpreters import mlir  # no public setting
    from jax._src.lib.mlir import ir

    make, kept = mlir.make_ir_context, threading.local()

    def shared() -> Any:
        if ir.Context.current is not None:  # while a program is lowered, another one that it needs
            return make()
        left = getattr(kept, "left", 0)
        if left == 0:
            kept.context, left = make(), 500
        kept.left = left - 1
        return kept.context

    mlir.make_ir_context = shared


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = _kept_programs(session.config)
    if folder is not None and _session_programs().is_dir():
        kept.keep(_session_programs(), folder)
    gc.freeze()  # as pytest ends, it looks for garbage five times, among the millions of objects that stay


def _session_programs() -> Path:
    return Path(os.environ["NCP_JAX_TEST_SESSION"]) / COMPILED


def _kept_programs(config: pytest.Config) -> Path | None:
    """Programs of earlier sessions, which ``--cache-clear`` drops; None in workers, and where the user keeps some."""
    own = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) == _session_programs()
    if not own or hasattr(config, "workerinput") or not hasattr(config, "cache") or config.option.collectonly:
        return None
    return config.cache.mkdir("compiled")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    line = upstream.summary([str(report.longrepr) for report in skipped])
    if line is not None:
        terminalreporter.section("published tables", sep="-")
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the published files. Without them, the test is skipped; in CI it fails."""
    return upstream.require()


@functools.cache
def _optimised() -> Any:
    """A part of what JAX finds compiled programs by, which does not tell how they were compiled."""
    import jax

    return jax.make_user_context(False)


@contextlib.contextmanager
def _optimisation() -> Iterator[None]:
    """Compiles as for users within the context, also in processes that are started there."""
    import jax
    from jax._src import compiler  # XLA reads its flags once, and no public setting of JAX goes above them

    make_options = compiler.get_compile_options

    def users_options(*arguments: Any, **settings: Any) -> Any:
        options = make_options(*arguments, **settings)
        if OLD_EMITTER:
            options.env_option_overrides = [*options.env_option_overrides, ("xla_cpu_use_fusion_emitters", True)]
        return options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
        patch.setenv("XLA_FLAGS", USERS_FLAGS)
        patch.setattr(compiler, "get_compile_options", users_options)
        jax.config.update("jax_disable_most_optimizations", False)
        _optimised().set_global(True)
        yield
        jax.config.update("jax_disable_most_optimizations", True)
        _optimised().set_global(False)


@pytest.fixture(scope="module")
def optimised_module() -> Iterator[None]:
    """Optimised machine code in a whole module: where nearly all tests need it, or run longer than they compile."""
    with _optimisation():
        yield


@pytest.fixture
def optimised() -> Iterator[None]:
    """Optimised machine code, as users have it: for tests that two programs return the same bits."""
    with _optimisation():
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data cache of this test's own, empty; the mirror stays as it is."""
    path = tmp_path / "cache"
    monkeypatch.setenv("NCP_JAX_DATA", str(path))
    return path


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror: only what the cache holds is there."""
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)


@pytest.fixture(scope="session")
def tiny_table():
    """200 architectures of NAS-Bench-MR without noise, but for "b/top1", which is noise alone; and their FLOPs."""
    import numpy as np

    from ncp_jax import MetricSpec, Table, cost_model, get_space

    space, rng = get_space("nas-bench-mr"), np.random.default_rng(0)
    codes = np.stack([rng.choice(values, 200) for values in space.values], axis=1)
    z = codes / codes.std(axis=0)
    flops = cost_model(space).in_units(codes)["flops"]
    values = np.stack([z @ rng.normal(size=27), z[:, :8].sum(axis=1), rng.normal(size=200), flops], axis=1)
    metrics = [MetricSpec(f"{task}/{name}", task=task, unit="%") for task, name in (("a", "top1"), ("a", "top5"))]
    metrics += [MetricSpec("b/top1", task="b"), MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost")]
    return Table.from_arrays("tiny", space=space, codes=codes, values=values, metrics=metrics)


@pytest.fixture(scope="session")
def tiny_recipe():
    """Two segments of 20 epochs. Two runs on 100 of the tiny table's rows share one compiled program in all tests."""
    from ncp_jax import Recipe

    settings = {"epochs": 40, "batch": 32, "learning_rate": 1e-2, "decay_rows": 0, "precision": "float32"}
    return Recipe("tiny", widths=(8,), rates=(0.0,), **settings)


@pytest.fixture
def spaces_stay() -> Iterator[None]:
    """Forgets the spaces that a test describes: other tests go through those that there are."""
    from ncp_jax.spaces import SPACES

    before = dict(SPACES)
    yield
    SPACES.clear()
    SPACES.update(before)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs ``ncp-jax`` with some arguments; returns (exit status, stdout, stderr)."""
    from ncp_jax import cli

    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ncp-jax", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        return (0 if code is None else int(code)), *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def codes() -> np.ndarray:
    """128 architectures of TransNAS-Bench-101 micro."""
    import numpy as np

    from ncp_jax import get_space

    space = get_space("transnas-micro")
    return np.asarray(space.all_codes())[np.random.default_rng(0).permutation(space.size)[:128]]


@pytest.fixture(scope="session")
def quality(codes: np.ndarray) -> np.ndarray:
    """Three tasks ``[3, 128]``, each the sum of what its operations are worth, without ties; much in common."""
    import numpy as np

    rng = np.random.default_rng(1)
    worth = np.array([0.0, 1.0, 2.0, 4.0]) + 0.5 * rng.normal(size=(3, 6, 4))
    return worth[:, np.arange(6), codes].sum(axis=-1).astype(np.float32)


@pytest.fixture(scope="session")
def make_table(codes: np.ndarray) -> Callable[..., Table]:
    """Makes a table of the first architectures from their values."""
    import numpy as np

    from ncp_jax import MetricSpec, Table

    def make(values: np.ndarray, name: str = "tasks/a", *, rows: np.ndarray | None = None) -> Table:
        chosen = codes[: len(values)] if rows is None else codes[rows]
        column = np.asarray(values)[:, None]
        return Table.from_arrays(name, space="transnas-micro", codes=chosen, values=column, metrics=[MetricSpec("acc")])

    return make


@pytest.fixture(scope="session")
def tables(make_table: Callable[..., Table], quality: np.ndarray) -> list[Table]:
    return [make_table(values, f"tasks/{name}") for name, values in zip("abc", quality, strict=True)]


@pytest.fixture(scope="session")
def relation_inputs(codes: np.ndarray) -> RelationInputs:
    from ncp_jax.training.relations import RelationInputs

    return RelationInputs.of("transnas-micro", codes)


@pytest.fixture(scope="session")
def quick() -> ArchGraphConfig:
    """Four runs with a budget of 13 on all architectures share one compiled program in all tests."""
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
    from ncp_jax.training.relations import RelationRecipe

    recipe = RelationRecipe(width=8, members=2, steps=40, learning_rate=1e-2)
    return ArchGraphConfig(first=4, batch=3, shortlist=12, recipe=recipe)


STUDY_SEARCHERS: dict[str, list[dict[str, Any]]] = {
    "random": [{}],
    "evolution": [{"population": [4, 6], "tournament": 2}],
    "local-search": [{"move": ["first", "best"]}],
}


def _csv_text(n: int, seed: int) -> str:
    """Architectures with ties and with two codes of one network; accuracy, another one, a loss, seconds and FLOPs."""
    import numpy as np

    from ncp_jax import get_space

    space = get_space("transnas-micro")
    rng, codes = np.random.default_rng(seed), np.asarray(space.all_codes())
    chosen = codes[np.sort(rng.choice(space.size, n, replace=False))]
    lines = ["architecture,acc,tested,loss,train_s,flops"]
    for code in chosen:
        acc = round(50 + 4 * float(code.sum()) + rng.normal(), 0)
        cells = [acc, round(acc - 3 + 2 * rng.normal(), 2), round(100 - acc + rng.normal(), 1)]
        cells += [int(rng.integers(10, 100)), round(1 + float(code[:3].sum()) + rng.random(), 2)]
        lines.append(",".join([space.to_string(code), *map(str, cells)]))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def folder_of_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``mine.csv`` and ``other.csv``."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "mine.csv").write_text(_csv_text(60, 0))
    (folder / "other.csv").write_text(_csv_text(60, 1))
    return folder


@pytest.fixture(scope="session")
def arguments(folder_of_tables: Path) -> Callable[[str], dict[str, Any]]:
    """What a grid says of one of the CSV files."""

    def of(name: str) -> dict[str, Any]:
        columns = {"maximize": ["acc", "tested"], "minimize": ["loss", "train_s", "flops"], "test": ["tested"]}
        return {"path": str(folder_of_tables / f"{name}.csv"), "space": "transnas-micro", **columns}

    return of


@pytest.fixture(scope="session")
def make_grid(arguments: Callable[[str], dict[str, Any]]) -> Callable[..., Grid]:
    """A grid over "mine": three searchers, five methods, 5 seeds, 12 queries; keywords change it."""
    from ncp_jax.studies import Grid

    own = {name: arguments(name) for name in ("mine", "other")}
    grid = Grid(STUDY_SEARCHERS, ("mine",), budget=12, seeds=5, tables=own)
    return lambda **changes: dataclasses.replace(grid, **changes)
