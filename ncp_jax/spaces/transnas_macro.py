"""Defines the macro space of TransNAS-Bench-101: 4 to 6 modules (Duan et al., arXiv 2105.11871, section 3.1)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.base import CategoricalSpace
from ncp_jax.spaces.codes import draw
from ncp_jax.spaces.graphs import ArchitectureGraphs, chain, join_features, one_hot
from ncp_jax.spaces.registry import register
from ncp_jax.types import Array, Float, Key

MODULES = ("absent", "normal", "channels x2", "resolution /2", "channels x2 and resolution /2")
SHORTEST, LONGEST = 4, 6
DOWNSAMPLINGS = (1, 4)  # fewest and most modules that halve the resolution
DOUBLINGS = (1, 3)  # fewest and most modules that double the channels


def doubles(module: Any) -> Any:
    """Returns whether a module type doubles the channels; for integers or arrays of them."""
    return (module == 2) | (module == 4)


def halves(module: Any) -> Any:
    """Returns whether a module type halves the resolution; for integers or arrays of them."""
    return (module == 3) | (module == 4)


@dataclasses.dataclass(frozen=True)
class MacroSpace(CategoricalSpace):
    """Codes of 4 to 6 modules 1..4, padded with zeros to 6; 3256 codes; strings like ``64-1234-basic``.

    A code is legal if its zeros are at the end, one to four modules halve the resolution and one to three double the
    channels. An edit changes one position: another module type, one more module at the end, or the last one removed.

    Graphs (v = 6, a chain of modules): a node has a one-hot of its module, log2 of its output's channels over those of
    the first module's input, log2 of its output's side over that of the input, and its place / 5. Absent modules are
    not live. Attributes: modules; log2 of multiply-adds and of parameters (two basic blocks per module; in units of
    base channels squared, multiply-adds also of input pixels); the log2 channels after each place, then the log2 sides
    (where a module is absent, those before it); the means of both.
    """

    @property
    def size(self) -> int:
        """Number of legal codes, 3256."""
        return len(self._legal)

    @property
    def written_lengths(self) -> tuple[int, ...]:
        """4 to 6: absent modules at the end need not be written."""
        return tuple(range(SHORTEST, LONGEST + 1))

    @functools.cached_property
    def _legal(self) -> np.ndarray:
        """All legal codes in lexicographic order, int32 [3256, 6]."""
        every = np.array(list(itertools.product(*self.values)), dtype=np.int32)
        return every[self._is_valid(every)]

    @functools.cached_property
    def _places(self) -> np.ndarray:
        """The index of each combination of six letters (the first weighs most), -1 if illegal, int32 [5**6]."""
        places = np.full(self.letters**self.length, -1, dtype=np.int32)
        places[(self._legal * self._radix).sum(axis=-1)] = np.arange(self.size)
        return places

    @property
    def _radix(self) -> np.ndarray:
        return self.letters ** np.arange(self.length - 1, -1, -1, dtype=np.int32)

    def smooth_attributes(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
        """Returns the attributes of the graphs for sequences whose places hold shares of each module type."""
        shares = self._blocks(relaxed)
        live = 1 - shares[..., 0]
        doubled, halved = shares[..., 2] + shares[..., 4], shares[..., 3] + shares[..., 4]
        changed = shares[..., 2:].sum(axis=-1)
        channels, sides = jnp.cumsum(doubled, axis=1), -jnp.cumsum(halved, axis=1)
        outputs = jnp.exp2(channels)
        inputs = outputs / (1 + doubled)
        weights = 9 * inputs * outputs + 27 * outputs**2 + changed * inputs * outputs
        costs = [jnp.log2((cost * live).sum(axis=1)) for cost in (jnp.exp2(2 * sides) * weights, weights)]
        means = [after.mean(axis=1, keepdims=True) for after in (channels, sides)]
        return jnp.concatenate([jnp.stack([live.sum(axis=1), *costs], axis=1), channels, sides, *means], axis=1)

    def _graphs(self, codes: np.ndarray) -> ArchitectureGraphs:
        length, live = codes.shape[1], codes > 0
        wider, coarser = doubles(codes), halves(codes)
        channels, sides = wider.cumsum(axis=1), -coarser.cumsum(axis=1)
        outputs = np.exp2(channels)
        inputs = outputs / (1 + wider)
        # A block is two 3x3 convolutions; the first of the module's four reads the input, as does the 1x1 projection.
        weights = 9 * inputs * outputs + 27 * outputs**2 + (wider | coarser) * inputs * outputs
        multiply_adds = np.exp2(2 * sides) * weights
        costs = [np.log2((cost * live).sum(axis=1)) for cost in (multiply_adds, weights)]
        scalars = np.stack([live.sum(axis=1), *costs], axis=1)
        means = [after.mean(axis=1, keepdims=True) for after in (channels, sides)]
        nodes = np.concatenate([one_hot(codes, len(MODULES)), np.stack([channels, sides], axis=-1)], axis=-1)
        places = np.linspace(0, 1, length)[:, None]
        return join_features(nodes, live, chain(length), [scalars, channels, sides, *means], places=places)

    def _is_valid(self, codes: Any) -> Any:
        padded = ((codes[..., :-1] > 0) | (codes[..., 1:] == 0)).all(axis=-1)
        down, double = self._counts_of(codes)
        legal = super()._is_valid(codes) & padded
        legal = legal & (down >= DOWNSAMPLINGS[0]) & (down <= DOWNSAMPLINGS[1])
        return legal & (double >= DOUBLINGS[0]) & (double <= DOUBLINGS[1])

    @staticmethod
    def _counts_of(codes: Any) -> tuple[Any, Any]:
        """Returns how many modules halve the resolution, and how many double the channels."""
        return halves(codes).sum(axis=-1), doubles(codes).sum(axis=-1)

    def _project(self, relaxed: Array) -> Array:
        return self._project_among(relaxed, self._legal)

    def _sample(self, key: Key, ids: Array) -> Array:
        return self._from_index(draw(key, ids, np.array([self.size]))[:, 0])

    def _mutate(self, key: Key, ids: Array, codes: Array) -> Array:
        candidates, valid = self._neighbours(codes)
        rank = draw(key, ids, np.array([2**31]))[:, 0] % valid.sum(axis=-1, dtype=np.int32)
        chosen = (valid.cumsum(axis=-1) > rank[:, None]).argmax(axis=-1)
        return jnp.take_along_axis(candidates, chosen[:, None, None], axis=1)[:, 0]

    def _index(self, codes: Array) -> Array:
        key = (codes * self._radix).sum(axis=-1)
        return jnp.where(self._is_valid(codes), jnp.asarray(self._places)[key], -1)

    def _from_index(self, index: Array) -> Array:
        return jnp.asarray(self._legal)[index]

    def _fault(self, code: np.ndarray) -> tuple[str, str]:
        if not super()._is_valid(code):
            return super()._fault(code)
        down, double = self._counts_of(code)
        expected = (
            f"{SHORTEST} to {LONGEST} modules with zeros only at the end, "
            f"{DOWNSAMPLINGS[0]} to {DOWNSAMPLINGS[1]} of them type 3 or 4 (resolution /2) and "
            f"{DOUBLINGS[0]} to {DOUBLINGS[1]} type 2 or 4 (channels x2)"
        )
        return expected, f"{code.astype(int).tolist()} with {down} and {double}"

    def _format(self, code: list[int]) -> str:
        return f"64-{''.join(str(module) for module in code if module)}-basic"

    def _parse(self, text: str) -> list[int]:
        found = re.fullmatch(rf"64-([0-9]{{{SHORTEST},{LONGEST}}})-basic", text)
        if not found:
            raise self._bad_string(text, f"which is not 64-<{SHORTEST} to {LONGEST} digits>-basic")
        if "0" in found[1]:
            raise self._bad_string(text, "with module 0, where modules are 1..4")
        modules = [int(digit) for digit in found[1]]
        return modules + [0] * (LONGEST - len(modules))


TRANSNAS_MACRO = register(
    MacroSpace(
        name="transnas-macro",
        values=((1, 2, 3, 4),) * SHORTEST + ((0, 1, 2, 3, 4),) * (LONGEST - SHORTEST),
        position_names=tuple(f"module {place}" for place in range(1, LONGEST + 1)),
        example="64-1234-basic",
        aliases=("macro", "transnas-bench-101-macro"),
        mark="basic",
    )
)
