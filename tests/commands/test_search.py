"""A search from the command line: limits, fronts, whose FLOPs, what is measured, and figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import FoldedMLP, HeldOutError, Predictor, Table, cost_model, get_space, load_table, search
from ncp_jax.auditing import families, proposals
from ncp_jax.checks import MissingError, UsageError
from ncp_jax.commands import predictor_choice
from ncp_jax.commands import search_figure as figures
from ncp_jax.predictors import Standardisation

Run = Callable[..., tuple[int, str, str]]
SMALL = {"codes": 64, "steps": 3}
MICRO = get_space("transnas-micro")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Axes of the figures that are saved."""
    axes: list[Any] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: axes.append(figure.axes[0]) or path)
    return axes


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is predicted by one random linear map, whose error is known."""

    def fit(table: Table, **_: Any) -> Predictor:
        rng, values = np.random.default_rng(0), np.asarray(table.values)
        scale = Standardisation(jnp.zeros(24), jnp.ones(24), jnp.asarray(values.mean(0)), jnp.asarray(values.std(0)))
        params = {"w": (jnp.asarray(rng.normal(size=(1, 24, len(table.metrics))), jnp.float32),)}
        params |= {"b": (jnp.zeros((1, len(table.metrics))),)}
        return Predictor(params, scale, FoldedMLP(), table.metrics, table.space)

    errors = {"accuracy": HeldOutError(2.5, 9, 2.5, tuple(np.linspace(-1, 1, 9).tolist()))}
    monkeypatch.setattr("ncp_jax.training.fit", fit)
    monkeypatch.setattr("ncp_jax.training.with_chosen_decay", lambda table, rows, recipe, **_: recipe)
    monkeypatch.setattr("ncp_jax.training.held_out_errors", lambda *_, **__: errors)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    table = load_table("digits/class")
    accuracy, latency = table.measured("accuracy")[:300], np.arange(300) % 7 + 1
    rows = zip(MICRO.to_strings(np.asarray(table.codes)[:300]), accuracy, latency, strict=True)
    (tmp_path / "mine.csv").write_text(
        "architecture,accuracy,latency\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    )
    return tmp_path / "mine.csv"


def test_limits_a_front_and_the_tasks_network(command: Run, tmp_path: Path, drawn: list[Any]) -> None:
    options = ("--pareto", "--limit", "params<8e6", "--limit", "mIoU>=60", "--flops-of", "task")
    status, text, err = command("search", "--codes", 64, "--steps", 3, *options, "--out", tmp_path)
    assert status == 0, err
    result = json.loads((tmp_path / "result.json").read_text())
    model, words = cost_model("nas-bench-mr", "seg", of="task"), "the network of seg: 19 classes, image 512×512"
    assert result["counted"] == words
    assert f"GFLOPs and params of {words}" in text
    assert f"params < 8000000 (exact; {words})" in text
    assert "mIoU >= 60 % (predicted: with 90 % confidence by held-out errors)" in text
    assert [row["exact"] for row in result["limits"]] == [True, False]
    front = result["pareto"]["architectures"]
    counts = model.exact(np.array([row["code"] for row in front + result["top"]]))
    assert (counts["params"] < 8e6).all()
    np.testing.assert_array_equal([row["gflops"] for row in front + result["top"]], counts["flops"] / 1e9)
    points = [(row["predicted"]["mIoU"], -row["gflops"]) for row in front]
    assert not any(a != b and a[0] >= b[0] and a[1] >= b[1] for a in points for b in points)
    assert points == sorted(points, reverse=True)
    assert result["pareto"]["hypervolume"] > 0
    assert set(result["pareto"]["reference"]) == {"mIoU", "flops"}
    assert f"Pareto front of {len(front)} architectures; hypervolume" in text
    assert (tmp_path / "front.csv").read_text().count("\n") == len(front) + 1
    (axes,) = drawn
    assert axes.get_xlabel() == f"GFLOPs (lower is better)\nof {words}"
    assert axes.get_ylabel() == "mIoU [%] (higher is better)"
    assert axes.get_xscale() == "log"
    labels = axes.get_legend_handles_labels()[1]
    assert "Pareto front" in labels
    assert "limit: mIoU >= 60, 90 % sure" in labels


def test_the_spread_is_not_the_error() -> None:
    text = str(search(**SMALL))
    assert "which understates the error. Root mean squared error on 2507 rows held out" in text
    assert "of the table's classifier, whatever the task: 50 classes, image 128×128" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": "mean"}, "expected --table FILE with --seeds"),
        ({"preferences": 8}, "expected --pareto with --preferences"),
        ({"limit_confidence": 0.9}, "expected --limit with --limit-confidence, got no limit"),
        (
            {"limit_confidence": 0.9, "max_gflops": 1.0},
            "a limit on a predicted metric with --limit-confidence",
        ),
        ({"members": 2}, "expected --retrain with --members, got the predictor that ships"),
        ({"limit": ("params",)}, "expected a limit as METRIC<=NUMBER"),
        ({"limit": ("latency<=3",)}, "expected a known metric or cost to limit, got 'latency'"),
        ({"limit": ("params<=10",)}, ""),
        ({"limit": ("params<=1e3",)}, "expected a limit on params >= "),
        ({"limit": ("params<=1e6", "gflops>=5")}, "got none found"),
        ({"limit": ("mIoU>=70",), "limit_confidence": 1.0}, "expected a confidence above 0 and below 1"),
        (
            {"limit": ("mIoU>=70",), "limit_confidence": 0.99999},
            "a confidence of at most 1 with 2507 held-out",
        ),
        ({"flops_of": "seg"}, "expected a known value of --flops-of, got 'seg'; choose from: table, task"),
        ({"flops_of": "task", "task": "nas-bench-mr"}, "expected one task of nas-bench-mr whose own network is known"),
        ({"pareto": True, "maximize": ("mIoU",)}, "two metrics or more"),
    ],
)
def test_what_is_wrong_or_would_be_ignored(settings: dict[str, Any], words: str) -> None:
    if not words:
        assert (search(**SMALL, **settings).found.costs["params"] <= 10).all()
        return
    with pytest.raises(UsageError, match=words):
        search(**SMALL, **settings)


@pytest.mark.usefixtures("untrained")
def test_a_file_is_no_task(mine: Path) -> None:
    """Costs are those of the space's first task whatever the file is called, or of the task that is named."""
    settings = {**SMALL, "space": "transnas-micro", "maximize": ("accuracy",), "max_gflops": 0.3}
    model = cost_model("transnas-micro")
    results = []
    for name in ("mine.csv", "class.csv", "jigsaw.csv"):
        mine.rename(mine.with_name(name))
        mine = mine.with_name(name)
        results.append(search(table=mine, **settings))
        assert (model.exact(results[-1].found.codes)["flops"] <= 0.3e9).all()
        np.testing.assert_array_equal(results[-1].found.codes, results[0].found.codes)
        np.testing.assert_array_equal(results[-1].found.costs["flops"], results[0].found.costs["flops"])
    small = search(table=mine, task="digits/class", **{**settings, "max_gflops": 1.2e-5})
    assert small.found.counted == "the network of digits/class: image 8×8"
    assert (cost_model("transnas-micro", "digits/class").exact(small.found.codes)["flops"] <= 1.2e4).all()
    with pytest.raises(UsageError, match=r"GFLOPs limit >= 0.09182, the space's smallest, .* class_scene"):
        search(table=mine, **{**settings, "max_gflops": 1.2e-5})
    with pytest.raises(UsageError, match="no --retrain with --table"):
        search(table=mine, retrain=True, **settings)


