"""TransNAS-Bench-101 macro: sequences of 4 to 6 modules (Duan et al., CVPR 2021, arXiv 2105.11871, section 3.1)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.base import CategoricalSpace, draw
from ncp_jax.types import Array, Key

MODULES = ("absent", "normal", "channels x2", "resolution /2", "channels x2 and resolution /2")
SHORTEST, LONGEST = 4, 6
DOWNSAMPLINGS = (1, 4)  # fewest and most modules that halve the resolution
DOUBLINGS = (1, 3)  # fewest and most modules that double the channels


def doubles(module: Any) -> Any:
    """Whether a module type doubles the channels; of integers or of arrays of them."""
    return (module == 2) | (module == 4)


def halves(module: Any) -> Any:
    """Whether a module type halves the resolution; likewise."""
    return (module == 3) | (module == 4)


@dataclasses.dataclass(frozen=True)
class MacroSpace(CategoricalSpace):
    """Codes of 4 to 6 modules 1..4, padded with zeros to 6; 3256 codes; strings like ``64-1234-basic``.

    A code is legal if its zeros are at the end, one to four modules halve the resolution and one to three double the
    channels. An edit changes one position: another module type, one more module at the end, or the last one taken off.
    """

    @property
    def size(self) -> int:
        """Number of legal codes, 3256."""
        return len(self._legal)

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

    def _is_valid(self, codes: Any) -> Any:
        padded = ((codes[..., :-1] > 0) | (codes[..., 1:] == 0)).all(axis=-1)
        down, double = self._counts_of(codes)
        legal = super()._is_valid(codes) & padded
        legal = legal & (down >= DOWNSAMPLINGS[0]) & (down <= DOWNSAMPLINGS[1])
        return legal & (double >= DOUBLINGS[0]) & (double <= DOUBLINGS[1])

    @staticmethod
    def _counts_of(codes: Any) -> tuple[Any, Any]:
        """How many modules halve the resolution, and how many double the channels."""
        return halves(codes).sum(axis=-1), doubles(codes).sum(axis=-1)

    def _project(self, relaxed: Array) -> Array:
        # All one-hot codes have the same norm: the nearest one has the largest inner product.
        hot = self._encode(self._legal)
        scores = jnp.matmul(relaxed, hot.T, precision=jax.lax.Precision.HIGHEST)
        return jnp.asarray(self._legal)[jnp.argmax(scores, axis=-1)]

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


TRANSNAS_MACRO = MacroSpace(
    name="transnas-macro",
    values=((1, 2, 3, 4),) * SHORTEST + ((0, 1, 2, 3, 4),) * (LONGEST - SHORTEST),
    position_names=tuple(f"module {place}" for place in range(1, LONGEST + 1)),
    example="64-1234-basic",
)
