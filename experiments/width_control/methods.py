"""The methods that are compared, as settings of one training program, and what is measured of each trained run."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.controllable.answers import Answers
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.measurement import Measurement, measure
from ncp_jax.controllable.model import graph
from ncp_jax.controllable.program import Settings, TrainConfig
from ncp_jax.controllable.search import (
    SearchConfig,
    find_answers,
    make_answers,
    published_rule,
    questions,
)
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import exact_costs, width_space, width_table
from ncp_jax.types import Params
from width_control.asked import Asked

METHODS = ("controllable", "shared_width", "fixed_decoders", "no_ci_kd", "no_in_place")
HYPERNETWORK = "hypernetwork"
NORM = "norm_"  # before the normalisation that takes the place of the default one
NORMS = (NORM + "layer", NORM + "batch")
STATIC = "static-"  # before the number of a static model's ratio
STEPS = 11  # preferences of one task, from 0 to 1
NEAR = 0.01  # share of the oracle's objective by which a choice may be worse


def run_settings(name: str, model: ModelConfig, train: TrainConfig, seed: int) -> Settings:
    """Returns the settings of one run: of a method, or of a static model, trained at one of the ratios alone."""
    if name.startswith(STATIC):
        digits = [int(name.removeprefix(STATIC))] * len(model.names)
        return Settings.make(model, train, seed=seed, low=digits, high=digits)
    if name == "fixed_decoders":
        low = [0] * model.stages + [len(model.ratios) - 1] * len(model.targets)
        return Settings.make(model, train, seed=seed, low=low)
    found = Settings.make(model, train, seed=seed, tied=name == "shared_width")
    if name == "no_ci_kd":
        return found._replace(ci_kd=np.float32(0))
    return found._replace(in_place=np.float32(0)) if name == "no_in_place" else found


def model_of(name: str, model: ModelConfig) -> ModelConfig:
    """Returns the sizes of a method's model: those of all, but for the normalisation of its ablation."""
    return dataclasses.replace(model, norm=name.removeprefix(NORM)) if name.startswith(NORM) else model


def reachable(method: str, model: ModelConfig) -> np.ndarray:
    """Returns the width configurations that a method was trained for, [n, d]."""
    codes = width_space(model).all_codes()
    if method == "shared_width":
        return width_table(model).T
    return codes[(codes[:, model.stages :] == model.decoder).all(axis=1)] if method == "fixed_decoders" else codes


def measure_run(
    method: str, model: ModelConfig, params: Params, examples: Examples, asked: Asked
) -> tuple[dict[str, Any], Measurement, Measurement]:
    """Returns what one run reaches, JSON-ready, and all of its measurements on validation and test.

    Widths are chosen by validation metrics, by enumeration; the points are test metrics, [budgets][rays][tasks]; None
    for a budget that the method cannot keep.
    """
    codes = reachable(method, model)
    validation, test = (measure(model, params, examples, codes, split=split) for split in ("validation", "test"))
    values = validation.of(codes)
    answers = make_answers(model, codes, values, np.full_like(values, np.nan), {})
    points: list[Any] = []
    for budget in asked.budgets:
        if budget < answers.flops[0]:
            points.append(None)
            continue
        chosen = answers.query(budget, asked.rays)
        points.append(test.of(chosen.codes).tolist())
    diagonal = width_table(model).T.copy()
    if method == "fixed_decoders":
        diagonal[:, model.stages :] = model.decoder
    return {"points": points, "ratios": test.of(diagonal).tolist()}, validation, test


def preference_paths(model: ModelConfig, validation: Measurement, test: Measurement, asked: Asked) -> dict[str, Any]:
    """Returns each task's metric while its preference rises from 0 to 1 and the others share the rest.

    Widths are chosen by validation metrics, by enumeration; by split, [budgets][tasks][STEPS].
    """
    codes, tasks = width_space(model).all_codes(), len(model.targets)
    values = validation.of(codes)
    answers = make_answers(model, codes, values, np.full_like(values, np.nan), {})
    own = np.linspace(0, 1, STEPS)[:, None]
    found: dict[str, Any] = {"validation": [], "test": []}
    for budget in asked.budgets:
        rows: dict[str, list[list[float]]] = {split: [] for split in found}
        for task in range(tasks):
            rays = np.where(np.arange(tasks) == task, own, (1 - own) / max(1, tasks - 1))
            chosen = answers.query(budget, rays).codes
            for split, measured in (("validation", validation), ("test", test)):
                rows[split].append(measured.of(chosen)[:, task].tolist())
        for split, by_task in rows.items():
            found[split].append(by_task)
    return found


