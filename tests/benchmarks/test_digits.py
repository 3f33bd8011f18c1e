"""The benchmark that ships: its tables, its file, and files that are not it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import checks, cost_model, get_space, list_tables, load_table
from ncp_jax.benchmarks import digits, list_files, load_arrays
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS, SHIPPED
from ncp_jax.benchmarks.sources import select_sources
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.spaces.costs.digits import METRICS

MICRO = get_space("transnas-micro")


@pytest.mark.parametrize("task", DIGITS_TASKS)
def test_a_table_without_any_download(task: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)
    arrays = load_arrays(f"digits/{task}")
    assert (len(arrays.codes), arrays.space) == (4096, "transnas-micro")
    assert [(m.split, m.epoch) for m in arrays.metrics[:6]] == [
        (split, epoch) for epoch in ("final", "best") for split in ("validation", "train", "test")
    ]
    assert {m.name for m in arrays.metrics[:6]} < METRICS
    assert [m.name for m in arrays.metrics[6:]] == ["flops", "params", "seconds"]
    assert all(m.direction == ("maximize" if m.kind == "quality" else "minimize") for m in arrays.metrics)
    name = arrays.metrics[0].name
    assert (arrays.column(f"best_{name}") >= arrays.column(name)).all()
    # Codes of one network have one value; costs are those of the code itself.
    classes = np.asarray(MICRO.networks(arrays.codes))
    for column in arrays.values[:, :6].T:
        np.testing.assert_array_equal(column, column[np.unique(classes, return_index=True)[1]][classes])
    model = cost_model(MICRO, f"digits/{task}")
    assert model is not None
    np.testing.assert_array_equal(arrays.column("flops"), model.in_units(arrays.codes)["flops"])
    assert not list(empty_cache.glob("**/*")), "nothing is downloaded or converted"


def test_tables_are_listed_joined_and_need_no_fetching() -> None:
    assert set(SHIPPED) < set(list_tables())
    joint = load_table("digits")
    assert {"class/accuracy", "edges/r2", "class/test_accuracy"} < {m.name for m in joint.metrics}
    assert [m.name for m in joint.metrics if m.kind == "cost"] == ["flops", "params"]
    assert [row.state for row in list_files() if row.name in SHIPPED] == ["shipped"] * 5
    assert select_sources(["digits/class", "digits"]) == ()


def test_a_search_cannot_see_the_test_split() -> None:
    with pytest.raises(checks.UsageError, match="test split"):
        QueryView.of(load_table("digits/class"), metric="test_accuracy", budget=5)


def test_the_file_says_how_it_was_made_and_is_small() -> None:
    made = digits.read_digits()
    assert digits.digits_path().stat().st_size < 2e6
    assert made.codes.shape == (1948, 6)
    assert np.isfinite(made.final[:, 0]).all()
    assert (np.isfinite(made.final[:, 1, :, 1]).sum(axis=1) >= 500).all()
    assert {"settings", "images", "versions", "device", "date"} <= set(made.card)
    np.testing.assert_array_equal(made.codes, MICRO.canonical(made.codes))


def test_written_and_read_again(tmp_path: Path) -> None:
    made = digits.read_digits()
    path = digits.write_digits(tmp_path / "digits.npz", made)
    again = digits.read_digits(path)
    for field in dataclasses.fields(made):
        one, other = getattr(made, field.name), getattr(again, field.name)
        assert one == other if field.name == "card" else np.array_equal(one, other, equal_nan=True)


def test_what_nobody_trained_or_diverged_is_left_out() -> None:
    made = digits.read_digits()
    final = made.final.copy()
    final[0, 0, 5] = np.nan
    arrays = digits.digits_arrays("class", dataclasses.replace(made, final=final))
    missing = np.asarray(MICRO.canonical(load_arrays("digits/class").codes))
    assert len(arrays.codes) == 4096 - (missing == made.codes[5]).all(axis=1).sum()
    assert len(digits.digits_arrays("edges", dataclasses.replace(made, final=final)).codes) == 4096


def test_files_that_are_not_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make_benchmark"):
        digits.read_digits(tmp_path / "none.npz")
    content = digits.digits_path().read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", header=np.frombuffer(b'{"format": "x"}', np.uint8))
    for name in ("cut", "text", "other"):
        with pytest.raises(checks.DataError, match=r"expected a file of format ncp-jax digits 1 at .*, got something"):
            digits.read_digits(tmp_path / f"{name}.npz")


def test_an_unknown_task() -> None:
    with pytest.raises(checks.UsageError, match="digits/jigsaw"):
        load_table("digits/jigsow")
