"""Official files become tables: values as in the files, splits, seeds, curves; and what is refused."""

from __future__ import annotations

import bz2
import collections
import copy
import functools
import json
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import checks, get_space, import_tables, list_tables, load_curves, load_table
from ncp_jax.benchmarks.arrays import TableArrays
from ncp_jax.benchmarks.imported import Import, imported_names, list_imports, read_arrays
from ncp_jax.benchmarks.registry import load_arrays

from .. import upstream
from .official_files import TASKS, nas_bench_201, transnas
from .torch_containers import archive, sequence


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NCP_JAX_DATA", str(folder))
    return folder


def take(*arguments: Any, notify: Callable[[str], None] = lambda _: None, **options: Any) -> Import:
    loaded.cache_clear()
    return import_tables(*arguments, notify=notify, **options)


@functools.cache
def loaded(table: str) -> tuple[TableArrays, list[str]]:
    arrays = load_arrays(table)
    return arrays, get_space(arrays.space).to_strings(arrays.codes)


def column(table: str, name: str) -> dict[str, float]:
    arrays, names = loaded(table)
    return dict(zip(names, arrays.column(name).tolist(), strict=True))


def test_transnas(tmp_path: Path) -> None:
    content = transnas(micro=5, macro=3, epochs=4)
    notices: list[str] = []
    kept: list[Import] = []
    for name, write in (("zipped", archive), ("older", sequence)):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(write(content))
        kept.append(take("transnas", path, name=name, notify=notices.append))
    assert notices[:2] == [
        "zipped.pth: macro: 3 of 3256 architectures are there",
        "zipped.pth: micro: 5 of 4096 architectures are there",
    ]
    made = kept[0]
    assert [table.name for table in made.tables] == [
        f"zipped-{kind}/{task}" for kind in ("macro", "micro") for task in sorted(TASKS)
    ]
    assert {table.rows for table in made.tables} == {3, 5}
    for task in TASKS:
        of = {name: tasks[task] for name, tasks in content["data"]["micro"].items()}
        for name in content["metrics_dict"][task][:-1]:
            specs = {metric.name: metric for metric in loaded(f"zipped-micro/{task}")[0].metrics}
            spec = specs[name]
            best = max if spec.direction == "maximize" else min
            assert spec.direction == ("minimize" if name.endswith("loss") and "neg" not in name else "maximize")
            assert spec.split == {"train": "train", "valid": "validation", "test": "test"}[name.partition("_")[0]]
            curves = {arch: result["metrics"][name] for arch, result in of.items()}
            for prefix in ("zipped", "older"):
                assert column(f"{prefix}-micro/{task}", name) == {arch: curve[-1] for arch, curve in curves.items()}
                assert column(f"{prefix}-micro/{task}", f"{name}_best") == {a: best(c) for a, c in curves.items()}
            found = load_curves(f"zipped-micro/{task}", name)
            strings = get_space("transnas-micro").to_strings(found.codes)
            assert dict(zip(strings, found.values.tolist(), strict=True)) == curves
        assert column(f"zipped-micro/{task}", "model_FLOPs") == {
            arch: result["model_info"]["model_FLOPs"] for arch, result in of.items()
        }
        assert specs["time_elapsed"].unit == "s"
    main = {task: loaded(f"zipped-micro/{task}")[0].metrics[0].name for task in TASKS}
    assert main == {
        **dict.fromkeys(("class_scene", "class_object", "jigsaw"), "valid_top1"),
        **dict.fromkeys(("normal", "autoencoder"), "valid_ssim"),
        "room_layout": "valid_neg_loss",
        "segmentsemantic": "valid_mIoU",
    }
    joint = load_table("zipped-macro")
    assert len(joint) == 3
    assert joint.metric("jigsaw/valid_top1_best").epoch == "best"
    with pytest.raises(checks.UsageError, match="did you mean: zipped-m"):
        load_table("zipped")
    assert "zipped-micro/jigsaw" in list_tables()
    with pytest.raises(checks.UsageError, match=r"with learning curves, got model_FLOPs; choose from: "):
        load_curves("zipped-micro/jigsaw", "model_FLOPs")
    assert Import.from_json(json.loads(json.dumps(made.to_json()))) == made == list_imports()[1]