@pytest.mark.usefixtures("untrained")
def test_what_is_measured_stands_beside_what_is_predicted(mine: Path, tmp_path: Path, drawn: list[Any]) -> None:
    result = search(
        table=mine, space="transnas-micro", maximize=("accuracy",), minimize=("flops",), limit=("latency<=4",), **SMALL
    )
    table, found = result.table, result.found
    assert [m.name for m in table.metrics] == ["accuracy", "latency"], "a column with a limit alone is read"
    # The space is small: all of it within the limit is ranked.
    codes = MICRO.all_codes()
    predicted = np.asarray(result.predictor(MICRO.encode(codes))[0])
    micro = cost_model("transnas-micro").in_units(codes)["flops"]
    standard = np.stack([predicted[:, 0], micro], axis=1) - np.asarray(result.predictor.scale.y_mean)[[0, 2]]
    sought = (standard / np.asarray(result.predictor.scale.y_std)[[0, 2]]) @ [1.0, -1.0]
    assert found.score[0] == pytest.approx(sought[predicted[:, 1] <= 4].max(), rel=1e-5)
    accuracy = table.measured("accuracy")
    scale = np.asarray(result.predictor.scale.y_std), np.asarray(result.predictor.scale.y_mean)
    exact = cost_model("transnas-micro").in_units(np.asarray(table.codes))["flops"]
    scores = (accuracy - scale[1][0]) / scale[0][0] - (exact - scale[1][2]) / scale[0][2]
    within = table.measured("latency") <= 4
    best = result.to_json()["best_measured"]
    row = int(np.flatnonzero(within)[scores[within].argmax()])
    assert best["code"] == np.asarray(table.codes)[row].tolist()
    assert best["measured"]["accuracy"] == accuracy[row]
    assert best["rank"] == 1 + (scores > scores[row]).sum()
    assert best["score"] == pytest.approx(scores[row], rel=1e-5)
    shown = result.to_json()["top"]
    known = [i for i, code in enumerate(found.codes[:10]) if int(table.rows(code)) >= 0]
    assert [i for i, row in enumerate(shown) if "measured" in row] == known
    assert result.to_json()["held_out"] == {"accuracy": {"rmse": 2.5, "rows": 9}}
    assert f"Best of 300 measured: accuracy {accuracy[row]:.4g}" in str(result)
    result.write(tmp_path / "out")
    (axes,) = drawn
    assert axes.get_ylabel() == "accuracy (higher is better)"
    assert axes.get_xlabel() == "GFLOPs (lower is better)\nof the network of class_scene: 63 classes, image 256×256"
    measured = next(c for c in axes.collections if c.get_label() == "table (measured)")
    np.testing.assert_allclose(measured.get_offsets(), np.stack([exact, accuracy], axis=1))


