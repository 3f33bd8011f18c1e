"""The house rules that a parser can check: imports go down, one file uses the network, one unpickles."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ncp_jax

PACKAGE = Path(ncp_jax.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
LEVELS = {
    **dict.fromkeys(("types", "checks", "files", "metrics"), 0),
    "spaces": 1,
    **dict.fromkeys(("benchmarks", "embeddings", "networks", "predictors", "propagation", "ordering"), 2),
    **dict.fromkeys(("training", "searchers"), 3),
    "studies": 4,
    "cli": 5,
}
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


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_go_down_or_stay_inside_a_folder(file: str) -> None:
    assert room(file) in LEVELS, f"{file} belongs to no level"
    assert wrong_imports(file, parse(file)) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("checks.py", "from ncp_jax import spaces"),
        ("spaces/base.py", "from ncp_jax.benchmarks.table import Table"),
        ("propagation/engine.py", "import ncp_jax.predictors"),
        ("predictors/ncp.py", "def f():\n    from ncp_jax import training"),
        ("studies/search.py", "from ncp_jax.cli import main"),
    ],
)
def test_the_check_itself_finds_imports_that_go_up_or_aside(file: str, line: str) -> None:
    assert len(wrong_imports(file, ast.parse(line))) == 1


@pytest.mark.parametrize("file", [file for file in FILES if file != "benchmarks/fetch.py"])
def test_only_fetch_uses_the_network(file: str) -> None:
    tree = parse(file)
    found = {name.split(".")[0] for name in imports(tree)} & NETWORK
    # The store asks pooch where the platform keeps caches, nothing more.
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pooch"
    }
    assert found <= {"pooch"}
    assert used <= {"os_cache"}


@pytest.mark.parametrize("file", [file for file in FILES if file != "benchmarks/convert.py"])
def test_only_convert_unpickles(file: str) -> None:
    tree = parse(file)
    assert {name.split(".")[0] for name in imports(tree)} & UNPICKLING == set()
    allowed = [
        keyword.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "allow_pickle" and isinstance(keyword.value, ast.Constant)
    ]
    assert not any(allowed)


def test_importing_package_and_command_line_starts_no_jax() -> None:
    script = "import sys, json, ncp_jax, ncp_jax.cli; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert {"ncp_jax", "tyro"} <= loaded
    assert (
        loaded & {"jax", "jaxlib", "flax", "optax", "orbax", "matplotlib", "scipy", "pooch", "numba", "highspy"}
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


@pytest.mark.parametrize("file", FILES)
def test_everything_public_has_a_docstring(file: str) -> None:
    assert undocumented(parse(file)) == []


def test_the_check_itself_finds_what_is_undocumented() -> None:
    source = '"""M."""\ndef f(): ...\nclass C:\n    """C."""\n    def g(self): ...\n    def _h(self): ...\n'
    assert undocumented(ast.parse(source)) == ["f", "C.g"]
