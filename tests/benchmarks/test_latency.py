"""Measured latencies: the real files, read once more here; made ones that are damaged; readings that are broken."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import UsageError, get_space, load_table
from ncp_jax.benchmarks.catalogue import RECIPES
from ncp_jax.benchmarks.fetch import fetch_tables
from ncp_jax.benchmarks.latency import broken_readings, load_readings, read_readings
from ncp_jax.checks import DataError, MissingError
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.positions import Position
from ncp_jax.spaces.registry import register_description

pytestmark = pytest.mark.usefixtures("spaces_stay")  # the space of FBNet is registered where it is named

RASPI4 = "nas-bench-201-latency/raspi4"
FEW = dataclasses.replace(RECIPES[RASPI4], rows=3)
CELLS = (
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
)


def container(value: Any, name: str = "archive/data.pkl") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, pickle.dumps(value, protocol=2))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def plain(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return pickle.loads(archive.read("archive/data.pkl"))


@pytest.mark.parametrize("family", ["nas-bench-201-latency", "fbnet-latency"])
def test_every_value_is_upstreams(family: str, mirror: Path) -> None:
    recipe = RECIPES[f"{family}/raspi4"]
    values, order = plain(mirror / recipe.file), plain(mirror / recipe.order)
    readings, table = load_readings(recipe.name), load_table(recipe.name)
    space = get_space(readings.space)
    if isinstance(order, dict):
        wanted = [values[order[text]] for text in space.to_strings(readings.codes)]
    else:
        places = {tuple(code): place for place, code in enumerate(order)}
        wanted = [values[places[tuple(code)]] for code in readings.codes.tolist()]
    np.testing.assert_array_equal(readings.milliseconds, wanted)
    assert len(table) == recipe.rows - readings.broken.sum()
    (metric,) = table.metrics
    assert (metric.task, metric.unit, metric.direction) == ("raspi4", "ms", "minimize")


def test_broken_readings_are_those_of_cells_that_pass_nothing_on(mirror: Path) -> None:
    for device, count in (("raspi4", 289), ("1080ti_1", 0)):
        readings = load_readings(f"nas-bench-201-latency/{device}")
        assert readings.broken.sum() == count
        if count:
            # The fastest that is kept and the slowest that is not are far apart.
            kept = readings.milliseconds[~readings.broken].min()
            assert readings.milliseconds[readings.broken].max() < 0.85 * kept


def test_which_readings_are_broken() -> None:
    codes = np.stack([get_space("nas-bench-201").from_string(text) for text in CELLS])
    for readings, broken in [
        ([5.0, 0.01, 7.0], [False, True, False]),
        ([5.0, 4.9, 7.0], [False, False, False]),
        ([0.0, 4.9, np.nan], [True, False, True]),
        ([5.0, -1.0, 0.02], [False, True, False]),
    ]:
        assert broken_readings("nas-bench-201", codes, np.array(readings)).tolist() == broken
    assert broken_readings("fbnet", np.zeros((2, 22), int), np.array([0.0, 1e-3])).tolist() == [True, False]


def test_files_that_are_none(mirror: Path) -> None:
    order = container({text: place for place, text in enumerate(CELLS)})
    good = container([1.0, np.float64(2.0), 3])
    assert read_readings(FEW, good, order).milliseconds.tolist() == [2.0, 3.0, 1.0]  # in the order of the codes
    for content, second, words in [
        (b"nothing", order, "a file of torch.save"),
        (good[:-30], order, "a damaged zip archive"),
        (container([1.0], "archive/other.pkl"), order, "without data.pkl"),
        (container({"a": 1.0}), order, "a list of numbers .* got dict"),
        (container([1.0, "2", 3.0]), order, "a list of numbers"),
        (container([1.0, 2.0]), order, "latencies of 3 architectures .* got 2 of 3"),
        (container([1.0, 2.0, print]), order, "plain data .* got the name '__builtin__.print'"),
        (good, container({CELLS[0]: 0, CELLS[1]: 1, CELLS[2]: 1}), "places 0, 1, 2, ... of the architectures"),
        (good, container({"none": 0, CELLS[1]: 1, CELLS[2]: 2}), "architectures of nas-bench-201"),
        (good, container([[9] * 6] * 3), "architectures of nas-bench-201"),
        (good, container([[0] * 6] * 3), "different architectures"),
        (good, container(["x", [1]]), "architectures of nas-bench-201"),
    ]:
        with pytest.raises(DataError, match=words):
            read_readings(FEW, content, second)
    with pytest.raises(DataError, match=r"objects of at most 0\.067\d* GB in \S+raspi4\.pt, got more"):
        read_readings(FEW, container([f"{number:030}" for number in range(1_000_000)]), order)
    with pytest.raises(UsageError, match="a table of latencies, got 'seg'"):
        load_readings("seg")


def test_a_mirror_with_some_devices_gives_those(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["fbnet-latency/fpga"]
    for key in (recipe.file, recipe.order):
        (tmp_path / "mirror" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / key).write_bytes((mirror / key).read_bytes())
    monkeypatch.setenv("NCP_JAX_DATA", str(tmp_path / "data"))
    with pytest.raises(MissingError, match=r"26 of 28 files are missing; the others are here"):
        fetch_tables(["fbnet-latency"], mirror=tmp_path / "mirror", progress=False)
    assert (tmp_path / "data" / "tables" / "fbnet-latency" / "fpga.npz").is_file()
    done = fetch_tables(["fbnet-latency/fpga"], mirror=tmp_path / "mirror", progress=False)
    assert {fetched.action for fetched in done} == {"present"}


def test_fbnet_is_a_described_space_that_ships() -> None:
    space = get_space("FBNet")
    assert (space.length, space.features, space.size) == (22, 22 * 9, 9**22)
    code = space.check([list(range(9)) * 2 + [8] * 4])[0]
    assert space.to_string(code).startswith("layer1=k3_e1 layer2=k3_e1_g2 ")
    np.testing.assert_array_equal(space.from_string(space.to_string(code)), code)
    with pytest.raises(UsageError, match="a name that no other space has, got fbnet"):
        register_description(SpaceDescription("fbnet", (Position("depth", values=(1, 2)),)))
