"""The real tables against the upstream files, read here once more with plain pickle and json (hashes are checked by
test_sources.py) and mapped by the words of the benchmarks' papers, not by the package's code."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from ncp_jax.benchmarks import all_sources, list_tables, load_arrays, load_table
from ncp_jax.benchmarks.catalogue import DIGITS, LATENCY, MR_TASKS, RECIPES, SHIPPED, TRANSNAS_TASKS
from ncp_jax.spaces import get_space

pytestmark = pytest.mark.usefixtures("mirror")

PUBLISHED = [name for name in RECIPES if name.partition("/")[0] not in LATENCY]  # test_latency.py has the others
NASLIB_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NCP_OPS = ("avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


def cell_string(ops: list[str]) -> str:
    """Operations of the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3 as NAS-Bench-201 writes them."""
    return "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)


def zipped(path: Path, task: str) -> list[dict]:
    rows = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if f"--{task}--" in name:
                rows += json.loads(archive.read(name))
    return rows


def integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def naslib_string(name: str, arch: list[int]) -> str:
    if name.startswith("nas-bench-201"):
        # NASLib's edges: 0>1, 0>2, 0>3, 1>2, 1>3, 2>3
        return cell_string([NASLIB_OPS[arch[edge]] for edge in (0, 1, 3, 2, 4, 5)])
    digits = "".join(map(str, arch))
    return f"64-{digits}-basic" if "macro" in name else f"64-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"


def upstream(name: str, mirror: Path) -> dict[str, dict[str, float]]:
    """Architecture string to its upstream fields."""
    task = name.split("/")[1]
    path = mirror / RECIPES[name].file
    if path.suffix == ".zip":
        rows = zipped(path, "ImageNet16-120" if task == "imagenet16-120" else task)
        return {naslib_string(name, integers(row["arch"])): row for row in rows}
    rows = pickle.loads(path.read_bytes())
    if name.startswith("nas-bench-mr"):
        return {mr_string(row): row for row in rows}
    ops = [[NCP_OPS[k] for k in row["embedding"].reshape(6, 5).argmax(1)] for row in rows]
    return {cell_string(names): row for names, row in zip(ops, rows, strict=True)}


def mr_string(row: dict) -> str:
    """From the layer settings, not from the embedding that the package reads."""
    groups = [row["input_channel"]]
    stages = {}
    for setting in row["inverted_residual_setting"]:
        stages.setdefault(setting[0], []).append(setting)
    for stage, modules in sorted(stages.items()):
        _, convs, channels = modules[0]
        assert all(module == modules[0] for module in modules)
        groups.append([len(modules), stage, *convs, *channels])
    groups.append([row["last_channel"]])
    return "-".join("_".join(map(str, group)) for group in groups)


def skip_where_absent(name: str, mirror: Path) -> None:
    """Skips a table whose file a mirror may lack, and lacks."""
    source = all_sources()[RECIPES[name].file] if name in RECIPES else None
    if source is not None and source.apart and not (mirror / source.key).is_file():
        pytest.skip(f"{source.key} was not here: checked on a file of its form alone")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_is_upstreams(name: str, mirror: Path) -> None:
    skip_where_absent(name, mirror)
    rows = upstream(name, mirror)
    arrays = load_arrays(name)
    space = get_space(arrays.space)
    assert len(arrays.codes) == len(rows) == (RECIPES[name].rows or len(rows))
    fields = [column.field for column in RECIPES[name].columns]
    sign = -1.0 if "room_layout" in name else 1.0
    expected = [[sign * rows[text][field] for field in fields] for text in space.to_strings(arrays.codes)]
    np.testing.assert_array_equal(arrays.values, expected)
    assert arrays.values.dtype == np.float64
    assert dict(arrays.hashes) == {RECIPES[name].file: all_sources()[RECIPES[name].file].digest}


@pytest.mark.parametrize("name", [name for name in list_tables() if name not in RECIPES or name in PUBLISHED])
def test_tables_on_the_device(name: str, mirror: Path) -> None:
    skip_where_absent(name, mirror)
    table, arrays = load_table(name), load_arrays(name)
    codes = np.asarray(table.codes)
    assert table.name == name
    assert bool(np.all(get_space(table.space).is_valid(codes)))
    np.testing.assert_array_equal(jax.jit(table.rows)(table.codes), np.arange(len(codes)))
    np.testing.assert_array_equal(table.values, arrays.values.astype(np.float32))
    # Ascending codes: the tables of one benchmark share their row numbers.
    assert sorted(map(tuple, codes.tolist())) == list(map(tuple, codes.tolist()))
    for metric in table.metrics:
        if name in (DIGITS, *SHIPPED):  # all splits and epochs, R2 below zero; see test_digits.py
            assert metric.direction == ("minimize" if metric.kind == "cost" else "maximize")
            assert metric.kind == "cost" or np.asarray(table.column(metric.name)).min() > -1
        elif metric.kind == "cost":
            assert (metric.direction, metric.task, metric.split) == ("minimize", "", "")
        else:
            split = "test" if name.startswith("nas-bench-201") else "validation"
            assert (metric.split, metric.epoch) == (split, "final")
            assert metric.direction == ("minimize" if metric.name == "l2_loss" else "maximize")
            values = np.asarray(table.column(metric.name))
            assert values.min() >= 0
            assert values.max() <= (100 if metric.unit == "%" else 3)
    assert table.main.kind == "quality"


def test_units_and_names() -> None:
    assert [(m.name, m.unit) for m in load_table("seg").metrics] == [
        ("mIoU", "%"),
        ("mAcc", "%"),
        ("aAcc", "%"),
        ("flops", "GMAC"),
        ("params", "M"),
    ]
    names = {task: load_table(f"transnas-micro/{task}").main.name for task in TRANSNAS_TASKS}
    assert names == {
        "class_scene": "top1",
        "class_object": "top1",
        "room_layout": "l2_loss",
        "jigsaw": "top1",
        "segmentsemantic": "pixel_accuracy",
        "normal": "ssim",
        "autoencoder": "ssim",
    }


@pytest.mark.parametrize("task", MR_TASKS)
def test_costs_do_not_depend_on_the_task(task: str) -> None:
    seg, other = load_arrays("seg"), load_arrays(f"nas-bench-mr/{task}")
    np.testing.assert_array_equal(seg.codes, other.codes)
    np.testing.assert_array_equal(seg.column("flops"), other.column("flops"))
    np.testing.assert_array_equal(seg.column("params"), other.column("params"))


def test_published_code_strings_are_the_rows(mirror: Path) -> None:
    listed = set((mirror / "ncp" / "search_list.txt").read_text().split())
    space = get_space("nas-bench-mr")
    assert set(space.to_strings(load_arrays("seg").codes)) <= listed


def test_joint_table() -> None:
    joint = load_table("nas-bench-mr")
    assert len(joint.metrics) == 3 + 3 + 6 * 2 + 2
    assert [m.name for m in joint.metrics if m.kind == "cost"] == ["flops", "params"]
    assert joint.main.name == "seg/mIoU"
    assert joint.metric("video-p/top1").task == "video-p"
    for task in MR_TASKS:
        table = load_table(task)
        rows = table.rows(joint.codes)
        for metric in table.metrics:
            name = metric.name if metric.kind == "cost" else f"{task}/{metric.name}"
            np.testing.assert_array_equal(joint.column(name), table.column(metric.name)[rows])
    assert len(joint.hashes) == 8


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("cifar10", 91.57),
        ("cifar100", 73.26),
        ("imagenet16-120", 47.333),
    ],
)
def test_the_optimum_of_nas_bench_201_is_unique(name: str, best: float) -> None:
    values = np.sort(load_arrays(f"nas-bench-201/{name}").values[:, 0])
    assert values[-1] == pytest.approx(best, abs=1e-3)
    assert values[-1] > values[-2]


def test_splits_are_labelled_truly() -> None:
    """CIFAR-10 has 10000 test images, and 25000 validation images; ImageNet has 50 validation images per class."""
    for recipe in map(RECIPES.__getitem__, PUBLISHED):
        splits = {metric.split for metric in recipe.metrics if metric.kind == "quality"}
        assert splits == {"test" if recipe.space == "nas-bench-201" else "validation"}
    for name, images in (
        ("nas-bench-201/cifar10", 10000),
        ("nas-bench-mr/cls-50-1000", 2500),
        ("nas-bench-mr/cls-50-100", 2500),
        ("nas-bench-mr/cls-10c", 2500),
        ("nas-bench-mr/cls-10-1000", 500),
    ):
        right = load_arrays(name).values[:, 0] / 100 * images
        np.testing.assert_allclose(right, np.round(right), atol=2e-3)


def test_two_publishers_of_one_metric_agree_on_the_architectures() -> None:
    """Wrong orders of operations or edges would leave little of this correlation."""
    naslib, ncp = load_arrays("nas-bench-201/imagenet16-120"), load_arrays("nas-bench-201/imagenet16-120-ncp")
    np.testing.assert_array_equal(naslib.codes, ncp.codes)
    one, two = naslib.column("top1"), ncp.column("top1")
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(0.996, abs=5e-4)
    assert int((np.abs(one - two) < 1e-6).sum()) == 7890


def test_parameters_are_the_sum_over_the_operations() -> None:
    """Only convolutions have any. 150 rows of the published file have the costs of another cell (see docs/data.md)."""
    table = load_arrays("nas-bench-201/imagenet16-120-ncp")
    ones, threes = (table.codes == 2).sum(axis=1), (table.codes == 3).sum(axis=1)
    expected = 0.079 + 0.028 * ones + 0.243 * threes
    assert int((np.abs(table.column("params") - expected) < 1e-3).sum()) == 15625 - 150


def test_tasks_of_one_benchmark_share_row_numbers() -> None:
    for variant in ("transnas-micro", "transnas-macro"):
        first = load_arrays(f"{variant}/jigsaw").codes
        for task in TRANSNAS_TASKS:
            np.testing.assert_array_equal(load_arrays(f"{variant}/{task}").codes, first)
    every = get_space("transnas-macro").all_codes()
    np.testing.assert_array_equal(load_arrays("transnas-macro/jigsaw").codes, every)
