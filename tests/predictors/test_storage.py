from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.predictors import Predictor, load_predictor, load_shipped, save_predictor
from ncp_jax.spaces import get_space

X = np.random.default_rng(5).uniform(1, 128, size=(7, 27)).astype(np.float32)
CARD = {"recipe": "ensemble", "tau": {"a": 0.5}, "words": "größer"}
Make = Callable[..., Predictor]


@pytest.mark.parametrize("log", [False, True])
def test_round_trip_in_float32_is_exact(tmp_path: Path, folded: Make, log: bool) -> None:
    predictor = folded(log=log)
    path = save_predictor(tmp_path / "deep" / "p.npz", predictor, card=CARD)
    loaded, card = load_predictor(path)
    assert card == CARD
    chex.assert_trees_all_equal(loaded, predictor)
    chex.assert_tree_all_finite(loaded)


@pytest.mark.parametrize("log", [False, True])
def test_half_precision_costs_less_than_a_hundredth_of_a_deviation(tmp_path: Path, folded: Make, log: bool) -> None:
    predictor = folded(log=log)
    whole = save_predictor(tmp_path / "whole.npz", predictor)
    half = save_predictor(tmp_path / "half.npz", predictor, half=True)
    loaded, card = load_predictor(half)
    assert card == {}
    assert half.stat().st_size < whole.stat().st_size
    assert all(w.dtype == jnp.float32 for w in loaded.params["w"])
    difference = np.asarray(loaded(jnp.asarray(X))[0] - predictor(jnp.asarray(X))[0])
    assert 0 < np.abs(difference / np.asarray(predictor.scale.y_std)).max() < 1e-2


def test_only_folded_layers_are_saved(tmp_path: Path, folded: Make) -> None:
    predictor = folded(apply=lambda params, x: x[:3])
    with pytest.raises(UsageError, match="expected a predictor of folded layers, got function; fold it before saving"):
        save_predictor(tmp_path / "p.npz", predictor)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a predictor at .*none\.npz, got no such file; .*--retrain"):
        load_predictor(tmp_path / "none.npz")


class Malicious:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def damaged(kind: str, path: Path, folded: Make) -> None:
    """Writes a predictor file that is wrong in one way."""
    save_predictor(path, folded())
    content = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
        return
    if kind == "altered":
        middle = len(content) // 3
        altered = bytes(b ^ 255 for b in content[middle : middle + 40])
        path.write_bytes(content[:middle] + altered + content[middle + 40 :])
        return
    if kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"<html>not found</html>")
        return
    if kind == "objects":
        arrays["w0"] = np.array([Malicious(path.with_name("executed"))], dtype=object)
    elif kind == "format":
        header["format"] = 99
    elif kind == "kind":
        header["apply"]["kind"] = "Transformer"
    elif kind == "metrics":
        header["metrics"].pop()
    elif kind == "no-header":
        del arrays["header"]
    elif kind == "no-weights":
        del arrays["b1"]
    elif kind == "deep":
        arrays["header"] = np.frombuffer(b"[" * 100_000, np.uint8)
    elif kind == "number":
        arrays["w0"] = np.float32(1.0)
    elif kind == "nan":
        arrays["b0"] = np.full_like(arrays["b0"], np.nan)
    elif kind == "chain":
        arrays["w1"] = arrays["w1"][:, :-1]
    elif kind == "spread":
        arrays["y_std"] = arrays["y_std"] * 0
    elif kind == "space":
        header["space"] = "nas-bench-1"
    elif kind == "precision":
        header["apply"]["precision"] = "float31"
    elif kind == "not-json":
        arrays["header"] = np.frombuffer(b"{", np.uint8)
    elif kind == "direction":
        header["metrics"][0]["direction"] = "sideways"
    if kind not in ("no-header", "not-json", "deep"):
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "kind",
    [
        "truncated", "altered", "empty", "text", "objects", "format", "kind", "metrics", "no-header", "no-weights",
        "not-json", "direction", "deep", "number", "nan", "chain", "spread", "space", "precision",
    ],
)  # fmt: skip
def test_wrong_files_are_refused_with_one_message(tmp_path: Path, folded: Make, kind: str) -> None:
    path = tmp_path / "p.npz"
    damaged(kind, path, folded)
    with pytest.raises(DataError, match=r"expected a predictor file of format 1 at .*p\.npz, got something else \(.*"):
        load_predictor(path)
    assert not (tmp_path / "executed").exists()


def test_the_shipped_predictor_knows_its_tasks_and_predicts_sensibly() -> None:
    shipped = load_shipped("nas-bench-mr")
    assert shipped is not None
    predictor, card = shipped
    assert predictor.members >= 2
    assert predictor.space == "nas-bench-mr"
    assert {m.task for m in predictor.metrics if m.kind == "quality"} == set(card["tau"])
    space = get_space(predictor.space)
    mean, spread = predictor(space.encode(space.sample(jax.random.key(0), 16)))
    assert np.isfinite(np.asarray(mean)).all()
    assert (np.asarray(spread) > 0).all()


def test_no_predictor_ships_for_other_families() -> None:
    assert load_shipped("transnas-micro") is None
