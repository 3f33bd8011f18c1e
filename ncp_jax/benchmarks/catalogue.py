"""Describes the tables: the upstream file of each, that file's layout, and the columns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal

from ncp_jax import checks
from ncp_jax.benchmarks.imported import imported_names
from ncp_jax.metrics import MetricSpec

MR_TASKS = ("seg", "seg-4x", "cls-50-1000", "cls-50-100", "cls-10-1000", "cls-10c", "video", "video-p")
TRANSNAS_TASKS = ("class_scene", "class_object", "room_layout", "jigsaw", "segmentsemantic", "normal", "autoencoder")
HELP = "help"  # all latencies; by name alone, since few searches need them
LATENCY = {"nas-bench-201-latency": "nas-bench-201", "fbnet-latency": "fbnet"}
"""Families of measured latencies, and the space of each."""
FAMILIES = ("nas-bench-mr", "nas-bench-201", "transnas-micro", "transnas-macro", *LATENCY)
JOINT = "nas-bench-mr"
DIGITS = "digits"
DIGITS_TASKS = ("class", "rotation", "jigsaw", "autoencoder", "edges")  # the benchmark that ships with the package
SHIPPED = tuple(f"{DIGITS}/{task}" for task in DIGITS_TASKS)

_GPUS = ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp")  # measured at three sizes of the batch
_OTHERS = (
    *("essential_ph_1", "pixel2", "pixel3", "samsung_a50", "samsung_s7"),
    *("eyeriss", "fpga", "gold_6226", "gold_6240", "raspi4", "silver_4114", "silver_4210r"),
)
DEVICES = {
    "nas-bench-201-latency": (*(f"{gpu}_{size}" for gpu in _GPUS for size in (1, 32, 256)), *_OTHERS),
    "fbnet-latency": (*(f"{gpu}_{size}" for gpu in _GPUS for size in (1, 32, 64)), *_OTHERS),
}

Layout = Literal["ncp-multi-resolution", "ncp-cells", "naslib", "latency"]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table, and the upstream field that it is read from.

    Attributes:
      field: name of the upstream field.
      metric: specification of the column.
      factor: 1, or -1 if upstream stores the negated value.
    """

    field: str
    metric: MetricSpec
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The description of one table.

    Attributes:
      name: name of the table ("nas-bench-mr/seg").
      space: name of its space.
      file: key of its upstream file.
      layout: layout of that file; ``convert.py`` has one reader per layout.
      rows: expected number of architectures; 0 where it is not known. A table of latencies lacks those whose reading is
        broken.
      columns: columns of the table.
      members: names of the archive's members to read, for layout "naslib"; no other member is read.
      order: key of the file with the architectures that the numbers of ``file`` belong to, for layout "latency".
      apart: whether the table is used where it is named alone: it holds another's data again, or few have it. Then its
        family's name does not stand for it, nor is it learned together with the others.
    """

    name: str
    space: str
    file: str
    layout: Layout
    rows: int
    columns: tuple[Column, ...]
    members: tuple[str, ...] = ()
    order: str = ""
    apart: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Keys of the upstream files that the table is made from."""
        return (self.file, self.order) if self.order else (self.file,)

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Specifications of the columns."""
        return tuple(column.metric for column in self.columns)


def _quality(task: str, name: str, unit: str, *, minimize: bool = False, split: str = "validation") -> MetricSpec:
    direction: Literal["maximize", "minimize"] = "minimize" if minimize else "maximize"
    return MetricSpec(name, task=task, split=split, epoch="final", unit=unit, direction=direction)


def _cost(name: str, unit: str) -> MetricSpec:
    return MetricSpec(name, unit=unit, direction="minimize", kind="cost")


def _multi_resolution(task: str, measured: tuple[str, ...], *, rows: int = 2507, apart: bool = False) -> Recipe:
    columns = [Column(name, _quality(task, name, "%")) for name in measured]
    columns += [Column("flops", _cost("flops", "GMAC")), Column("params", _cost("params", "M"))]
    return Recipe(
        name=f"nas-bench-mr/{task}",
        space="nas-bench-mr",
        file=f"ncp/{task}/trainval.pkl",
        layout="ncp-multi-resolution",
        rows=rows,
        columns=tuple(columns),
        apart=apart,
    )


def _members(space: str, task: str, rows: int, chunk: int) -> tuple[str, ...]:
    return tuple(f"zen/benchmark--{space}--{task}--{start}.json" for start in range(0, rows, chunk))


def _nas_bench_201(task: str, upstream: str) -> Recipe:
    # The field is called "val_accuracy", but its values are the official test accuracies of single trainings.
    return Recipe(
        name=f"nas-bench-201/{task}",
        space="nas-bench-201",
        file="naslib/nb201_zen.zip",
        layout="naslib",
        rows=15625,
        columns=(Column("val_accuracy", _quality(task, "top1", "%", split="test")),),
        members=_members("nasbench201", upstream, 15625, 250),
    )


def _nas_bench_201_ncp() -> Recipe:
    return Recipe(
        name="nas-bench-201/imagenet16-120-ncp",
        space="nas-bench-201",
        file="ncp/nas-bench-201/trainval.pkl",
        layout="ncp-cells",
        rows=15625,
        columns=(
            Column("Acc", _quality("imagenet16-120", "top1", "%", split="test")),
            Column("Flops", _cost("flops", "M")),
            Column("Params", _cost("params", "M")),
        ),
        apart=True,
    )


def _transnas(variant: str, task: str) -> Recipe:
    rows, chunk, file = {
        "micro": (4096, 1000, "naslib/all_benchmarks_zen.zip"),
        "macro": (3256, 250, "naslib/tnb101_macro_zen.zip"),
    }[variant]
    if task == "room_layout":
        column = Column("val_accuracy", _quality(task, "l2_loss", "1", minimize=True), factor=-1.0)
    elif task in ("normal", "autoencoder"):
        column = Column("val_accuracy", _quality(task, "ssim", "1"))
    else:
        name = "pixel_accuracy" if task == "segmentsemantic" else "top1"
        column = Column("val_accuracy", _quality(task, name, "%"))
    return Recipe(
        name=f"transnas-{variant}/{task}",
        space=f"transnas-{variant}",
        file=file,
        layout="naslib",
        rows=rows,
        columns=(column,),
        members=_members(f"transbench101_{variant}", task, rows, chunk),
    )


def _latency(family: str, device: str) -> Recipe:
    folder, order, rows = {
        "nas-bench-201-latency": ("help/nasbench201", "str_arch2idx.pt", 15625),
        "fbnet-latency": ("help/fbnet", "arch.pt", 5000),
    }[family]
    return Recipe(
        name=f"{family}/{device}",
        space=LATENCY[family],
        file=f"{folder}/latency/{device}.pt",
        layout="latency",
        rows=rows,
        columns=(Column("", MetricSpec("latency", task=device, unit="ms", direction="minimize")),),
        order=f"{folder}/{order}",
    )


def _recipes() -> dict[str, Recipe]:
    segmentation, classes = ("mIoU", "mAcc", "aAcc"), ("top1", "top5")
    found = [_multi_resolution(task, segmentation if task.startswith("seg") else classes) for task in MR_TASKS]
    # Average precision on objects of moderate difficulty. Mirrors may lack the file: see ``apart`` in sources.toml.
    found.append(_multi_resolution("3ddet", ("moderate",), rows=0, apart=True))
    found += [
        _nas_bench_201(task, upstream)
        for task, upstream in (("cifar10", "cifar10"), ("cifar100", "cifar100"), ("imagenet16-120", "ImageNet16-120"))
    ]
    found.append(_nas_bench_201_ncp())
    found += [_transnas(variant, task) for variant in ("micro", "macro") for task in TRANSNAS_TASKS]
    found += [_latency(family, device) for family, devices in DEVICES.items() for device in devices]
    return {recipe.name: recipe for recipe in found}


RECIPES: Mapping[str, Recipe] = _recipes()
PUBLISHED = (JOINT, *RECIPES, DIGITS, *SHIPPED)
"""Names of the tables that are known without a look into the cache."""


@functools.cache
def bare_names() -> Mapping[str, str]:
    """Returns the tasks that only one table has, each with that table ("seg" → "nas-bench-mr/seg")."""
    tables: dict[str, list[str]] = {}
    for name in (*RECIPES, *SHIPPED):
        tables.setdefault(name.split("/", 1)[1], []).append(name)
    return {task: names[0] for task, names in tables.items() if len(names) == 1}


def is_apart(name: str) -> bool:
    """Returns whether a table is used where it is named alone; see ``Recipe``."""
    return name in RECIPES and RECIPES[name].apart


def tables_of_family(family: str) -> tuple[str, ...]:
    """Returns the tables that the name of a family stands for in studies and as sources."""
    return tuple(name for name in list_tables() if name.startswith(f"{family}/") and not is_apart(name))


def list_tables() -> tuple[str, ...]:
    """Returns the names that ``load_table`` accepts, imported ones last, whether or not their data is here."""
    return (*PUBLISHED, *imported_names())


def built_in_names() -> tuple[str, ...]:
    """Returns the names that no imported table may have."""
    return tuple(dict.fromkeys((*FAMILIES, *PUBLISHED, *bare_names())))


def choose_table(name: str) -> str:
    """Returns the full name of a table.

    Args:
      name: the full name, or the task if only one table has it; case does not matter.

    Raises:
      UsageError: the table is unknown; the text lists the nearest names.
    """
    known = {published.lower(): published for published in (*PUBLISHED, *bare_names())}
    chosen = known.get(name.lower()) or checks.choose("table", name, (*list_tables(), *bare_names()))
    return bare_names().get(chosen, chosen)