def test_failed_trainings_are_kept_and_counted(tmp_path: Path) -> None:
    content = transnas(micro=4, macro=0, epochs=3)
    names = list(content["data"]["micro"])
    content["data"]["micro"][names[1]]["jigsaw"]["metrics"]["valid_top1"] = [0.5, 0.25, float("nan")]
    content["data"]["micro"][names[2]]["jigsaw"]["metrics"]["valid_top1"] = [float("nan"), None, float("inf")]
    del content["data"]["micro"][names[3]]["jigsaw"]
    content["metrics_dict"]["jigsaw"].append("valid_energy")
    content["data"]["micro"][names[0]]["jigsaw"]["metrics"]["valid_energy"] = [1.0, 2.0, 3.0]
    path = tmp_path / "file.pth"
    path.write_bytes(archive(content))
    notices: list[str] = []
    made = take("transnas", path, name="some", notify=notices.append)
    assert "file.pth: left out valid_energy, whose direction is not known" in notices
    assert any(text.startswith("some-micro/jigsaw: 2 of 3 trainings failed (valid_top1") for text in notices)
    (table,) = [table for table in made.tables if table.name == "some-micro/jigsaw"]
    place = [metric.name for metric in table.metrics].index("valid_top1")
    assert (table.rows, table.failed[place], table.absent[place]) == (3, 2, 0)
    loaded = load_table("some-micro/jigsaw")
    assert np.isnan(loaded.measured("valid_top1")).tolist() == [False, True, True]
    assert column("some-micro/jigsaw", "valid_top1_best")[names[1]] == 0.5
    assert read_arrays("some", table).failed[:, place].tolist() == [False, True, True]
    assert len(loaded.known(["valid_top1"])) == 1
    joint = load_arrays("some")  # the one space that the file has
    assert len(joint.codes) == 4
    assert np.isnan(joint.column("jigsaw/train_top1")).sum() == 1


NATS = {"tss": "NATS-tss-v1_0-3ffb9-simple", "sss": "NATS-sss-v1_0-50262-simple"}


@pytest.mark.parametrize("kind", NATS)
def test_published_nats_entries(kind: str, mirror: Path, tmp_path: Path) -> None:
    folder = mirror / "nats" / NATS[kind]
    if not folder.is_dir():
        upstream.absent(f"a sample of NATS-Bench ({NATS[kind]})")
    notices: list[str] = []
    take("nats", folder, notify=notices.append)
    whole = {"tss": 15625, "sss": 32768}[kind]
    assert f"{folder.name}: 3 of {whole} architectures are there" in notices
    contents = [pickle.loads(bz2.decompress(path.read_bytes())) for path in sorted(folder.glob("0*"))]
    checked = 0
    for sets in contents:
        for hyper, results in sets.items():
            arch = results["arch_str"]
            for (data, seed), run in results["all_results"].items():
                table, last = f"nats-{kind}/{data.lower()}-{hyper}", run["epochs"] - 1
                for images, name in (("x-valid", "valid"), ("x-test", "test"), ("ori-test", "ori_test")):
                    if f"{images}@{last}" not in run["eval_acc1es"]:
                        continue
                    shown = "test" if data.startswith("cifar10") and data != "cifar100" and name != "valid" else name
                    value = run["eval_acc1es"][f"{images}@{last}"]
                    assert column(table, f"{shown}_top1_seed{seed}")[arch] == value
                    assert column(table, f"{shown}_loss_seed{seed}")[arch] == run["eval_losses"][f"{images}@{last}"]
                    if data == "cifar10-valid" and name == "valid":
                        assert column(f"nats-{kind}/cifar10-{hyper}", f"valid_top1_seed{seed}")[arch] == value
                        checked += 1
                assert column(table, f"train_top1_seed{seed}")[arch] == run["train_acc1es"][last]
                assert column(table, "params")[arch] == run["params"]
                assert column(table, "flop")[arch] == run["flop"]
                assert column(table, f"latency_seed{seed}")[arch] == run["latency"][0]
                if last:
                    curves = load_curves(table, f"train_loss_seed{seed}")
                    row = loaded(table)[1].index(arch)
                    assert curves.values[row].tolist() == list(run["train_losses"].values())
    assert checked > 10
    table = load_table(f"nats-{kind}/cifar10-12")
    assert {metric.seed for metric in table.metrics} >= {"", "777"}
    # One file in the other published form: all architectures together.
    meta = {"meta_archs": [], "arch2infos": dict(enumerate(contents)), "evaluated_indexes": set()}
    single = tmp_path / "NATS.pickle.pbz2"
    single.write_bytes(bz2.compress(pickle.dumps(meta)))
    take("nats", single, name="single")
    for name in imported_names():
        if name.startswith("single/"):
            twin = load_arrays(name.replace("single/", f"nats-{kind}/"))
            np.testing.assert_array_equal(load_arrays(name).values, twin.values)


