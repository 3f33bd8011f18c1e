"""Measurements and their rows, with scripted answers in place of measured processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from latency import measurement
from latency.config import LatencyConfig
from latency.figure import latency_figure
from latency.measurement import latency_table, make_cells, measure, speed_ratios, ticks_per_cell
from latency.rows import ENGINE, BaselineDetails, ProductRates, Row

SECONDS = {ENGINE: [9.0, 1.0, 2.0, 4.0], "torch-folded": [9.0, 4.0, 5.0, 6.0], "loop-jax": [9.0, 1.0, 1.0, 1.0]}
RATES = [{"full": 1e9, "tile": 1e9, "square 8": 1e9}] + [
    {"full": 2e5 * k, "tile": 1e5 * k, "square 8": 3e5 * k, "square 16": 4e5 * k} for k in (1, 2, 3)
]
log: list[tuple[str, str]] = []


class Scripted:
    """Answers as scripted; the first answers of every kind are far off and must not count."""

    def __init__(self, role: str, folder: Path, job: dict[str, Any], **_: object) -> None:
        self.name = {"engine": ENGINE, "setup": "setup"}.get(role, job.get("engine", ""))
        self.job, self.asked = job, {"run": 0, "products": 0}

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        log.append((self.name, "end"))

    def ask(self, do: str, **_: Any) -> dict[str, Any]:
        log.append((self.name, do))
        if do in self.asked:
            self.asked[do] += 1
        if do == "run":
            return {"seconds": SECONDS[self.name][self.asked[do] - 1]}
        if do == "products":
            rates = RATES[self.asked[do] - 1]
            return {k: v for k, v in rates.items() if not (self.job["streamed"] and k == "full")}
        starts = ("import_s", "backend_s", "load_s", "first_result_s", "first_result_after_import_s", "compile_s")
        return {
            "first": dict.fromkeys(starts, 1.0)
            | {"search_s": 30.0, "peak_memory_mb": 5.0, "device_peak_memory_mb": None},
            "facts": {
                "flops_per_code_step": 10,
                "tile": [4, 2],
                "codes_timed": self.job["codes"],
                "import_s": 1.0,
                "peak_memory_mb": 6.0,
            },
            "changed": {"share": 0.25},
            "compare": {"codes": 1, "max_difference": 0.0, "different_architectures": 0.0},
        }.get(do, {})


def config(**changes: Any) -> LatencyConfig:
    settings: dict[str, Any] = {
        "codes": (8,),
        "steps": 5,
        "precisions": ("float32", "bfloat16"),
        "baselines": ("torch-folded", "loop-jax"),
        "repeats": 3,
        "predictor": "ncp",
        "smoke": True,
    }
    return LatencyConfig(**settings | changes)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(measurement, "Child", Scripted)
    monkeypatch.setattr(measurement.BackgroundLoad, "busy_cores", lambda _: 0.1)
    log.clear()

    def call(settings: LatencyConfig) -> list[Row]:
        ticks: list[int] = []
        rows = []
        cells = make_cells(settings, 1)
        for cell in cells:
            rows += measure(settings, cell, lambda: ticks.append(1))
        assert len(ticks) == ticks_per_cell(settings) * len(cells)
        assert [Row.from_json(json.loads(json.dumps(row.to_json()))) for row in rows] == rows
        return rows

    return call


def test_rows(run: Any) -> None:
    rows = run(config())
    assert [(row.engine, row.precision) for row in rows] == [
        (ENGINE, "float32"),
        ("torch-folded", "float32"),
        ("loop-jax", "float32"),
        (ENGINE, "bfloat16"),
    ]
    own, torch, loop, rounded = (row.to_json() for row in rows)
    assert own["runs_s"] == [1.0, 2.0, 4.0]
    assert own["code_steps_per_s"] == 8 * 5 / 2.0
    assert own["flops_per_s"] == 10 * own["code_steps_per_s"]
    assert (own["products_full_flops_per_s"], own["products_tile_flops_per_s"]) == (4e5, 2e5)
    assert own["products_flops_per_s"] == 4e5
    assert (own["best_products_flops_per_s"], own["best_products_size"]) == (8e5, 16)
    assert own["fraction"] == pytest.approx(10 * 20 / 4e5)
    assert own["fraction_of_best"] == pytest.approx(10 * 20 / 8e5)
    assert own["cold_first_result_s"] == own["warm_compile_s"] == 1.0
    assert (own["changed_architectures"], rounded["changed_architectures"]) == (0.0, 0.25)
    assert torch["code_steps_per_s"] == 8 * 5 / 5.0
    assert torch["agreement"]["different_architectures"] == 0.0
    assert (loop["codes"], loop["codes_timed"]) == (8, 1)
    assert loop["code_steps_per_s"] == 5.0
    shared = {"engine", "codes", "steps", "precision", "code_steps_per_s", "fraction"}
    assert all(shared <= set(row.to_json()) for row in rows)


def test_engines_take_turns_and_every_process_ends(run: Any) -> None:
    run(config(precisions=("float32",)))
    timed = [name for name, do in log if do in ("run", "products")]
    assert timed == [ENGINE, "torch-folded", "loop-jax", ENGINE] * 4
    assert sorted(name for name, do in log if do == "end") == [
        "loop-jax",
        ENGINE,
        ENGINE,
        "setup",
        "torch-folded",
    ]


def test_streamed_codes_run_twice_and_no_full_products(run: Any) -> None:
    own, torch, loop = (row.to_json() for row in run(config(codes=(1_000_000,), precisions=("float32",))))
    assert (ENGINE, "run") not in log
    assert own["runs_s"] == [30.0, 30.0]
    assert own["code_steps_per_s"] == 1_000_000 * 5 / 30.0
    assert own["products_full_flops_per_s"] is None
    assert own["products_flops_per_s"] == own["products_tile_flops_per_s"] == 2e5
    assert (torch["codes"], torch["codes_timed"], loop["codes_timed"]) == (1_000_000, 65536, 1)


def test_cells() -> None:
    cells = make_cells(config(codes=(8, 16)), seeds=2)
    assert len(cells) == 8
    assert cells[1] == {"seed": 0, "codes": 8, "steps": 5, "precision": "bfloat16"}


def row_of(engine: str, codes: int, precision: str, rate: float) -> Row:
    details = BaselineDetails(0.0, {})
    products = ProductRates(None, 1.0, 1.0, 8)
    return Row(engine, codes, 1, precision, 0, 1, [1 / rate], 1, products, 1.0, None, details)


def test_ratios_are_of_medians_over_seeds_in_float32() -> None:
    rows = [
        *(row_of(ENGINE, 8, "float32", rate) for rate in (10.0, 30.0, 50.0)),
        row_of(ENGINE, 8, "bfloat16", 1e6),
        *(row_of("torch-folded", 8, "float32", rate) for rate in (1.0, 2.0, 100.0)),
        row_of("torch-folded", 16, "float32", 7.0),
    ]
    assert speed_ratios(rows) == {"torch-folded": {"8": pytest.approx(15.0)}}


def test_a_busy_machine_is_reported(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "caution" not in latency_table(run(config()))
    monkeypatch.setattr(measurement.BackgroundLoad, "busy_cores", lambda _: 1.5)
    rows = run(config())
    assert all(row.others_busy_cores == 1.5 for row in rows)
    assert "caution: 1.5 cores were at work for others" in latency_table(rows)
    monkeypatch.setattr(measurement.BackgroundLoad, "busy_cores", lambda _: None)
    assert "caution" not in latency_table(run(config()))


def test_report_and_figure(run: Any, tmp_path: Path) -> None:
    rows = run(config(codes=(8, 1_000_000)))
    text = latency_table(rows)
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["engine", "codes", "precision"]
    assert [line.split()[0] for line in lines[1:9]] == [row.engine for row in rows]
    assert "bfloat16, 8 codes: 25.00% end in another architecture" in lines
    assert f"{ENGINE} / torch-folded: 2.50 at 8, 2.54 at 1000000" in lines
    path = latency_figure(rows, tmp_path / "latency.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
