"""Answers the requests of a latency measurement for this package's own engine."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latency.clock import calls_for, peak_memory_mb, timed
from latency.inputs import authors_config, authors_objective, load_inputs
from latency.products import Products, flops_per_code_step, layers_of
from ncp_jax.console import prepare_jax
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import invert, propagate
from ncp_jax.propagation.engine import tile_shape
from ncp_jax.spaces import get_space


class Engine:
    """Inverts a number of codes at one precision: first once, from a cold start, then as often as asked.

    Args:
      job: "started" (time at which the process was started), "folder" (see ``inputs.Setup``), "codes", "steps",
        "precision", "seed", "streamed" (whether so many codes are only ever passed to ``propagate``), "smoke".
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._import_s = time.time() - job["started"]
        prepare_jax()

    def first(self) -> dict[str, Any]:
        """Produces the first result as a user does: loads a predictor, propagates, prints the best architecture.

        Returns:
          The fields of ``rows.StartUp``, and memory, see ``memory``.
        """
        job, began = self._job, time.perf_counter()
        jax.block_until_ready(jnp.zeros(()))
        backend = time.perf_counter()
        predictor, _ = load_inputs(job["folder"])
        loaded = time.perf_counter()
        config = authors_config(job["steps"], job["precision"], predictor.members)
        key = jax.random.key(job["seed"])
        found = propagate(predictor, authors_objective(predictor), codes=job["codes"], key=key, config=config)
        print(found.top(1))
        return {
            "import_s": self._import_s,
            "backend_s": backend - began,
            "load_s": loaded - backend,
            "compile_s": found.timing["compile"],
            "search_s": found.timing["search"],
            "first_result_s": time.time() - job["started"],
            "first_result_after_import_s": time.perf_counter() - began,
            **memory(),
        }

    def run(self) -> dict[str, Any]:
        """Times inversions in a row, at least 20 ms of them; returns the "seconds" of one."""
        calls = self._calls
        return {"seconds": timed(self._invert_often, calls)}

    def products(self) -> dict[str, Any]:
        """Times plain matrix products; returns operations per second, see ``Products.rates``."""
        return self._products.rates()

    def facts(self) -> dict[str, Any]:
        """Returns the operations of a code-step, and the shape of the engine's tiles."""
        job = self._job
        config = authors_config(job["steps"], job["precision"], self._selected.members)
        return {"flops_per_code_step": flops_per_code_step(self._selected, config), "tile": list(self._tile)}

    def changed(self) -> dict[str, Any]:
        """Returns the share of codes that end in another architecture than with products in float32."""
        return {"share": _share(self._project(self._ends(self._job["precision"])) != self._project(self._reference))}

    def compare(self, path: str) -> dict[str, Any]:
        """Compares a baseline's end points with those of this engine in float32.

        Args:
          path: .npy file of end points in standard units ``[k, f]``, of the first k codes.

        Returns:
          "max_difference" in standard units, "different_architectures" as a share of the k codes.
        """
        theirs = np.load(path, allow_pickle=False)
        ours, scale = self._reference[: len(theirs)], self._selected.scale
        raw = np.asarray(scale.raw_x(jnp.asarray(theirs)))
        return {
            "codes": len(theirs),
            "max_difference": float(np.abs(np.asarray(scale.standard_x(jnp.asarray(ours))) - theirs).max()),
            "different_architectures": _share(self._project(raw) != self._project(ours)),
        }

    @functools.cached_property
    def _selected(self) -> Predictor:
        """The predictor restricted to the metrics of the objective, as ``propagate`` does it."""
        predictor, _ = load_inputs(self._job["folder"])
        return predictor.select(authors_objective(predictor).names)

    @functools.cached_property
    def _tile(self) -> tuple[int, int]:
        return tile_shape(self._job["codes"] // self._selected.members, self._selected.members)

    @functools.cached_property
    def _start(self) -> jax.Array:
        """The starts in raw units."""
        _, starts = load_inputs(self._job["folder"])
        return jnp.asarray(starts[: self._job["codes"]])

    @functools.cached_property
    def _arguments(self) -> tuple[Any, ...]:
        predictor, space = self._selected, get_space(self._selected.space)
        weights = authors_objective(predictor).weights(predictor.metrics)
        return predictor, weights, self._start, (jnp.asarray(space.lower), jnp.asarray(space.upper))

    def _invert(self, precision: str) -> jax.Array:
        predictor, weights, start, box = self._arguments
        return invert(predictor, weights, start, box, authors_config(self._job["steps"], precision, predictor.members))

    def _invert_often(self, calls: int) -> None:
        jax.block_until_ready([self._invert(self._job["precision"]) for _ in range(calls)])

    @functools.cached_property
    def _calls(self) -> int:
        return calls_for(0.0 if self._job["smoke"] else 0.02, self._invert_often)

    @functools.cached_property
    def _products(self) -> Products:
        job = self._job
        sizes: dict[str, Any] = {"squares": (128,), "least": 0.0} if job["smoke"] else {}
        return Products(
            layers_of(self._selected),
            codes=None if job["streamed"] else job["codes"],
            tile=self._tile,
            precision=job["precision"],
            **sizes,
        )

    @functools.cached_property
    def _reference(self) -> np.ndarray:
        return self._ends("float32")

    def _ends(self, precision: str) -> np.ndarray:
        return np.asarray(self._invert(precision))

    def _project(self, raw: np.ndarray) -> np.ndarray:
        return np.asarray(get_space(self._selected.space).project(jnp.asarray(raw)))


def memory() -> dict[str, float | None]:
    """Returns the peak memory in MB so far: of the process, and of the device's own memory where it is known."""
    device = jax.devices()[0].memory_stats() or {}
    peak = device.get("peak_bytes_in_use")
    return {"peak_memory_mb": peak_memory_mb(), "device_peak_memory_mb": None if peak is None else peak / 1e6}


def _share(different: np.ndarray) -> float:
    return float(different.any(axis=-1).mean())
