"""What the engine is compared with: names, operations, and the one-code loop for where PyTorch is missing."""

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
"""All codes at once in PyTorch, by what ``--against`` calls it: the authors' released loop with a batch axis; the same
with frozen weights, so that the codes' gradient is all that is computed; and this package's own algebra carried over,
folded layers with a hand-written backward."""
LOOP_TORCH, LOOP_JAX = "loop-torch", "loop-jax"
"""One code after the other: the authors' released loop in PyTorch; where that is missing, a compiled JAX step."""
LEARNING_RATE, DELTA = 3.0, 0.1
"""The authors' settings, those of ``PropagationConfig.authors``."""
_LOOP_CODES = 4


def codes_timed(engine: str, codes: int, smoke: bool) -> int:
    """How many codes a timed run of a rival inverts: a loop's rate does not depend on their number."""
    return min(codes, 1 if smoke else _LOOP_CODES) if engine in (LOOP_TORCH, LOOP_JAX) else codes


def weight_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Weights of each linear layer of a network by name; those of BatchNorm, with one axis, are not matrices."""
    return {
        name.removesuffix(".weight"): int(np.prod(shape))
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def autograd_flops(shapes: Mapping[str, tuple[int, ...]], parts: Iterable[int], *, frozen: bool = True) -> int:
    """Operations of the matrix products of one code-step under autograd, a multiply-add counting as two.

    Forward all layers with all heads, backward those that lead from the heads sought to the code, the output layer
    included: autograd does not know that its cotangent is always the same.

    Args:
      shapes: of one network's arrays, by name.
      parts: numbers of the heads sought; those of a network without heads are ignored.
      frozen: False where the weights get gradients too: one more product a layer that leads back.
    """
    sizes, sought = weight_sizes(shapes), {str(part) for part in parts}
    back = [n for n in sizes if n.split(".")[0] not in ("head", "out") or n.split(".")[1] in sought]
    return 2 * sum(sizes.values()) + (2 if frozen else 4) * sum(sizes[n] for n in back)


class LoopRival:
    """One code after the other, each step a call of a compiled JAX function on one code.

    Args:
      job: "engine", "started", "folder", "codes" (to time), "steps", "smoke".
    """

    def __init__(self, job: dict[str, Any]) -> None:
        import jax
        import jax.numpy as jnp

        from latency.subject import authors_objective, load_subject

        self._job = job
        self._import_s = time.time() - job["started"]
        predictor, starts = load_subject(job["folder"])
        scale = predictor.scale
        push = authors_objective(predictor).weights(predictor.metrics).push
        arrays = np.load(Path(job["folder"]) / "rival.npz", allow_pickle=False)
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
        """Operations of a code-step (all outputs, forward and backward), codes in a timed run, start-up, memory."""
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
