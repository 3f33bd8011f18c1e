"""The house rules that a parser can check: imports go down, one file uses the network, one unpickles."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ncp_jax

PACKAGE = Path(ncp_jax.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
LEVELS = {
    **dict.fromkeys(("types", "checks", "metrics", "drawing", "console", "jax_settings", "cores", "pytrees"), 0),
    **dict.fromkeys(("files", "array_files", "text_tables"), 0),
    **dict.fromkeys(("records", "analysis", "spaces"), 1),
    **dict.fromkeys(("benchmarks", "embeddings", "networks", "predictors", "propagation", "ordering"), 2),
    "training": 3,
    **dict.fromkeys(("searchers", "controllable"), 4),
    **dict.fromkeys(("studies", "reports", "integrations", "auditing"), 5),
    "commands": 6,
    "cli": 7,
    "__main__": 8,
}
EXPERIMENTS = PACKAGE.parent / "experiments"
SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))
SUPPORT = sorted(path.parent.name for path in EXPERIMENTS.glob("*/__init__.py"))
NETWORK = {"pooch", "urllib", "requests", "socket", "http", "ftplib", "urllib3", "httpx", "aiohttp"}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def parse(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[str]:
    """Full dotted names of all that is imported, at the top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(file: str, tree: ast.Module) -> list[str]:
    """Imports of the package's own modules that do not go down a level or stay inside one folder."""
    here = room(file)
    own = [name.split(".")[1] for name in imports(tree) if name.split(".")[0] == "ncp_jax" and "." in name]
    # ``from ncp_jax import __version__`` and the like name no module; the files of level 0 lie in one folder.
    return [there for there in own if there != here and LEVELS.get(there, 0) >= max(LEVELS[here], 1)]


def test_imports_go_down_or_stay_inside_a_folder() -> None:
    files = [file for file in FILES if file != "__init__.py"]
    assert {room(file) for file in files} == set(LEVELS)
    wrong = {file: found for file in files if (found := wrong_imports(file, parse(file)))}
    assert wrong == {}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


def test_no_module_imports_itself_through_others() -> None:
    names = {("ncp_jax." + file.removesuffix(".py").replace("/", ".")).removesuffix(".__init__") for file in FILES}
    graph: dict[str, set[str]] = {}
    for file in FILES:
        # Packages' __init__.py hand names on: their own imports are those of whoever asks for the names.
        if not file.endswith("__init__.py"):
            name = "ncp_jax." + file.removesuffix(".py").replace("/", ".")
            wanted = {part for found in imports(parse(file)) for part in (found, found.rpartition(".")[0])}
            graph[name] = (wanted & names) - {name}
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_the_package_knows_no_experiment_and_experiments_do_not_know_each_other() -> None:
    for file in FILES:
        assert {name.split(".")[0] for name in imports(parse(file))} & {*SCRIPTS, *SUPPORT, "experiments"} == set(), (
            file
        )
    for path in EXPERIMENTS.rglob("*.py"):
        found = {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
        # What several share lies in harness; a script alone may take from several topics.
        topic = path.parent.name
        allowed = {*SUPPORT} if path.parent == EXPERIMENTS else {topic, "harness"}
        assert found & {*SCRIPTS, *SUPPORT, "experiments"} <= allowed, path


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("checks.py", "from ncp_jax import spaces"),
        ("spaces/base.py", "from ncp_jax.benchmarks.table import Table"),
        ("propagation/engine.py", "import ncp_jax.predictors"),
        ("predictors/ncp.py", "def f():\n    from ncp_jax import training"),
        ("studies/plan.py", "from ncp_jax.cli import main"),
        ("studies/runner.py", "from ncp_jax.reports import write_report"),
        ("training/fitting.py", "from ncp_jax.searchers import search"),
    ],
)
def test_the_check_itself_finds_imports_that_go_up_or_aside(file: str, line: str) -> None:
    assert len(wrong_imports(file, ast.parse(line))) == 1


def test_only_fetch_uses_the_network() -> None:
    for file in FILES:
        if file == "benchmarks/fetch.py":
            continue
        tree = parse(file)
        found = {name.split(".")[0] for name in imports(tree)} & NETWORK
        # The cache's folder is what pooch takes for the platform's, nothing more.
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pooch"
        }
        assert found <= {"pooch"}, file
        assert used <= {"os_cache"}, file


def test_only_one_module_unpickles() -> None:
    for file in FILES:
        if file == "benchmarks/pickles.py":
            continue
        tree = parse(file)
        assert {name.split(".")[0] for name in imports(tree)} & UNPICKLING == set(), file
        allowed = [
            keyword.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "allow_pickle" and isinstance(keyword.value, ast.Constant)
        ]
        assert not any(allowed), file


def test_importing_package_and_command_line_starts_no_jax() -> None:
    script = (
        "import sys, json, ncp_jax; from ncp_jax.cli import COMMANDS, command_class\n"
        "list(map(command_class, COMMANDS))\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert {"ncp_jax", "tyro"} <= loaded
    assert (
        loaded
        & {"jax", "jaxlib", "flax", "optax", "orbax", "matplotlib", "numpy", "scipy", "pooch", "numba", "highspy"}
        == set()
    )


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods without a docstring; "" for the module itself."""
    missing = [] if ast.get_docstring(tree) else [""]
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, parent = stack.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    missing.append(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    stack.append((f"{prefix}{node.name}.", node))
    return missing


def test_everything_public_has_a_docstring() -> None:
    assert {file: missing for file in FILES if (missing := undocumented(parse(file)))} == {}


def test_the_check_itself_finds_what_is_undocumented() -> None:
    source = '"""M."""\ndef f(): ...\nclass C:\n    """C."""\n    def g(self): ...\n    def _h(self): ...\n'
    assert undocumented(ast.parse(source)) == ["f", "C.g"]
