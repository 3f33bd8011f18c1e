"""Baselines of the engine: their names, their operations, and a loop over single codes for use without PyTorch."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latency.clock import calls_for, peak_memory_mb, timed

AUTHORS, FROZEN, FOLDED = "torch-authors", "torch-frozen", "torch-folded"
TORCH = {"torch": AUTHORS, FROZEN: FROZEN, FOLDED: FOLDED}
"""Names of baselines that invert all codes at once in PyTorch, by their name in ``--against``: the authors' released
loop with a batch axis; the same with frozen weights, so that only the gradient of the codes is computed; and this
package's own method in PyTorch, folded layers with a hand-written backward pass."""
LOOP_TORCH, LOOP_JAX = "loop-torch", "loop-jax"
"""Names of baselines that invert one code after the other: the authors' released loop in PyTorch, or, where PyTorch is
not installed, a compiled JAX step."""
LEARNING_RATE, DELTA = 3.0, 0.1
"""The authors' settings, equal to ``PropagationConfig.authors``."""
_LOOP_CODES = 4


def codes_timed(engine: str, codes: int, smoke: bool) -> int:
    """Returns how many codes a timed run of a baseline inverts: few for a loop, whose rate does not depend on it."""
    return min(codes, 1 if smoke else _LOOP_CODES) if engine in (LOOP_TORCH, LOOP_JAX) else codes


def weight_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Returns the number of weights of each linear layer by name; BatchNorm's arrays have one axis and do not count."""
    return {
        name.removesuffix(".weight"): int(np.prod(shape))
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def autograd_flops(shapes: Mapping[str, tuple[int, ...]], parts: Iterable[int], *, frozen: bool = True) -> int:
    """Returns the operations of one code-step's matrix products under autograd, a multiply-add counting as two.

    The forward pass has all layers and heads; the backward pass those from the heads of the objective to the code. The
    output layer is included: autograd does not know that its cotangent is always the same.

    Args:
      shapes: shapes of one network's arrays by name.
      parts: numbers of the heads in the objective; ignored for a network without heads.
      frozen: whether the weights get no gradients; with them, each layer of the backward pass has one more product.
    """
    sizes, heads = weight_sizes(shapes), {str(part) for part in parts}
    back = [n for n in sizes if n.split(".")[0] not in ("head", "out") or n.split(".")[1] in heads]
    return 2 * sum(sizes.values()) + (2 if frozen else 4) * sum(sizes[n] for n in back)


class LoopBaseline:
    """Inverts one code after the other; each step is a call of a compiled JAX function on one code.

    Args:
      job: "engine", "started", "folder", "codes" (to time), "steps", "smoke".
    """

    def __init__(self, job: dict[str, Any]) -> None:
        import jax
        import jax.numpy as jnp

        from latency.inputs import authors_objective, load_inputs

        self._job = job
        self._import_s = time.time() - job["started"]
        predictor, starts = load_inputs(job["folder"])
        scale = predictor.scale
        push = authors_objective(predictor).weights(predictor.metrics).push
        arrays = np.load(Path(job["folder"]) / "baseline.npz", allow_pickle=False)
        box = (arrays["low"], arrays["high"])

        @jax.jit
        def step(params: Any, x: jax.Array) -> jax.Array:
            def loss(x: jax.Array) -> jax.Array:
                z = predictor.apply(params, x)
                error = z - jax.lax.stop_gradient(z + DELTA * jnp.sign(push))
                small = jnp.abs(error) < 1
                return jnp.sum(jnp.abs(push) * jnp.where(small, 0.5 * error**2, jnp.abs(error) - 0.5))

            return jnp.clip(x - LEARNING_RATE * jax.grad(loss)(x), *box)

        self._step = step
        self._members = [jax.tree.map(lambda a, k=k: a[k], predictor.params) for k in range(predictor.members)]
        self._starts = [
            jax.device_put(row) for row in np.asarray(scale.standard_x(jnp.asarray(starts[: job["codes"]])))
        ]
        layers = predictor.params["w"]
        self._flops = 4 * sum(int(w.shape[1] * w.shape[2]) for w in layers)

    def facts(self) -> dict[str, Any]:
        """Returns operations of a code-step (all outputs, both passes), codes in a timed run, start-up, memory."""
        return {
            "flops_per_code_step": self._flops,
            "codes_timed": len(self._starts),
            "import_s": self._import_s,
            "peak_memory_mb": peak_memory_mb(),
        }

    def run(self) -> dict[str, Any]:
        """Times inversions; returns the "seconds" of one of ``codes_timed`` codes."""
        return {"seconds": timed(lambda calls: [self._invert() for _ in range(calls)], self._calls)}

    def ends(self, path: str) -> dict[str, Any]:
        """Writes the end points in standard units (.npy); returns {}."""
        np.save(path, np.stack(self._invert()))
        return {}

    @functools.cached_property
    def _calls(self) -> int:
        return calls_for(0.0 if self._job["smoke"] else 0.02, lambda calls: [self._invert() for _ in range(calls)])

    def _invert(self) -> list[np.ndarray]:
        found = []
        for i, x in enumerate(self._starts):
            params = self._members[i % len(self._members)]
            for _ in range(self._job["steps"]):
                x = self._step(params, x)
            found.append(np.asarray(x))
        return found