def test_nas_bench_201_and_means_over_seeds(tmp_path: Path) -> None:
    content = nas_bench_201(3)
    path = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    path.write_bytes(archive(content))
    made = take("nas-bench-201", path)
    assert {table.name.partition("/")[2] for table in made.tables} == {
        "cifar10-valid-12", "cifar10-12", "cifar10-valid-200", "cifar10-200", "cifar100-200",
    }  # fmt: skip
    name = made.name
    archs = content["meta_archs"]
    full = [content["arch2infos"][i]["full"]["all_results"] for i in range(3)]
    less = [content["arch2infos"][i]["less"]["all_results"] for i in range(3)]
    table = f"{name}/cifar10-200"
    assert load_table(table).metric("valid_top1_seed777").split == "validation"
    assert load_table(table).metric("test_top1_seed777").split == "test"
    for arch, runs in zip(archs, full, strict=True):
        half, whole = runs["cifar10-valid", 777], runs["cifar10", 777]
        assert column(table, "valid_top1_seed777")[arch] == half["eval_acc1es"]["x-valid@2"]
        assert column(table, "test_top1_seed777")[arch] == whole["eval_acc1es"]["ori-test@2"]
        assert column(table, "train_top1_seed777")[arch] == whole["train_acc1es"][2]
        assert column(f"{name}/cifar10-valid-200", "test_top1_seed777")[arch] == half["eval_acc1es"]["ori-test@2"]
        assert column(table, "valid_loss_best_seed777")[arch] == min(
            half["eval_losses"][f"x-valid@{epoch}"] for epoch in range(3)
        )
    # Each architecture has another second seed: columns with one value each.
    known = {seed: column(f"{name}/cifar10-valid-12", f"valid_top1_seed{seed}") for seed in (111, 112, 113)}
    assert [sum(map(np.isfinite, values.values())) for values in known.values()] == [1, 1, 1]
    take("nas-bench-201", path, name="means", seeds="mean")
    values = column("means/cifar10-valid-12", "valid_top1")
    for place, arch in enumerate(archs):
        own = [run["eval_acc1es"]["x-valid@1"] for run in less[place].values()]
        assert values[arch] == np.mean(own)
    assert load_table("means/cifar10-valid-12").metric("valid_top1").seed == "mean"
    assert column("means/cifar100-200", "latency")[archs[0]] == 0.5


