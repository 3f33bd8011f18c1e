"""Holds the settings of a search and checks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax import checks
from ncp_jax.commands.user_table import is_name

if TYPE_CHECKING:
    from ncp_jax.propagation import Execution, HeldOutError, Limit, PropagationConfig, TrustRegion

PREFERENCES = 64  # weightings of a search for a Pareto front
# Settings with the same name here and in PropagationConfig.
OPTIONS = ("discreteness", "restarts", "polish", "same_network")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """What to search for, and how.

    Attributes:
      task: Benchmark task: seg (the default), cls-50-100, nas-bench-201/cifar10, transnas-micro/jigsaw, ... (see
        `ncp-jax data list`). With --table, the task of the space whose network's costs are meant: jigsaw, digits/class,
        ...; by default the space's first.
      table: CSV file of your own: one column of architectures, the others metrics. Needs --space and a direction
        (--maximize or --minimize). Or the name of a table, without an ending: one that was imported (see
        `ncp-jax data import`).
      space: Space of --table: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro, nats-size; or a file
        (space.toml).
      architecture: Column of the architectures in --table; by default the one called architecture, else the first. May
        be repeated for one column per position of the code; * and ? are wildcards: x*.
      seeds: Lines of --table that repeat an architecture with other values: refuse, mean (one row with their mean) or
        each (one row per line).
      notation: How architectures in --table are written, where they are no strings: ncp-jax, ops (names of operations);
        in nas-bench-201 also naslib or nats-index. Needed for names, and for integers in nas-bench-201.
      maximize: Metric to raise, NAME or NAME=WEIGHT (weights in standard deviations). May be repeated.
      minimize: Metric to lower, NAME or NAME=WEIGHT. May be repeated.
      codes: Number of random starts, moved at once.
      steps: Number of gradient steps.
      strategy: continuous (all positions move) or winner-takes-all (only the position with the largest gradient).
      precision: Precision of the matrix products in the gradient loop: float32, tf32 or bfloat16.
      max_gflops: Upper limit on the GFLOPs (multiply-adds / 1e9) of an architecture; short for --limit 'gflops<=X'.
      limit: Limit on a metric of the table or a cost of the space, NAME<=NUMBER (or >=, <, >; quote it): params<3e6,
        latency_ms<=20. Exact where the cost is known, else with --limit-confidence. May be repeated.
      limit_confidence: Probability with which a limit on a predicted metric shall hold for an architecture, by the
        errors of the predictor on rows held out; by default 0.9.
      flops_of: Whose FLOPs and parameters are meant: table (what the published table counts) or task (the task's own
        network). They differ in nas-bench-mr, whose table counts one image classifier for all of its tasks.
      pareto: Look for the Pareto front between the metrics of --maximize and --minimize, by default the task's main
        metric and FLOPs, and return it beside the best by the weights.
      preferences: Number of weightings of the metrics among which --pareto divides the codes; by default 64.
      bound: Narrower limits on positions, POSITION=LOW..HIGH; the wildcards * and ? are allowed:
        *.num_channels[*]=8..64. May be repeated.
      confidence: Number of standard deviations of the ensemble between its mean and the bound that codes follow and
        are ranked by, on the pessimistic side; 0 for the mean.
      trust: Weight of a trust region around the measured table; 0 for none.
      discreteness: Where gradients are taken: none (at the relaxed code), straight-through (at the nearest legal
        code), annealed (from the first to the second).
      restarts: Rounds in which codes that repeat an architecture start again elsewhere.
      polish: Number of the best architectures whose single edits are all tried at the end.
      same_network: Rule by which two codes are the same network, of which one is kept: isomorphism; in nas-bench-201
        also topology (that of its article) or function (equal outputs).
      keep: Maximum number of architectures kept.
      devices: Number of devices that share the codes; by default all.
      memory_mb: Device memory that may be used at once, in MB.
      seed: Random seed of the starts and of any training.
      members: Number of networks in the ensemble, where one is trained.
      retrain: Train from the table, even where a predictor ships with the package.
      on_test: Allow a table of test values (NAS-Bench-201) to be learned; the result says so.
      audit: Check the architectures that are shown: predictions by models of other families, intervals that are
        calibrated on rows held out, and the distance to the nearest measured architecture. Needs the measured table.
    """

    task: str = ""
    table: Path | None = None
    space: str | None = None
    architecture: tuple[str, ...] = ()
    seeds: str = "refuse"
    notation: str | None = None
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    codes: int = 4096
    steps: int = 70
    strategy: str = "continuous"
    precision: str = "float32"
    max_gflops: float | None = None
    limit: tuple[str, ...] = ()
    limit_confidence: float | None = None
    flops_of: str = "table"
    pareto: bool = False
    preferences: int | None = None
    bound: tuple[str, ...] = ()
    confidence: float = 0.0
    trust: float = 0.0
    discreteness: str = "none"
    restarts: int = 0
    polish: int = 0
    same_network: str = "isomorphism"
    keep: int = 65536
    devices: int | None = None
    memory_mb: float | None = None
    seed: int = 0
    members: int = 8
    retrain: bool = False
    on_test: bool = False
    audit: bool = False

    def __post_init__(self) -> None:
        checks.positive("--confidence", self.confidence, zero=True)
        checks.positive("--trust", self.trust, zero=True)
        self.propagation(None)
        self.execution()
        checks.choose("value of --flops-of", self.flops_of, ("table", "task"))
        for name in ("codes", "members"):
            checks.integer(f"--{name}", getattr(self, name), least=1, remedy=f"give a larger --{name}")
        checks.integer("--seed", self.seed, least=0, most=2**32 - 1, remedy="try --seed 0")
        if self.max_gflops is not None:
            checks.positive("--max-gflops", self.max_gflops)
        if self.table is not None and self.space is None and not self.is_named:
            raise checks.UsageError(
                expected="--space NAME with --table",
                got="no --space",
                remedy="name the space that the architectures belong to",
            )
        if self.table is not None and not self.is_named and not (self.maximize or self.minimize):
            raise checks.UsageError(
                expected="--maximize or --minimize COLUMN with --table",
                got="neither",
                remedy="directions are never guessed from a column's name",
            )
        checks.choose("rule for --seeds", self.seeds, ("refuse", "mean", "each"))
        for name, given in (
            ("--space", self.space),
            ("--architecture", self.architecture),
            ("--notation", self.notation),
            ("--seeds", self.seeds != "refuse"),
        ):
            if (self.table is None or self.is_named) and given:
                got, remedy = ("no --table", " or add --table") if self.table is None else (f"table {self.table}", "")
                raise checks.UsageError(expected=f"--table FILE with {name}", got=got, remedy=f"drop {name}{remedy}")
        self._check_unused()
        self.limits({})

    @property
    def is_named(self) -> bool:
        """Whether --table is the name of a table, not a file."""
        return self.table is not None and is_name(self.table, self.space)

    def _check_unused(self) -> None:
        """Raises a UsageError for an option that would be ignored."""
        if self.table is not None and self.retrain:
            raise checks.UsageError(
                expected="no --retrain with --table",
                got="both",
                remedy="drop it: a table of your own is always learned",
            )
        if self.preferences is not None and not self.pareto:
            raise checks.UsageError(
                expected="--pareto with --preferences", got="no --pareto", remedy="add --pareto or drop --preferences"
            )
        if self.limit_confidence is not None and not self.limit and self.max_gflops is None:
            raise checks.UsageError(
                expected="--limit with --limit-confidence", got="no limit", remedy="add a --limit, or drop it"
            )

    def limits(self, errors: Mapping[str, HeldOutError]) -> tuple[Limit, ...]:
        """Returns the limits, with the held-out errors of the metrics that are predicted.

        Raises:
          UsageError: a text that is no limit, or a confidence that is none.
        """
        from ncp_jax.propagation.limit import CONFIDENCE, Limit

        by_lower = {name.lower(): error for name, error in errors.items()}
        confidence = CONFIDENCE if self.limit_confidence is None else self.limit_confidence
        limits = [dataclasses.replace(Limit.parse(text), confidence=confidence) for text in self.limit]
        if self.max_gflops is not None:
            # Where FLOPs are predicted, the short form has always been a limit on the mean.
            limits.insert(0, Limit("gflops", "<=", self.max_gflops, self.limit_confidence))
        cost_names = {"gflops": "flops"}
        return tuple(
            dataclasses.replace(limit, error=by_lower.get(cost_names.get(limit.metric.lower(), limit.metric.lower())))
            for limit in limits
        )

    @property
    def limits_flops(self) -> bool:
        """Whether there is a limit on FLOPs."""
        return any(limit.metric.lower() in ("flops", "gflops") for limit in self.limits({}))

    def propagation(self, region: TrustRegion | None) -> PropagationConfig:
        """Returns the settings of the gradient loop; UsageError for an illegal one."""
        from ncp_jax.propagation import PropagationConfig
        from ncp_jax.spaces import parse_bounds

        return PropagationConfig(
            steps=self.steps,
            strategy=self.strategy,
            follow="bound" if self.confidence else "member",
            confidence=self.confidence,
            precision=self.precision,
            region=region,
            bounds=parse_bounds(self.bound),
            preferences=(self.preferences or PREFERENCES) if self.pareto else 1,
            **{name: getattr(self, name) for name in OPTIONS},
        )

    def execution(self, progress: Callable[[int, int], None] | None = None) -> Execution:
        """Returns where the loop runs; UsageError for an illegal setting."""
        from ncp_jax.propagation import Execution

        return Execution(devices=self.devices, memory_mb=self.memory_mb, keep=self.keep, progress=progress)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings of the loop as ``result.json`` lists them."""
        from ncp_jax.spaces import parse_bounds

        first = ("seed", "codes", "steps", "strategy", "precision", "max_gflops", "limit_confidence", "flops_of")
        bounds = {str(key): list(ends) for key, ends in parse_bounds(self.bound).items()}
        return {
            **{name: getattr(self, name) for name in first},
            "bounds": bounds,
            **{name: getattr(self, name) for name in ("confidence", "trust", *OPTIONS, "on_test")},
        }
