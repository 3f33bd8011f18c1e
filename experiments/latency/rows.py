"""The results of a latency measurement: one row per engine, as records and summary.json hold them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

ENGINE = "ncp-jax"


@dataclasses.dataclass(frozen=True)
class StartUp:
    """Seconds from the start of a process to its first result, in parts.

    Attributes:
      import_s: from the start of the process until all modules are imported.
      backend_s: starting the device.
      load_s: loading predictor and starts.
      compile_s: compilation, as ``propagate`` reports it.
      search_s: the search itself, as ``propagate`` reports it.
      first_result_s: from the start of the process to the first result.
      first_result_after_import_s: the same without the imports.
    """

    import_s: float
    backend_s: float
    load_s: float
    compile_s: float
    search_s: float
    first_result_s: float
    first_result_after_import_s: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any], prefix: str = "") -> StartUp:
        """Reads the fields from a larger object, in which their names begin with ``prefix``."""
        return cls(**{f.name: content[prefix + f.name] for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class ProductRates:
    """Rates of plain matrix products on the same device, in floating-point operations per second.

    Attributes:
      full: products of all codes at once; None where these are too large to be held.
      tile: products of the engine's tiles.
      best: fastest square product.
      best_size: its number of rows.
    """

    full: float | None
    tile: float
    best: float
    best_size: int

    @property
    def reference(self) -> float:
        """The rate that engines are compared with: full or tile products, whichever the device does faster."""
        return max(self.tile, self.full or 0.0)

    @classmethod
    def median(cls, rounds: Sequence[Mapping[str, float]]) -> ProductRates:
        """Returns the medians over rounds of what ``Products.rates`` gave."""
        medians = {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]}
        squares = {name: rate for name, rate in medians.items() if name.startswith("square")}
        best = max(squares, key=squares.__getitem__)
        return cls(medians.get("full"), medians["tile"], squares[best], int(best.split()[1]))

    def to_json(self) -> dict[str, Any]:
        """Returns the rates under the names that rows give them."""
        return {
            "products_full_flops_per_s": self.full,
            "products_tile_flops_per_s": self.tile,
            "products_flops_per_s": self.reference,
            "best_products_flops_per_s": self.best,
            "best_products_size": self.best_size,
        }


@dataclasses.dataclass(frozen=True)
class OwnDetails:
    """What is measured of this package's engine alone.

    Attributes:
      tile: shape of the engine's tiles.
      cold: start-up with an empty compilation cache.
      warm: start-up with a filled compilation cache.
      changed_architectures: share of the codes that end in another architecture than with float32 products.
    """

    tile: list[int]
    cold: StartUp
    warm: StartUp
    changed_architectures: float


@dataclasses.dataclass(frozen=True)
class BaselineDetails:
    """What is measured of a baseline alone.

    Attributes:
      import_s: seconds from the start of its process until all modules are imported.
      agreement: its end points against those of the engine, see ``Engine.compare``.
    """

    import_s: float
    agreement: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """The measurement of one engine.

    Attributes:
      engine: ``ENGINE`` or the name of a baseline.
      codes: number of codes inverted at once.
      steps: iterations of an inversion.
      precision: precision of the matrix products.
      seed: random seed of network and starts.
      codes_timed: number of codes in a timed run.
      runs_s: seconds of each timed run.
      flops_per_code_step: floating-point operations that one step of one code needs.
      products: rates of plain matrix products.
      peak_memory_mb: peak memory of the process; for the engine, of one that did nothing but one ``propagate`` of this
        size, its compilation included.
      device_peak_memory_mb: peak of the device's own memory; None where it is not known.
      details: what only the engine or only a baseline has.
      others_busy_cores: cores that other processes kept busy meanwhile, on average; None where it is not known.
    """

    engine: str
    codes: int
    steps: int
    precision: str
    seed: int
    codes_timed: int
    runs_s: list[float]
    flops_per_code_step: int
    products: ProductRates
    peak_memory_mb: float
    device_peak_memory_mb: float | None
    details: OwnDetails | BaselineDetails
    others_busy_cores: float | None = None

    @property
    def median_s(self) -> float:
        """Median seconds of a timed run."""
        return statistics.median(self.runs_s)

    @property
    def code_steps_per_s(self) -> float:
        """Codes times steps per second."""
        return self.codes_timed * self.steps / self.median_s

    @property
    def flops_per_s(self) -> float:
        """Floating-point operations per second that the inversion needs."""
        return self.code_steps_per_s * self.flops_per_code_step

    @property
    def fraction(self) -> float:
        """Share of the rate of plain matrix products at the shapes of the inversion."""
        return self.flops_per_s / self.products.reference

    @property
    def changed_architectures(self) -> float:
        """Share of the codes that end in another architecture than with float32 products; 0 for baselines."""
        return self.details.changed_architectures if isinstance(self.details, OwnDetails) else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the row as a flat object."""
        names = ("engine", "codes", "steps", "precision", "seed", "codes_timed", "runs_s", "median_s")
        rates = ("code_steps_per_s", "flops_per_code_step", "flops_per_s")
        row = {name: getattr(self, name) for name in (*names, *rates)} | self.products.to_json()
        row |= {"fraction": self.fraction, "fraction_of_best": self.flops_per_s / self.products.best}
        row |= {name: getattr(self, name) for name in ("peak_memory_mb", "device_peak_memory_mb", "others_busy_cores")}
        if isinstance(self.details, BaselineDetails):
            return row | vars(self.details)
        cold, warm = (vars(start) for start in (self.details.cold, self.details.warm))
        row |= {"tile": self.details.tile, "changed_architectures": self.details.changed_architectures}
        row |= {f"cold_{name}": value for name, value in cold.items()}
        return row | {f"warm_{name}": value for name, value in warm.items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """Reads what ``to_json`` returned."""
        details: OwnDetails | BaselineDetails
        if row["engine"] == ENGINE:
            cold, warm = (StartUp.from_json(row, prefix) for prefix in ("cold_", "warm_"))
            details = OwnDetails(row["tile"], cold, warm, row["changed_architectures"])
        else:
            details = BaselineDetails(row["import_s"], row["agreement"])
        rates = ("products_full", "products_tile", "best_products")
        full, tile, best = (row[f"{name}_flops_per_s"] for name in rates)
        products = ProductRates(full, tile, best, row["best_products_size"])
        names = [f.name for f in dataclasses.fields(cls) if f.name not in ("products", "details")]
        return cls(**{name: row[name] for name in names}, products=products, details=details)