def test_naslib_and_later_imports_add(tmp_path: Path) -> None:
    names = get_space("nas-bench-201").to_strings(get_space("nas-bench-201").from_index(np.arange(4)))
    rng = np.random.default_rng(0)

    def entry(further: int) -> dict[str, Any]:
        lists = {"train_acc1es": 3, "train_losses": 3, "eval_acc1es": 3 + further, "eval_losses": 3 + further}
        made: dict[str, Any] = {name: rng.random(size).tolist() for name, size in lists.items()}
        return made | {"cost_info": {"flops": 7.0, "params": 0.1, "latency": 0.01, "train_time": 5.0}}

    content = {name: {"cifar10-valid": entry(1), "cifar100": entry(2), "cifar10": entry(0)} for name in names}
    halves = [dict(list(content.items())[:3]), dict(list(content.items())[2:])]
    for part, half in zip("ab", halves, strict=True):
        (tmp_path / f"{part}.pickle").write_bytes(pickle.dumps(half))
    notices: list[str] = []
    made = take("naslib", tmp_path / "a.pickle", notify=notices.append)
    assert notices == ["a.pickle: 3 of 15625 architectures are there"]
    take("naslib", tmp_path / "b.pickle")
    table = f"{made.name}/cifar100"
    assert list(column(table, "test_top1")) == names
    for name in names:
        values = content[name]["cifar100"]["eval_acc1es"]
        found = [column(table, key)[name] for key in ("valid_top1", "ori_test_top1", "test_top1", "valid_top1_best")]
        assert found == [values[2], values[3], values[4], max(values[:3])]
    assert load_table(f"{made.name}/cifar10-valid").metric("test_top1").split == "test"
    assert load_table(f"{made.name}/cifar10").metric("test_top1_best").split == "test"
    assert load_curves(table, "valid_top1").values.shape == (4, 3)
    assert len(list_imports()[0].sources) == 2
    # Imported again: nothing to do. Another value for the same thing: refused, and what was there stays.
    take("naslib", tmp_path / "b.pickle", notify=notices.append)
    assert notices[-1] == "b.pickle was imported before; --replace reads it again"
    other = copy.deepcopy(halves[1])
    other[names[2]]["cifar100"]["eval_acc1es"][2] = 2.0
    (tmp_path / "c.pickle").write_bytes(pickle.dumps(other))
    with pytest.raises(checks.DataError, match=r"expected one value of valid_top1 in .*/cifar100 for .*; import one"):
        take("naslib", tmp_path / "c.pickle")
    assert len(list_imports()[0].sources) == 2
    take("naslib", tmp_path / "c.pickle", replace=True)
    assert column(table, "valid_top1")[names[2]] == 2.0
    with pytest.raises(checks.UsageError, match="expected files of naslib with --seeds each under the name"):
        take("naslib", tmp_path / "c.pickle", seeds="mean")


