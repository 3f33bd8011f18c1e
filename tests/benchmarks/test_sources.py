from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from ncp_jax import benchmarks
from ncp_jax.benchmarks import all_sources, list_tables
from ncp_jax.benchmarks.catalogue import FAMILIES, JOINT, LATENCY, RECIPES, choose_table
from ncp_jax.benchmarks.sources import select_sources
from ncp_jax.checks import UsageError
from ncp_jax.spaces import get_space

PACKAGE = Path(benchmarks.__file__).parents[1]


def test_every_source_is_complete() -> None:
    assert len(all_sources()) == 16 + 2 * (1 + 27)
    for key, source in all_sources().items():
        assert key == source.key
        assert source.family in FAMILIES
        assert source.address.startswith("https://raw.githubusercontent.com/")
        assert source.address.endswith(key.rsplit("/", 1)[1])
        assert (len(source.sha256), len(source.git_blob)) in ((64, 0), (0, 40))
        assert source.apart == (key == "ncp/3ddet/trainval.pkl")
        assert source.licence
        assert source.what
        assert all("arXiv:" in citation for citation in source.citations)
        assert source.citations


@pytest.mark.usefixtures("spaces_stay")
def test_sources_and_recipes_agree() -> None:
    fed = {table: source.key for source in all_sources().values() for table in source.tables}
    assert fed == {recipe.name: recipe.file for recipe in RECIPES.values()}
    assert len(fed) == 9 + 3 + 1 + 2 * 7 + 2 * 27
    for recipe in RECIPES.values():
        assert get_space(recipe.space).name == recipe.space
        assert recipe.name.startswith(all_sources()[recipe.file].family + "/")


def test_real_files_are_the_ones_described(mirror: Path) -> None:
    for source in all_sources().values():
        if (source.apart or source.family in LATENCY) and not (mirror / source.key).is_file():
            print(f"{source.key} was not here")  # a mirror need not have all devices
            continue
        content = (mirror / source.key).read_bytes()
        assert source.digest_of(content) == source.digest
        if source.sha256:
            assert len(content) == source.bytes
            assert hashlib.sha256(content).hexdigest() == source.sha256


def keys(*names: str) -> list[str]:
    return [source.key for source in select_sources(names)]


def test_select_by_table_task_family_file_and_all() -> None:
    assert keys("nas-bench-mr/seg") == keys("SEG") == ["ncp/seg/trainval.pkl"]
    assert keys("transnas-micro/jigsaw") == ["naslib/all_benchmarks_zen.zip"]
    assert keys("ncp/search_list.txt") == ["ncp/search_list.txt"]
    assert len(keys("nas-bench-mr")) == 10
    assert keys("nas-bench-201") == ["ncp/nas-bench-201/trainval.pkl", "naslib/nb201_zen.zip"]
    assert keys("transnas-macro") == ["naslib/tnb101_macro_zen.zip", "naslib/zc_transbench101_macro.json"]
    measured = [key for key in all_sources() if key.startswith("help/")]
    assert keys("all") == [key for key in all_sources() if key not in measured]
    assert keys("help") == measured
    device = ["help/fbnet/arch.pt", "help/fbnet/latency/raspi4.pt"]
    assert keys("fbnet-latency/raspi4") == device
    assert keys("video", "seg", "seg") == ["ncp/seg/trainval.pkl", "ncp/video/trainval.pkl"]
    assert [source.key for source in select_sources("seg")] == ["ncp/seg/trainval.pkl"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("nas-bench-mr/sge",), r"expected a known table, family or file, got 'nas-bench-mr/sge'; .*nas-bench-mr/seg"),
        (("nasbench201",), "did you mean: .*nas-bench-201"),
        (("jigsaw",), "transnas-micro/jigsaw"),  # two tables have this task: the name alone is not enough
        ((), "at least one name"),
    ],
)
def test_unknown_names_list_the_nearest(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        select_sources(names)


def test_table_names() -> None:
    assert list_tables()[0] == JOINT
    assert len(set(list_tables())) == 28 + 6 + 2 * 27
    assert choose_table("Nas-Bench-MR/Seg") == choose_table("seg") == "nas-bench-mr/seg"
    assert choose_table("cifar10") == "nas-bench-201/cifar10"
    assert choose_table("nas-bench-mr") == "nas-bench-mr"
    with pytest.raises(UsageError, match=r"expected a known table, got 'cifar11'; did you mean: .*cifar10"):
        choose_table("cifar11")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_one_place_unpickles_and_one_uses_the_network() -> None:
    unpickling = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    network = {"requests", "urllib", "urllib3", "http", "socket", "httpx", "ftplib"}
    for path in PACKAGE.rglob("*.py"):
        found = imports_of(path)
        name = path.relative_to(PACKAGE).as_posix()
        if name != "benchmarks/pickles.py":
            assert not found & unpickling, name
        assert not found & network, name
        if "pooch" in found:
            assert name in ("benchmarks/fetch.py", "files.py")  # the latter: the platform's cache folder


def test_importing_reads_no_data_and_loads_no_network_code(tmp_path: Path) -> None:
    script = "import sys, ncp_jax.benchmarks\nprint([m for m in ('pooch', 'requests', 'tqdm') if m in sys.modules])"
    # A platform that does not exist: starting a backend would fail.
    environment = {"PYTHONPATH": str(PACKAGE.parent), "NCP_JAX_DATA": str(tmp_path / "none"), "JAX_PLATFORMS": "none"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert not (tmp_path / "none").exists()
