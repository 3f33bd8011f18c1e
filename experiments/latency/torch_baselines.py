"""Baselines in PyTorch (``pip install ".[torch]"``): the authors' loop, the same with frozen weights, folded layers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from latency.baselines import AUTHORS, DELTA, FOLDED, LEARNING_RATE, LOOP_TORCH, autograd_flops, weight_sizes
from latency.clock import calls_for, peak_memory_mb, timed

EPSILON = 1e-5
# Rows of a tile on a CPU. A tile stays in one core's cache and on one thread: PyTorch's own threads synchronize after
# every function, which is slow whenever one of them has to wait.
_TILE = 256
State = dict[str, torch.Tensor]
Box = tuple[torch.Tensor, torch.Tensor]


class AuthorsNetwork(torch.nn.Module):
    """Trunk and heads with BatchNorm (Ding et al., ICLR 2022) at inference, in ordinary PyTorch.

    Args:
      state: arrays named as by ``inputs.batch_norm_state``; they determine the sizes.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        width, features = state["trunk.weight"].shape
        head_width = state["head.0.weight"].shape[0]
        outputs = [state[f"out.{i}.weight"].shape[0] for i in range(sum(n.startswith("out.") for n in state) // 2)]
        norm = functools.partial(torch.nn.BatchNorm1d, eps=EPSILON)
        self.norm_in = norm(features)
        self.trunk = torch.nn.Linear(features, width)
        self.norm = norm(width)
        self.head = torch.nn.ModuleList([torch.nn.Linear(width, head_width) for _ in outputs])
        self.head_norm = torch.nn.ModuleList([norm(head_width) for _ in outputs])
        self.out = torch.nn.ModuleList([torch.nn.Linear(head_width, n) for n in outputs])
        self.columns = [(part, j) for part, n in enumerate(outputs) for j in range(n)]
        self.load_state_dict(state, strict=False)
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the outputs of each head for codes in standard units ``[n, f]``."""
        hidden = F.silu(self.norm(self.trunk(self.norm_in(x))))
        heads = zip(self.head, self.head_norm, self.out, strict=True)
        return [out(F.silu(norm(head(hidden)))) for head, norm, out in heads]


class DenseNetwork(torch.nn.Module):
    """Linear layers with swish between them, over codes and, with ``log``, the logarithms of the codes.

    Args:
      state: arrays of one member, named as by ``inputs.dense_state``.
      log: mean and standard deviation of the raw features; None for a network without logarithms.
    """

    def __init__(self, state: State, log: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        super().__init__()
        shapes = [state[f"layer.{i}.weight"].shape for i in range(len(state) // 2)]
        self.layer = torch.nn.ModuleList([torch.nn.Linear(inputs, outputs) for outputs, inputs in shapes])
        self.columns = [(0, j) for j in range(shapes[-1][0])]
        self.log = log
        self.load_state_dict(state)
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the outputs for codes in standard units ``[n, f]``, in a list of one."""
        hidden = x
        if self.log is not None:
            mean, std = self.log
            hidden = torch.cat([x, torch.log2((x * std + mean).clamp_min(0.5))], dim=1)
        for layer in self.layer[:-1]:
            hidden = F.silu(layer(hidden))
        return [self.layer[-1](hidden)]


def _loss(network: Any, push: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns the weighted sum over all rows of smooth L1 losses against the network's own prediction moved by delta.

    Args:
      network: network whose ``columns`` give head and output of each metric.
      push: [m] weights of the metrics: > 0 to raise, < 0 to lower, 0 to ignore.
      x: [n, f] codes in standard units.
    """
    outputs, loss = network(x), torch.zeros((), device=x.device)
    for (part, column), weight in zip(network.columns, push.tolist(), strict=True):
        if weight:
            z = outputs[part][:, column]
            target = z.clone().detach() + (DELTA if weight > 0 else -DELTA)
            loss = loss + abs(weight) * F.smooth_l1_loss(z, target, reduction="sum")
    return loss


def invert_as_authors(network: Any, push: torch.Tensor, x: torch.Tensor, box: Box, steps: int) -> torch.Tensor:
    """Runs the released loop with a batch axis: a new SGD each step, ``loss.backward()``, clamp, ``detach().clone()``.

    As in the released loop, ``backward`` computes the gradients of the weights too. Its bookkeeping (a second
    prediction, rounding, FLOPs) is left out.
    """
    for _ in range(steps):
        x = x.detach().clone().requires_grad_(True)
        optimizer = torch.optim.SGD([x], lr=LEARNING_RATE)
        optimizer.zero_grad()
        network.zero_grad()
        _loss(network, push, x).backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(*box)
    return x.detach()


def invert_one_as_authors(network: Any, push: torch.Tensor, x: torch.Tensor, box: Box, steps: int) -> torch.Tensor:
    """Runs the released loop for one code ``[1, f]`` with its bookkeeping, but without its profiling of FLOPs.

    The bookkeeping of a step is the prediction at the rounded code, a clip position by position, and the code taken to
    the host and rounded (in raw units there; here in standard units, to as many decimal places).
    """
    low, high = box
    rounded = x
    for _ in range(steps):
        x = x.detach().clone().requires_grad_(True)
        optimizer = torch.optim.SGD([x], lr=LEARNING_RATE)
        optimizer.zero_grad()
        network.zero_grad()
        _ = [out[0].detach().cpu().tolist() for out in network(rounded)]
        _loss(network, push, x).backward()
        optimizer.step()
        with torch.no_grad():
            for i in range(x.shape[1]):
                if x[0][i] > high[i]:
                    x[0][i] = high[i]
                if x[0][i] < low[i]:
                    x[0][i] = low[i]
        rounded = torch.tensor([[round(value, 2) for value in x[0].detach().cpu().numpy().tolist()]], device=x.device)
    return x.detach()


def invert_frozen(network: Any, push: torch.Tensor, x: torch.Tensor, box: Box, steps: int) -> torch.Tensor:
    """Runs the same loop without unneeded work: frozen weights, only the gradient of the codes, no optimizer object."""
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_loss(network, push, x), x)
        x = torch.clamp(x.detach() - LEARNING_RATE * gradient, *box)
    return x


class FoldedNetwork:
    """Folded layers that end in the objective, with forward and backward passes by hand in reused buffers.

    Args:
      weights: weights ``[inputs, outputs]`` of each layer but the last.
      biases: biases of these layers.
      pull: [h] gradient of the loss with respect to the last hidden layer, the same at each step.
      log: mean and standard deviation of the raw features; None for a network without logarithms.
    """

    def __init__(
        self,
        weights: list[torch.Tensor],
        biases: list[torch.Tensor],
        pull: torch.Tensor,
        log: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        self.weights, self.biases, self.pull, self.log = weights, biases, pull, log
        self.back = [w.T.contiguous() for w in weights]

    def invert(self, x: torch.Tensor, box: Box, steps: int) -> torch.Tensor:
        """Descends along the gradient of the loss from codes ``x`` [n, f] in standard units.

        A GPU takes all rows at once; a CPU takes them tile by tile, one tile per core at a time.
        """
        if x.is_cuda:
            return self._invert_tile(x.clone(), box, steps)
        tiles = [tile.clone() for tile in x.split(_TILE)]
        return torch.cat(list(_pool().map(lambda tile: self._invert_tile(tile, box, steps), tiles)))

    @torch.no_grad()
    def _invert_tile(self, x: torch.Tensor, box: Box, steps: int) -> torch.Tensor:
        silu, slope = torch.ops.aten.silu, torch.ops.aten.silu_backward
        sums = [x.new_empty(len(x), w.shape[1]) for w in self.weights]
        values = [torch.empty_like(s) for s in sums]
        first = x.new_empty(len(x), self.weights[0].shape[0])
        pull = self.pull.expand(len(x), -1).contiguous()
        for _ in range(steps):
            hidden, factor = self._inputs(x)
            for w, b, total, value in zip(self.weights, self.biases, sums, values, strict=True):
                torch.addmm(b, hidden, w, out=total)
                hidden = silu.out(total, out=value)
            gradient = pull
            for i in range(len(sums) - 1, -1, -1):
                # The values are no longer needed: the gradient overwrites them.
                slope.grad_input(gradient, sums[i], grad_input=values[i])
                gradient = torch.mm(values[i], self.back[i], out=values[i - 1] if i else first)
            if factor is not None:
                gradient = torch.addcmul(gradient[:, : x.shape[1]], gradient[:, x.shape[1] :], factor)
            x.sub_(gradient, alpha=LEARNING_RATE)
            torch.clamp(x, *box, out=x)
        return x

    def _inputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the inputs of the first layer, and the derivative of the logarithms."""
        if self.log is None:
            return x, None
        mean, std = self.log
        raw = x * std + mean
        factor = torch.where(raw > 0.5, std / (raw * np.log(2.0)), 0.0)
        return torch.cat([x, torch.log2(raw.clamp_min(0.5))], dim=1), factor


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


class TorchBaseline:
    """Answers the requests of a latency measurement for one PyTorch baseline.

    In an ensemble, code i follows network i modulo their number; each network inverts its share in turn.

    Args:
      job: "engine", "started", "folder" (see ``inputs.Setup``), "codes" (to time), "steps", "smoke".
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._import_s = time.time() - job["started"]
        torch.set_num_threads(os.cpu_count() or 1)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with np.load(Path(job["folder"]) / "baseline.npz", allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]).to(self._device) for name in archive.files}
        self._start, self._box = arrays["start"][: job["codes"]], (arrays["low"], arrays["high"])
        self._members = arrays["selected.w0"].shape[0]
        self._log = (arrays["x_mean"], arrays["x_std"]) if bool(arrays["log"]) else None
        make = self._folded if job["engine"] == FOLDED else self._autograd
        self._invert = make(arrays)

    def facts(self) -> dict[str, Any]:
        """Returns operations of a code-step, codes in a timed run, start-up seconds, memory."""
        device = torch.cuda.max_memory_allocated() / 1e6 if self._device.type == "cuda" else None
        return {
            "flops_per_code_step": self._flops,
            "codes_timed": len(self._start),
            "import_s": self._import_s,
            "peak_memory_mb": peak_memory_mb(),
            "device_peak_memory_mb": device,
        }

    def run(self) -> dict[str, Any]:
        """Times inversions in a row, at least 20 ms of them; returns the "seconds" of one."""
        return {"seconds": timed(self._run, self._calls)}

    def ends(self, path: str) -> dict[str, Any]:
        """Writes the end points in standard units (.npy); returns {}."""
        np.save(path, self._invert(self._start).cpu().numpy())
        return {}

    @functools.cached_property
    def _calls(self) -> int:
        return calls_for(0.0 if self._job["smoke"] else 0.02, self._run)

    def _run(self, calls: int) -> None:
        for _ in range(calls):
            self._invert(self._start)
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _autograd(self, arrays: State) -> Callable[[torch.Tensor], torch.Tensor]:
        states = [
            {name.removeprefix("net."): a[k] for name, a in arrays.items() if name.startswith("net.")}
            for k in range(self._members)
        ]
        networks = [
            (AuthorsNetwork(s) if "trunk.weight" in s else DenseNetwork(s, self._log)).to(self._device) for s in states
        ]
        push, steps = arrays["push"], self._job["steps"]
        parts = {networks[0].columns[i][0] for i, weight in enumerate(push.tolist()) if weight}
        engine = self._job["engine"]
        frozen = engine not in (AUTHORS, LOOP_TORCH)
        shapes = {name: tuple(a.shape) for name, a in states[0].items()}
        self._flops = autograd_flops(shapes, parts, frozen=frozen)
        if engine == LOOP_TORCH:  # for the prediction at the rounded code
            self._flops += 2 * sum(weight_sizes(shapes).values())
        loops = {AUTHORS: invert_as_authors, LOOP_TORCH: invert_one_as_authors}
        invert = loops.get(engine, invert_frozen)
        shares = [
            functools.partial(invert, n.requires_grad_(not frozen), push, box=self._box, steps=steps) for n in networks
        ]
        if engine == LOOP_TORCH:
            return lambda x: torch.cat([shares[i % len(shares)](x[i : i + 1]) for i in range(len(x))])
        return functools.partial(_in_shares, shares)

    def _folded(self, arrays: State) -> Callable[[torch.Tensor], torch.Tensor]:
        layers = sum(name.startswith("selected.w") for name in arrays)
        networks = []
        for k in range(self._members):
            *weights, last = (arrays[f"selected.w{i}"][k] for i in range(layers))
            biases = [arrays[f"selected.b{i}"][k] for i in range(layers - 1)]
            networks.append(FoldedNetwork(weights, biases, last @ (-DELTA * arrays["selected.push"]), self._log))
        self._flops = 4 * sum(int(w.numel()) for w in networks[0].weights)
        shares = [functools.partial(n.invert, box=self._box, steps=self._job["steps"]) for n in networks]
        return functools.partial(_in_shares, shares)


def _in_shares(shares: Sequence[Callable[[torch.Tensor], torch.Tensor]], x: torch.Tensor) -> torch.Tensor:
    """Inverts code i by function i modulo their number."""
    if len(shares) == 1:
        return shares[0](x)
    ends = torch.empty_like(x)
    for k, invert in enumerate(shares):
        if k < len(x):
            ends[k :: len(shares)] = invert(x[k :: len(shares)].contiguous())
    return ends