def test_evoxbench(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE nasbench201_nasbench201result (phenotype TEXT, cost200 TEXT, more_info TEXT)")
    database.execute("CREATE TABLE natsbenchsss_natsbenchresult (phenotype TEXT, cifar10_valid TEXT, cost TEXT)")
    database.execute("CREATE TABLE darts_dartsresult (phenotype TEXT, result TEXT)")
    trials = [{"valid-accuracy": 70.5, "test-accuracy": 71.5, "valid-loss": 1.5}, {"valid-accuracy": 72.0}]
    info = {"cifar10-valid": {"hp200": trials}, "cifar10": {"hp200": [{"test-accuracy": 90.5}]}}
    arch = get_space("nas-bench-201").example
    cost = {"cifar10": {"params": 0.5, "flops": 20.5}}
    row = (arch, json.dumps(cost), json.dumps(info))
    database.execute("INSERT INTO nasbench201_nasbench201result VALUES (?, ?, ?)", row)
    sizes = ("8:16:24:32:40", json.dumps({"hp90": trials}), json.dumps({"cifar10": {"hp90": {"params": 0.25}}}))
    database.execute("INSERT INTO natsbenchsss_natsbenchresult VALUES (?, ?, ?)", sizes)
    database.commit()
    database.close()
    notices: list[str] = []
    take("evoxbench", path, notify=notices.append)
    assert "database.db: left out table darts_dartsresult, whose space is not known here" in notices
    assert column("evoxbench/cifar10-200", "valid_top1_trial0") == {arch: 70.5}
    assert column("evoxbench/cifar10-200", "valid_top1_trial1") == {arch: 72.0}
    assert column("evoxbench/cifar10-200", "test_top1_trial0") == {arch: 90.5}
    assert column("evoxbench/cifar10-valid-200", "test_top1_trial0") == {arch: 71.5}
    assert column("evoxbench/cifar10-200", "flop") == {arch: 20.5}
    assert column("evoxbench/cifar10-valid-90", "valid_loss_trial0") == {"8:16:24:32:40": 1.5}
    assert column("evoxbench/cifar10-valid-90", "params") == {"8:16:24:32:40": 0.25}
    take("evoxbench", path, name="mean", seeds="mean")
    assert column("mean/cifar10-200", "valid_top1") == {arch: 71.25}


def test_what_is_refused(tmp_path: Path) -> None:
    good = transnas(micro=2, macro=0, epochs=2)
    arch = next(iter(good["data"]["micro"]))

    def changed(**parts: Any) -> bytes:
        made = copy.deepcopy(good)
        made["data"]["micro"][arch]["jigsaw"] |= parts
        return archive(made)

    def refused(kind: str, content: bytes, words: str, **options: Any) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises((checks.DataError, checks.UsageError), match=words) as caught:
            take(kind, path, **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1500

    refused("transnas", bz2.compress(b"x"), "expected a file of torch.save at .*, got a bz2 stream")
    refused("transnas", archive([1, 2]), r"expected a dictionary as the file in file, got \[1, 2\]")
    refused("transnas", archive(nas_bench_201(1)), "expected data in the file of file, got keys meta_archs, arch2infos")
    refused("nas-bench-201", archive(good), "expected arch2infos in the file of file, got keys metrics_dict")
    refused("naslib", archive(good), "expected a pickle at .*, got a zip archive")
    refused("naslib", pickle.dumps({"|x~0|": {"cifar10": {}}}), "expected architectures of nas-bench-201 in file")
    refused("nats", bz2.compress(b"not a pickle"), "got a bz2 stream of bytes that begin with b'not a pi'")
    refused("nats", bz2.compress(pickle.dumps(1))[:-5], r"got a damaged bz2 stream \(the stream has no end\)")
    refused("nats", bz2.compress(bytes(9 << 20)), "expected at most 8388608 bytes in the bz2 stream")
    refused("evoxbench", b"SQLite format 3\0" + bytes(100), "expected a whole SQLite database")
    refused("evoxbench", archive(good), "expected an SQLite database at .*, got a zip archive")
    refused("transnas", changed(metrics={"valid_top1": []}), "a list of numbers, one for each epoch, as valid_top1 of")
    refused("transnas", changed(metrics={"valid_top1": ["x"]}), "expected a number as valid_top1 of .*, got 'x'")
    refused("transnas", changed(metrics={"valid_top1": 0.5}), r"as valid_top1 of 64-41414-0_00_000, jigsaw in file")
    shared: Any = [0.5]
    for _ in range(9):
        shared = [shared] * 10  # 10**9 numbers in a small file
    refused("transnas", changed(metrics={"valid_top1": shared}), "expected a number as valid_top1")
    missing = copy.deepcopy(good)
    del missing["data"]["micro"][arch]["jigsaw"]["metrics"]
    refused("transnas", archive(missing), "expected metrics in 64-41414-0_00_000, jigsaw of file, got keys")
    illegal = copy.deepcopy(good)
    illegal["data"]["micro"]["64-41414-9_99_999"] = illegal["data"]["micro"][arch]
    refused("transnas", archive(illegal), "expected architectures of transnas-micro in file, got '64-41414-9_99_999'")
    refused("transnas", archive({"data": {"other": {}}}), "expected architectures of transnas in .*, got none")
    refused(
        "transnas", archive(good), "expected a --name that no built-in table has, got transnas-micro", name="transnas"
    )
    refused("transnas", archive(good), "that no built-in table has, got nas-bench-mr", name="nas-bench-mr")
    refused("transnas", archive(good), "expected a --name of small letters", name="My Table")
    refused("transnas", archive(good), "expected a known rule for --seeds", seeds="first")
    refused("trans", archive(good), "did you mean: transnas")
    refused("transnas", archive(collections.Counter("aab")), "the name 'collections.Counter'")
    refused(
        "transnas",
        archive(transnas(micro=300, macro=0)),
        r"objects of at most 0\.001 GB in .*; give more",
        memory_gb=0.001,
    )
    with pytest.raises(checks.MissingError, match="expected a file or folder at"):
        take("transnas", tmp_path / "none.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(checks.DataError, match=r"expected files like 000000.pickle.pbz2 in .*, got 0 others"):
        take("nats", tmp_path / "empty")
    assert list_imports() == ()


def test_damaged_copies_in_the_cache_are_found(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(archive(transnas(micro=2, macro=0, epochs=2)))
    take("transnas", path, name="some")
    (npz,) = (cache / "imported").rglob("jigsaw.npz")
    npz.write_bytes(npz.read_bytes()[:-1])
    with pytest.raises(checks.DataError, match="got another hash than when it was imported; import it again"):
        load_table("some-micro/jigsaw")
    (curve,) = (cache / "imported").rglob("normal/valid_ssim.npy")
    curve.write_bytes(b"")
    with pytest.raises(checks.DataError, match="expected the imported table at"):
        load_curves("some-micro/normal", "valid_ssim")
    (cache / "imported" / "some" / "import.json").write_text("{")
    assert list_imports() == ()
