"""Study folders made up on the spot: what the runner would write, from a biased draw of ranks."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROWS, BEST = 1000, 73.5
SKILLS = {"random": 1.0, "local-search": 1.6, "evolution population=10": 2.0, "evolution population=50": 2.2}

MakeStudy = Callable[..., Path]


def run_record(
    label: str, benchmark: str, seed: int, *, budget: int, skill: float, times: bool = False, rows: int = ROWS
) -> dict[str, Any]:
    """One run whose queries have ranks that grow better with the skill; values fall evenly with the rank."""
    key = f"{label}|{benchmark}|{seed}"
    cell = hashlib.sha256(key.encode()).hexdigest()[:16]
    rng = np.random.default_rng(int(cell, 16))
    ranks = np.ceil(rows * rng.random(budget) ** (skill * (1 + np.arange(budget) / budget))).astype(int).clip(1, rows)
    best = np.minimum.accumulate(ranks)
    at = np.flatnonzero(np.diff(best, prepend=rows + 1) < 0) + 1
    found = best[at - 1]
    regrets = (found - 1) * 0.01
    results: dict[str, Any] = {
        "queries": budget,
        "asks": budget + int(rng.integers(0, 5)),
        "at": at.tolist(),
        "rows": (found - 1).tolist(),
        "values": (BEST - regrets).tolist(),
        "ranks": found.tolist(),
        "regrets": regrets.tolist(),
        "hypervolume": float(1 - 0.3 * rng.random() / skill),
    }
    if times:
        results |= {"times": (at * 100.0 + rng.random()).tolist(), "seconds": budget * 101.0}
    searcher, *settings = label.split()
    pairs = (setting.split("=") for setting in settings if "=" in setting)
    return {
        "cell": cell,
        "method": label,
        "searcher": searcher,
        "settings": {name: int(value) if value.isdigit() else value for name, value in pairs},
        "benchmark": benchmark,
        "seed": seed,
        "results": results,
    }


def study_json(
    methods: Mapping[str, float], benchmarks: tuple[str, ...], seeds: int, budget: int, rows: int = ROWS
) -> dict[str, Any]:
    metric = {"name": "accuracy", "task": "t", "split": "validation", "epoch": "final", "unit": "%"}
    described = {label: run_record(label, "", 0, budget=1, skill=1.0) for label in methods}
    return {
        "grid": {"searchers": list(methods), "benchmarks": list(benchmarks)},
        "versions": {"ncp-jax": "0.1.0", "jax": "0.10.2", "numpy": "2.3.0", "python": "3.12.0"},
        "tables": {
            name: {
                "hash": hashlib.sha256(name.encode()).hexdigest(),
                "rows": rows,
                "metric": metric | {"direction": "maximize", "kind": "quality"},
                "best": BEST,
                "flops_unit": "M",
            }
            for name in benchmarks
        },
        "budget": budget,
        "seconds": None,
        "repeats": "free",
        "methods": {k: {"searcher": d["searcher"], "settings": d["settings"]} for k, d in described.items()},
        "seeds": [0, seeds],
        "cells": len(methods) * len(benchmarks) * seeds,
    }


def session(date: str = "2026-11-24T10:00:00+00:00", **fields: Any) -> dict[str, Any]:
    device = {"platform": "cpu", "kind": "cpu", "count": 1, "cores": 2, "machine": "x86_64"}
    versions = {"ncp-jax": "0.1.0", "jax": "0.10.2"}
    return {"versions": versions, "device": device, "date": date, "shard": "1/1", "seconds": 12.5, "runs": 9, **fields}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def build(
    folder: Path,
    methods: Mapping[str, float] = SKILLS,
    benchmarks: tuple[str, ...] = ("bench/a", "bench/b"),
    *,
    seeds: int = 8,
    budget: int = 30,
    times: bool = False,
    rows: int = ROWS,
) -> Path:
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(study_json(methods, benchmarks, seeds, budget, rows)))
    records = [
        run_record(label, benchmark, seed, budget=budget, skill=skill, times=times, rows=rows)
        for benchmark in benchmarks
        for label, skill in methods.items()
        for seed in range(seeds)
    ]
    write_lines(folder / "records.jsonl", records)
    write_lines(folder / "sessions.jsonl", [session()])
    return folder


@pytest.fixture(scope="session")
def build_study() -> MakeStudy:
    """Makes a study's folder where it is told to; returns it."""
    return build


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Makes a study's folder for one test; returns it."""
    return functools.partial(build, tmp_path / "study")
