"""Making the digits benchmark: chunks, resumption, the files, and that training gives the shipped values again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from digits_benchmark.agreement import agreement_figure, seed_agreement, task_correlations, transnas_correlations
from digits_benchmark.generate import GenerateConfig, architectures, generate, make_chunks, to_record
from digits_benchmark.make import write_benchmark
from digits_benchmark.one_at_a_time import train_alone

from ncp_jax import checks
from ncp_jax.benchmarks.digits import Digits, read_digits
from ncp_jax.records.journal import Records
from ncp_jax.training.cells.program import Scores, TrainConfig, train_chunk
from ncp_jax.training.cells.tasks import TASKS, pools

SMALL = {"smoke": True, "tasks": ("class",), "limit": 6, "chunk": 4, "repeated": 4}


@pytest.mark.parametrize("task", ["class", "autoencoder"])
def test_trained_again_the_shipped_values_come_out(task: str) -> None:
    """To within rounding, which tips a few examples over: far less than another seed would change."""
    made = read_digits()
    place = list(TASKS).index(task)
    rows = np.array([3, 500, 1200, 1900])
    found = train_chunk(made.codes[rows], TASKS[task], pools(task), 0, TrainConfig())
    for ours, shipped in ((found.final, made.final), (found.best, made.best)):
        difference = np.abs(ours - shipped[place, 0, rows])
        assert difference.max() < 2.5
        assert np.median(difference) < 0.3
    assert np.abs(found.final[:, 1] - made.final[place, 0, rows, 1]).max() < 1.5


def test_one_at_a_time_is_the_same_training() -> None:
    made, row = read_digits(), 7
    scores, times = train_alone(made.codes[row], TASKS["class"], pools("class"), 0, TrainConfig())
    np.testing.assert_allclose(scores, made.final[0, 0, row], atol=2.5)
    assert 0 < times["compile"] < times["seconds"]


def test_one_of_each_class_in_an_order_that_stays() -> None:
    codes = architectures()
    assert codes.shape == (1948, 6)
    np.testing.assert_array_equal(codes, read_digits().codes)


def test_the_chunks_cover_every_training_once() -> None:
    chunks = make_chunks(GenerateConfig(limit=150, repeated=100))
    trained = [(c.task, c.seed, row) for c in chunks for row in range(c.start, c.stop)]
    wanted = [(t, s, r) for t in TASKS for s, n in ((0, 150), (1, 100)) for r in range(n)]
    assert sorted(trained) == sorted(wanted)
    assert {c.task for c in chunks[:5]} == set(TASKS)


def test_a_smoke_run_trains_a_few_architectures() -> None:
    chunks = make_chunks(GenerateConfig(smoke=True))
    assert sum(c.stop - c.start for c in chunks) == 8 + 4


def test_interrupted_in_shares_or_at_once_the_records_are_the_same(tmp_path: Path) -> None:
    whole = GenerateConfig(out=tmp_path / "whole", **SMALL)
    records = Records(whole.out, whole.settings())
    seen: list[tuple[int, int]] = []
    generate(whole, records, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (6, 10), (10, 10)]
    parts = GenerateConfig(out=tmp_path / "parts", shard="1/2", **SMALL)
    generate(parts, Records(parts.out, parts.settings()))
    rest = GenerateConfig(out=tmp_path / "parts", resume=True, **SMALL)
    path = rest.out / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-40])  # as a killed process leaves it
    again = Records(rest.out, rest.settings(), resume=True)
    assert again.dropped == 1
    generate(rest, again)

    def scores(r: Records) -> dict:
        return {json.dumps(x["cell"]): {k: v for k, v in x["results"].items() if k != "seconds"} for x in r}

    assert scores(again) == scores(records)
    summary = write_benchmark(whole, records)
    assert summary["seeds"]["class"]["architectures"] == 4
    assert {"digits.npz", "digits.png", "summary.json"} <= {p.name for p in whole.out.iterdir()}
    made = read_digits(whole.out / "digits.npz")
    assert np.isfinite(made.final[0, 0]).all(axis=1).sum() == 6
    with pytest.raises(checks.UsageError, match=r"chunk: 4 there, 5 now"):
        Records(whole.out, GenerateConfig(**{**SMALL, "chunk": 5}).settings(), resume=True)


def test_divergence_is_recorded_as_such() -> None:
    nan = np.full((1, 3), np.nan)
    record = to_record(Scores(nan, nan, np.zeros(1, int), np.full((1, 2), np.nan)), 1.0)
    assert record["final"] == [[None, None, None]]
    assert json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"chunk": 0}, "--chunk to be an integer 1 or more, got 0"),
        ({"limit": 0}, "--limit to be an integer 1 or more, got 0"),
        ({"repeated": -1}, "--repeated to be an integer 0 or more, got -1"),
        ({"shard": "3/2"}, "--shard i/N"),
        ({"tasks": ("klass",)}, "did you mean: class"),
    ],
)
def test_options_that_make_no_sense(change: dict, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        GenerateConfig(**change)


def made_up(seeds: int = 2, noise: float = 1.0) -> Digits:
    """Fifty architectures whose tasks agree exactly and whose seeds differ by noise."""
    rng = np.random.default_rng(0)
    values = np.linspace(0, 50, 50)
    final = np.stack([values + noise * s * rng.normal(size=50) for s in range(seeds)])
    final = np.tile(final[None, :, :, None], (5, 1, 1, 3)).astype(np.float32)
    return Digits(
        codes=architectures()[:50],
        final=final,
        best=final,
        epoch=np.ones((5, seeds, 50), np.int32),
        curve=final[..., :1],
        seconds=np.ones(5, np.float32),
        card={},
    )


def test_agreement_between_seeds_and_tasks() -> None:
    digits = made_up()
    digits.final[0, 1, 30:] = np.nan
    found = seed_agreement(digits)
    assert (found["class"].architectures, found["edges"].architectures) == (30, 50)
    assert found["edges"].noise == pytest.approx(1 / np.sqrt(2), rel=0.3)
    assert found["edges"].spread == pytest.approx(np.linspace(0, 50, 50).std(), rel=1e-3)
    assert 0.98 < (found["edges"].spearman or {})["validation"] < 1
    assert task_correlations(digits)["class"]["edges"] == 1


def test_one_seed_has_no_agreement(tmp_path: Path) -> None:
    digits = made_up(seeds=1)
    agreement = seed_agreement(digits)["class"]
    assert agreement.spearman is None
    assert "spearman" not in agreement.to_json()
    correlations = task_correlations(digits), transnas_correlations(digits)
    assert agreement_figure(digits, *correlations, tmp_path / "figure.png").stat().st_size > 1000