def measure_static(name: str, model: ModelConfig, params: Params, examples: Examples) -> dict[str, Any]:
    """Returns the test metrics of a static model, JSON-ready."""
    code = width_table(model).T[int(name.removeprefix(STATIC))][None]
    return {"test": measure(model, params, examples, code, split="test").of(code)[0].tolist()}


def compare_searches(
    model: ModelConfig,
    params: Params,
    examples: Examples,
    measurements: tuple[Measurement, Measurement],
    search: SearchConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns how often each way to choose widths comes within 1 % of the oracle's objective, over 500 questions.

    Ways: the published rule, the predictors alone, the predictors with the audit. "_on_test" compares test metrics of
    what is chosen, and of what an oracle of the test metrics would choose.
    """
    validation, test = measurements
    codes = width_space(model).all_codes()
    values = {"": validation.of(codes), "_on_test": test.of(codes)}
    none = np.full_like(values[""], np.nan)
    oracles = {name: make_answers(model, codes, found, none, {}) for name, found in values.items()}
    begin = time.perf_counter()
    audited = find_answers(model, params, examples, search, seed=seed, origin={})
    seconds = time.perf_counter() - begin
    guessed = dataclasses.replace(audited, measured=np.full_like(audited.measured, np.nan)).pruned()
    budgets, rays = questions(model, 500, seed=seed + 100)
    rule = [published_rule(model, validation, float(b), ray) for b, ray in zip(budgets, rays, strict=True)]
    chosen = {
        "published_rule": np.stack(rule),
        "predictors": guessed.query(np.maximum(budgets, guessed.flops[0]), rays).codes,
        "audited": audited.query(budgets, rays).codes,
    }
    found: dict[str, Any] = {"seconds": round(seconds, 2), "configurations": len(audited.flops)}
    for name, widths in chosen.items():
        costs = exact_costs(model, widths)["flops"]
        row: dict[str, Any] = {"above_budget": int((costs > budgets).sum())}
        for split, measured in (("", validation), ("_on_test", test)):
            best = (oracles[split].query(budgets, rays).measurements * rays).sum(axis=1)
            gap = (best - (measured.of(widths) * rays).sum(axis=1)) / np.maximum(np.abs(best), 1e-9)
            row |= {f"within{split}": float((gap <= NEAR).mean()), f"mean_gap{split}": float(gap.mean())}
        found[name] = row
    return found | {"query": query_speed(audited)}


def query_speed(answers: Answers) -> dict[str, float]:
    """Returns seconds of 10 000 questions in one call, and of one question (the median of 200)."""
    rng = np.random.default_rng(0)
    budgets = rng.uniform(answers.flops[0], answers.flops[-1], 10_000)
    rays = rng.dirichlet(np.ones(len(answers.tasks)), 10_000)
    begin = time.perf_counter()
    answers.query(budgets, rays)
    together, alone = time.perf_counter() - begin, []
    for budget, ray in zip(budgets[:200], rays[:200], strict=True):
        begin = time.perf_counter()
        answers.query(float(budget), ray)
        alone.append(time.perf_counter() - begin)
    return {"seconds_10000": together, "seconds_one": float(np.median(alone))}


def measurement_speed(model: ModelConfig, params: Params, examples: Examples, few: int) -> dict[str, float]:
    """Returns seconds for 1000 configurations in one call, and what 1000 would take one at a time.

    One at a time twice: as calls of one compiled program with the widths as data, and as sliced networks, each with a
    program of its own, which a model without masks needs. Both are measured on a few and scaled.
    """
    from flax import nnx

    codes = np.asarray(width_space(model).sample(jax.random.key(7), 1000))
    images = jnp.asarray(examples.part("validation")[0])

    @jax.jit
    def outputs(params: Params, widths: Any, images: Any) -> Any:
        return nnx.merge(graph(model), params)(images, widths)

    measure(model, params, examples, codes[:1])
    jax.block_until_ready(outputs(params, codes[0], images))
    begin = time.perf_counter()
    measure(model, params, examples, codes)
    together = time.perf_counter() - begin
    begin = time.perf_counter()
    for code in codes[:few]:
        jax.block_until_ready(outputs(params, code, images))
    masked = (time.perf_counter() - begin) / few * 1000
    whole = nnx.merge(graph(model), params)
    begin = time.perf_counter()
    for code in codes[: max(1, few // 5)]:
        part = whole.sliced(code)
        jax.block_until_ready(jax.jit(lambda x, part=part: part(x))(images))
    sliced = (time.perf_counter() - begin) / max(1, few // 5) * 1000
    return {"one_call": together, "masked_one_at_a_time": masked, "sliced_one_at_a_time": sliced}
