"""Learning curves of a loaded table, in its order of rows, and tables that have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import checks, import_tables, load_curves, load_table
from ncp_jax.benchmarks.curves import curves_hash, curves_of, tables_with_curves

from .official_files import transnas
from .torch_containers import archive


@pytest.mark.usefixtures("empty_cache")
def test_curves_of_some_rows(tmp_path: Path) -> None:
    content = transnas(micro=6, macro=0, epochs=4)
    third = list(content["data"]["micro"].values())[2]["jigsaw"]["metrics"]["valid_top1"]
    third[1:] = [float("nan")] * 3
    (tmp_path / "file.pth").write_bytes(archive(content))
    import_tables("transnas", tmp_path / "file.pth", name="some", notify=lambda _: None)
    assert {"some-micro/jigsaw", "digits/class"} <= {*tables_with_curves()}
    table, all_curves = load_table("some-micro/jigsaw"), load_curves("some-micro/jigsaw", "valid_top1")
    with pytest.raises(
        checks.DataError, match=r"expected curves of 4 epochs in valid_top1 .*, got 1 of 6 architectures"
    ):
        curves_of(table, "valid_top1")
    known = table.known(["valid_top1"])
    assert len(known) == 5
    known = known.select([4, 0, 2])
    found = curves_of(known, "valid_top1")
    np.testing.assert_array_equal(found.codes, known.codes)
    np.testing.assert_allclose(found.values[:, -1], known.measured("valid_top1"), rtol=1e-6)
    for code, curve in zip(found.codes, found.values, strict=True):
        (row,) = np.flatnonzero((all_curves.codes == code).all(axis=1))
        np.testing.assert_array_equal(all_curves.values[row], curve)
    assert curves_hash(found) == curves_hash(curves_of(known, "valid_top1"))
    changed = dataclasses.replace(found, values=found.values + np.eye(3, 4))
    assert curves_hash(found) != curves_hash(changed)
    with pytest.raises(
        checks.UsageError, match="expected a column of some-micro/jigsaw with learning curves, got time_"
    ):
        curves_of(known, "time_elapsed")


@pytest.mark.usefixtures("empty_cache")
def test_a_table_without_curves() -> None:
    table = dataclasses.replace(load_table("digits/class"), name="mine")
    wanted = "expected a table with learning curves, got mine, which has none; choose from: digits/class, .*; or import"
    with pytest.raises(checks.UsageError, match=wanted):
        curves_of(table, "accuracy")