@pytest.mark.usefixtures("untrained", "drawn")
def test_what_is_shown_is_audited(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A second Gaussian process takes the place of the networks, which tests/auditing covers.
    monkeypatch.setattr(proposals, "network_predictions", lambda data, **_: families.process_predictions(data, 1))
    settings = {"space": "transnas-micro", "maximize": ("accuracy",), "minimize": ("flops",), "pareto": True}
    result = search(table=mine, audit=True, **SMALL, **settings)
    result.write(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["audit"]["families"] == ["trees", "gaussian process", "networks"]
    assert set(written["audit"]["calibration"]) == {"accuracy"}  # FLOPs are known
    known = {code.tobytes(): row for row, code in enumerate(np.asarray(load_table("digits/class").codes)[:300])}
    for row in [*written["top"], *written["pareto"]["architectures"]]:
        found = row["audit"]["metrics"]["accuracy"]
        assert found["low"] < found["high"]
        place = known.get(np.array(row["code"], np.int32).tobytes())
        assert (row["audit"]["nearest"]["distance"] == 0) == (place is not None)
        assert place in (None, row["audit"]["nearest"]["row"])
    text = str(result)
    assert "accuracy audited, 90 %  differs in (of 6)  architecture" in text
    assert "accuracy: intervals of 90 % contain " in text
    shown = result.audit.metrics[0].take(result.audit.places(result.found.top(10).codes))
    own = result.found.top(10).mean[:, 0]
    within = int(((shown.low <= own) & (own <= shown.high)).sum())
    assert f"The search predicts accuracy within the interval for {within} of the 10 first" in text
    assert (result.write(tmp_path)[0]).read_text().splitlines()[0].endswith("score")  # codes.csv is as it was


@pytest.mark.usefixtures("untrained")
def test_what_cannot_be_audited_is_refused_before_the_search(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncp_jax.propagation.propagate", None)
    settings = {"table": mine, "space": "transnas-micro", "audit": True}
    with pytest.raises(UsageError, match=r"a predicted metric of mine among those sought, for --audit, got flops"):
        search(**settings, minimize=("flops",), limit=("accuracy>=1",))
    mine.write_text("".join(mine.read_text().splitlines(keepends=True)[:31]))
    monkeypatch.setattr("ncp_jax.training.with_chosen_decay", None)
    with pytest.raises(UsageError, match=r"at least 38 measured architectures .* got 30 in mine; measure more"):
        search(**settings, maximize=("accuracy",))
    monkeypatch.setattr(predictor_choice, "_fetched_table", lambda name: None)
    with pytest.raises(
        MissingError, match="table for --audit, got none here; run: ncp-jax data fetch nas-bench-mr/seg"
    ):
        search(task="seg", audit=True)
