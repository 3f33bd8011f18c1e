"""Successive halving and ASHA on learning curves: by hand, within their budget, and better than chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax import checks, get_space, import_tables, load_table
from ncp_jax.searchers.halving import HalvingConfig, _scored, search_curves
from ncp_jax.searchers.partial_curves import Starts
from ncp_jax.searchers.rungs import Steps, halve, promote, rung_epochs

from ..benchmarks.official_files import transnas
from ..benchmarks.torch_containers import archive


def run_halving(values: np.ndarray, order: np.ndarray, rungs: tuple[int, ...], config: HalvingConfig) -> Steps:
    return halve(lambda row, p: values[row, :p], order, rungs, budget=config.epochs, factor=config.factor)


def run_asha(
    values: np.ndarray, order: np.ndarray, rungs: tuple[int, ...], config: HalvingConfig, starts: Starts | None = None
) -> Steps:
    spend = {"budget": config.epochs, "factor": config.factor}
    return promote(lambda row, p: values[row, :p], order, rungs, **spend, starts=starts)


SPEND = {"asha": run_asha, "halving": run_halving}


def test_halving_by_hand() -> None:
    # Nine architectures, rungs after 1, 3 and 9 epochs: 9·1 + 3·2 + 1·6 = 21 epochs.
    values = np.repeat(np.arange(9.0)[:, None], 9, axis=1)
    config = HalvingConfig(epochs=21, method="halving")
    rungs = rung_epochs(config.least, config.factor, 9)
    assert rungs == (1, 3, 9)
    steps = run_halving(values, np.arange(9), rungs, config)
    assert steps == [*((row, 1) for row in range(9)), (8, 3), (7, 3), (6, 3), (8, 9)]
    assert _scored(steps, values, 1.0).spent == 21
    fewer = run_halving(values, np.arange(9), rungs, HalvingConfig(epochs=20, method="halving"))
    assert fewer == [*((row, 1) for row in range(8)), (7, 3), (6, 3)]
    assert HalvingConfig(epochs=21, method="ASHA") == HalvingConfig(epochs=21, method="asha")


def test_asha_by_hand() -> None:
    # The best of three is trained further as soon as three are there; values are the rows.
    values = np.repeat(np.array([0.0, 2.0, 1.0, 5.0, 3.0, 4.0])[:, None], 3, axis=1)
    config = HalvingConfig(epochs=100)
    steps = run_asha(values, np.arange(6), rung_epochs(config.least, config.factor, 3), config)
    assert steps == [(0, 1), (1, 1), (2, 1), (1, 3), (3, 1), (3, 3), (4, 1), (5, 1), (5, 3)]
    cut = run_asha(values, np.arange(6), rung_epochs(config.least, config.factor, 3), HalvingConfig(epochs=6))
    assert cut == steps[:5]


def leader(steps: list[tuple[int, int]], values: np.ndarray, budget: int) -> int:
    """The architecture to return after some epochs: of those trained longest, the best; failed ones come last."""
    reached: dict[int, int] = {}
    known: list[tuple[bool, int, float, int]] = []
    for place, (row, count) in enumerate(steps):
        budget -= count - reached.get(row, 0)
        if budget < 0:
            break
        reached[row] = count
        value = float(values[row, count - 1])
        known.append((bool(np.isfinite(value)), count, value, -place))
    return steps[-max(known)[3]][0]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    epochs=st.integers(1, 300),
    factor=st.integers(2, 4),
    method=st.sampled_from(["asha", "halving"]),
)
def test_the_budget_holds_and_a_rung_passes_on_its_best(seed: int, epochs: int, factor: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(20, 10))
    values[rng.random(20) < 0.2, 4:] = -np.inf
    config = HalvingConfig(epochs=epochs, method=method, factor=factor)
    rungs = rung_epochs(config.least, config.factor, 10)
    order = rng.permutation(20)
    steps = SPEND[method](values, order, rungs, config)
    run = _scored(steps, values, 1.0)
    assert run.spent <= epochs
    reached: dict[int, int] = {}
    for place, (row, count) in enumerate(steps):
        before = reached.get(row, 0)
        assert count == rungs[rungs.index(before) + 1 if before else 0], "no epoch is left out, none paid twice"
        assert before == 0 or np.isfinite(values[row, before - 1]), "failed trainings end"
        if before:
            rung = [other for other, at in steps[:place] if at == before]
            better = sum(values[other, before - 1] > values[row, before - 1] for other in rung)
            assert better < len(rung) // factor
        reached[row] = count
    for spent, row in zip(run.at, run.found, strict=True):
        assert row == leader(steps, values, int(spent))
    assert run.chosen == run.found[-1]
    # What was not paid for does not matter.
    hidden = values.copy()
    for row in range(20):
        hidden[row, reached.get(row, 0) :] = 99.0
    assert SPEND[method](hidden, order, rungs, config) == steps
    assert _scored(steps, hidden, 1.0).chosen == run.chosen


def test_search_on_an_imported_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCP_JAX_DATA", str(tmp_path / "cache"))
    content = transnas(micro=81, macro=0, epochs=9)
    rng = np.random.default_rng(1)
    for tasks in content["data"]["micro"].values():
        level = rng.random()
        tasks["jigsaw"]["metrics"]["valid_loss"] = (level + 0.05 * rng.normal(size=9)).tolist()
    path = tmp_path / "file.pth"
    path.write_bytes(archive(content))
    import_tables("transnas", path, name="curves", notify=lambda _: None)
    for method in ("asha", "halving"):
        config = HalvingConfig(epochs=90, method=method, runs=20)
        found = search_curves("curves-micro/jigsaw", "valid_loss", config)
        # Ten whole trainings of 81 at random have rank 82 / 11 on average.
        assert np.mean([run.rank for run in found.runs]) < 6
        assert all(run.spent <= 90 and run.regret >= 0 for run in found.runs)
        written = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert (written["schema"], written["rungs"], len(written["runs"])) == ("halving/1", [1, 3, 9], 20)
        again = search_curves("curves-micro/jigsaw", "valid_loss", config)
        assert [run.rows.tolist() for run in again.runs] == [run.rows.tolist() for run in found.runs]
    with pytest.raises(checks.UsageError, match="got test_loss of the test split"):
        search_curves("curves-micro/jigsaw", "test_loss", HalvingConfig(epochs=90))
    with pytest.raises(checks.UsageError, match=r"expected least to be an integer in 1\.\.9, got 10"):
        search_curves("curves-micro/jigsaw", "valid_loss", HalvingConfig(epochs=90, least=10))
    with pytest.raises(checks.UsageError, match="expected epochs to be an integer 1 or more, got 0"):
        HalvingConfig(epochs=0)


def test_predictions_choose_what_is_begun() -> None:
    """The final value is nearly the sum of the letters: better ones are found in the same epochs."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (200, 6))
    final = codes.sum(axis=1) + 0.1 * rng.random(200)
    values = final[:, None] - np.arange(8, -1, -1) * rng.random(200)[:, None]
    rungs = rung_epochs(1, 3, 9)
    ranks = {False: [], True: []}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        for predict in ranks:
            starts = Starts("transnas-micro", codes, 9) if predict else None
            steps = run_asha(values, order, rungs, HalvingConfig(epochs=300, predict=predict), starts)
            run = _scored(steps, values, 1.0)
            assert run.spent <= 300
            ranks[predict].append(run.rank)
    assert np.mean(ranks[True]) < np.mean(ranks[False]) / 2
    # What was not paid for does not matter here either.
    hidden, reached = values.copy(), dict(steps)
    for row in range(200):
        hidden[row, reached.get(row, 0) :] = np.nan
    config = HalvingConfig(epochs=300, predict=True)
    assert run_asha(hidden, order, rungs, config, Starts("transnas-micro", codes, 9)) == steps


def test_search_on_the_shipped_benchmark() -> None:
    found = search_curves("digits/class", "accuracy", HalvingConfig(epochs=320, predict=True, runs=4))
    table = load_table("digits/class")
    assert found.rungs == (1, 3, 9, 16)
    values = table.measured("accuracy")
    for run, string in zip(found.runs, found.strings, strict=True):
        final = values[int(table.rows(get_space("transnas-micro").from_string(string)))]
        assert run.rank == 1 + int((values > final).sum())
        assert run.regret == pytest.approx(values.max() - final)
        assert run.spent <= 320
        assert (run.at[-1] <= run.spent, run.ranks[-1], run.found[-1]) == (True, run.rank, run.chosen)
    with pytest.raises(checks.UsageError, match="got test_accuracy; choose accuracy"):
        search_curves("digits/class", "test_accuracy", HalvingConfig(epochs=320))
    with pytest.raises(checks.UsageError, match="did you mean: digits/class"):
        search_curves("digits/clas", "accuracy", HalvingConfig(epochs=320))
    with pytest.raises(checks.UsageError, match="predict with the method asha, got halving"):
        HalvingConfig(epochs=320, method="halving", predict=True)
