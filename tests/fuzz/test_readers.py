"""Every reader of a user's file or string gives an answer or a clear error, in little time and memory.

``NCP_JAX_FUZZ_INPUTS`` is the number of inputs to each reader, ``NCP_JAX_FUZZ_FIGURES`` a file for the figures.
"""

from __future__ import annotations

import json
import os
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .readers import ALLOWED, Reader, make_readers, predictor_arrays
from .strategies import (
    damaged_bytes,
    damaged_json,
    damaged_text,
    hostile_matrix,
    hostile_npz,
    hostile_pickles,
)

INPUTS = int(os.environ.get("NCP_JAX_FUZZ_INPUTS", "200"))
FIGURES = os.environ.get("NCP_JAX_FUZZ_FIGURES", "")
LONGEST, MOST_MB = 2.0, 500

Examples = tuple[bytes, ...]
STRATEGIES: dict[str, Callable[[Examples], st.SearchStrategy[bytes]]] = {
    "table": damaged_text,
    "matrix": damaged_text,
    "toml": damaged_text,
    "space": damaged_text,
    "grid": damaged_json,
    "pickle": lambda examples: damaged_bytes(examples) | hostile_pickles(),
    "zip": damaged_bytes,
    "npz": lambda examples: damaged_bytes(examples) | hostile_npz(predictor_arrays()),
    "npy": lambda examples: damaged_bytes(examples) | hostile_matrix(),
    "jsonl": damaged_json,
    "json": damaged_json,
    "code": damaged_text,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def readers(place: Path) -> dict[str, Reader]:
    return make_readers(place)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_answer_or_a_clear_error(name: str, readers: dict[str, Reader], place: Path) -> None:
    reader = readers[name]
    figures: dict[str, Any] = {"reader": name, "inputs": 0, "answers": 0, "errors": 0, "silent": 0, "longest_s": 0.0}

    @settings(
        max_examples=INPUTS,
        database=None,
        derandomize=INPUTS < 1000,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=STRATEGIES[name](reader.examples), choice=st.integers(0, 419))
    def survives(content: bytes, choice: int) -> None:
        began = time.process_time()
        try:
            reader.read(content, place, choice)
            figures["answers"] += 1
        except ALLOWED as error:
            figures["errors"] += 1
            figures["silent"] += not str(error)
        seconds = time.process_time() - began
        figures["inputs"] += 1
        figures["longest_s"] = max(figures["longest_s"], round(seconds, 3))
        assert seconds < LONGEST

    before = peak_mb()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers of Python 2
        survives()
    figures["more_mb"] = round(peak_mb() - before, 1)
    assert figures["more_mb"] < MOST_MB
    assert figures.pop("silent") == 0
    if FIGURES:
        with open(FIGURES, "a") as file:
            file.write(json.dumps(figures) + "\n")


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_examples_are_read(name: str, readers: dict[str, Reader], place: Path) -> None:
    for content in readers[name].examples:
        found = []
        for choice in range(420):
            try:
                readers[name].read(content, place, choice)
                break
            except ALLOWED as error:
                found.append(str(error))
        else:
            pytest.fail(f"{content[:200]!r}: {set(found)}")
