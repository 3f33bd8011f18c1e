from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.benchmarks import MetricSpec, Table, join
from ncp_jax.checks import DataError, UsageError

METRICS = (
    MetricSpec("flops", unit="M", direction="minimize", kind="cost"),
    MetricSpec("top1", task="a", split="validation", epoch="final", unit="%"),
    MetricSpec("loss", task="a", split="validation", epoch="final", direction="minimize"),
)
CODES = np.array([[0, 1, 2, 3, 0, 1], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [1, 2, 3, 0, 1, 2]], np.int32)
VALUES = np.array([[10.0, 50.5, 0.5], [40.0, 70.25, 0.25], [1.0, 10.0, 2.0], [20.0, 60.0, 0.75]])


def make(**changes) -> Table:
    fields = {"space": "transnas-micro", "codes": CODES, "values": VALUES, "metrics": METRICS, **changes}
    return Table.from_arrays("mine", **fields)


def test_columns_and_their_meaning() -> None:
    table = make()
    assert len(table) == 4
    assert table.main.name == "top1"
    assert table.metric("TOP1") is METRICS[1]
    assert table.column("loss").dtype == jnp.float32
    np.testing.assert_array_equal(table.column("loss"), [0.5, 0.25, 2.0, 0.75])
    np.testing.assert_array_equal(table.oriented("loss"), [-0.5, -0.25, -2.0, -0.75])
    np.testing.assert_array_equal(table.oriented("top1"), table.column("top1"))
    assert table.space == "transnas-micro"
    assert repr(table) == "Table('mine', space='transnas-micro', codes=(4, 6), metrics=(flops, top1, loss))"


def test_unknown_column_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"expected a known metric, got 'top5'; did you mean: top1"):
        make().column("top5")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64])
def test_rows_of_any_integer_type(dtype: type) -> None:
    wanted = np.stack([CODES[3], CODES[0], np.full(6, 2)]).astype(dtype)
    np.testing.assert_array_equal(make().rows(wanted), [3, 0, -1])


def test_rows_of_single_codes_blocks_and_lists() -> None:
    table = make()
    assert int(table.rows(CODES[1])) == 1
    assert table.rows(CODES.reshape(2, 2, 6)).tolist() == [[0, 1], [2, 3]]
    assert table.rows([[3, 3, 3, 3, 3, 3]]).tolist() == [1]
    assert table.rows(np.zeros((0, 6), np.int32)).shape == (0,)


def test_integers_that_would_wrap_round_are_absent() -> None:
    wrapped = CODES[3].astype(np.int64) + 2**32
    assert make().rows(np.stack([wrapped, -wrapped])).tolist() == [-1, -1]


def test_table_travels_through_jit_vmap_and_grad() -> None:
    table = make()

    @jax.jit
    def look_up(table: Table, codes):
        row = table.rows(codes)
        return jnp.where(row >= 0, table.oriented("top1")[row], -jnp.inf)

    np.testing.assert_array_equal(look_up(table, jnp.asarray(CODES[1])), np.float32(70.25))
    wanted = jnp.asarray(np.stack([CODES[2], np.full(6, 2, np.int32)]))
    found = jax.vmap(look_up, in_axes=(None, 0))(table, wanted)
    np.testing.assert_array_equal(found, np.array([10.0, -np.inf], np.float32))
    slope = jax.grad(lambda values: dataclasses.replace(table, values=values).column("loss").sum())(table.values)
    np.testing.assert_array_equal(slope.sum(axis=0), [0, 0, 4])
    leaves, tree = jax.tree.flatten(table)
    assert jax.tree.unflatten(tree, leaves).metrics == table.metrics


def test_stacked_values_are_a_batch_of_tables() -> None:
    table = make()
    batch = dataclasses.replace(table, values=jnp.stack([table.values, 2 * table.values]))
    axes = dataclasses.replace(jax.tree.map(lambda _: None, table), values=0)
    best = jax.vmap(lambda t: t.column("top1").max(), in_axes=(axes,))(batch)
    np.testing.assert_array_equal(best, np.array([70.25, 140.5], np.float32))


def test_a_second_table_of_the_same_shape_does_not_recompile() -> None:
    traces = []

    @jax.jit
    def best(table: Table):
        traces.append(1)
        return table.oriented("loss").max()

    assert float(best(make())) == -0.25
    assert float(best(make(values=VALUES / 2))) == -0.125
    assert len(traces) == 1


def test_values_stay_float32_where_64_bits_are_on() -> None:
    with jax.enable_x64(True):
        table = make()
        assert table.values.dtype == jnp.float32
        assert table.codes.dtype == jnp.int32
        assert table.rows(jnp.asarray(CODES, dtype=jnp.int64) + 2**32).tolist() == [-1] * 4
        assert table.rows(jnp.asarray(CODES, dtype=jnp.int64)).tolist() == [0, 1, 2, 3]


def test_look_up_under_strict_promotion() -> None:
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        table = make()
        for dtype in (jnp.int32, jnp.uint8):
            assert table.rows(jnp.asarray(CODES, dtype=dtype)).tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(table.oriented("loss"), -table.column("loss"))


def test_select_by_rows_and_by_mask() -> None:
    table = make()
    some = table.select([3, 0])
    np.testing.assert_array_equal(some.codes, CODES[[3, 0]])
    np.testing.assert_array_equal(some.values, VALUES[[3, 0]].astype(np.float32))
    assert some.rows(CODES).tolist() == [1, -1, -1, 0]
    masked = table.select(np.array([True, False, False, True]))
    assert masked.rows(CODES).tolist() == [0, -1, -1, 1]
    assert some.metrics == table.metrics


@pytest.mark.parametrize("rows", [[], [4], [-1], [1, 1], [0.5], [True, False], np.zeros((1, 1), int)])
def test_select_refuses(rows: object) -> None:
    with pytest.raises(UsageError, match=r"expected rows 0\.\.3 of mine, at least one, none twice"):
        make().select(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("codes", [np.zeros(5, int), np.zeros((2, 6), float), np.int32(3), np.zeros((6, 2), int)])
def test_rows_refuses(codes: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"expected integer codes \[\.\.\., 6\], got .*; see the space transnas-micro"):
        make().rows(codes)
    with pytest.raises(UsageError, match="expected integer codes"):
        jax.jit(make().rows)(codes)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"codes": CODES + 1}, UsageError, "code of mine 0"),
        ({"codes": CODES[:, :5]}, UsageError, "code of mine"),
        ({"codes": CODES[:3]}, UsageError, r"expected values \[3, 3\] .*, got \[4, 3\]"),
        ({"values": VALUES[:, :2]}, UsageError, r"got \[4, 2\]"),
        ({"metrics": ()}, UsageError, r"expected values \[4, 0\]"),
        ({"codes": CODES[:0], "values": VALUES[:0]}, UsageError, "expected"),
        ({"metrics": (METRICS[0], METRICS[1], METRICS[1])}, UsageError, "metric names that differ"),
        ({"space": "transnas-mikro"}, UsageError, "did you mean: transnas-micro"),
        ({"values": np.where(VALUES == 60, np.nan, VALUES)}, DataError, "got nan in row 3, column 'top1'"),
        ({"values": np.where(VALUES == 0.25, -np.inf, VALUES)}, DataError, "got -inf in row 1, column 'loss'"),
        (
            {"codes": CODES[[0, 1, 0, 3]]},
            DataError,
            "other values in rows 0 and 2 for 64-41414-0_12_301; keep",
        ),
    ],
)
def test_from_arrays_refuses(changes: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        make(**changes)


def test_identical_repeats_are_merged_in_order() -> None:
    table = make(codes=CODES[[3, 0, 3, 1]], values=VALUES[[3, 0, 3, 1]])
    np.testing.assert_array_equal(table.codes, CODES[[3, 0, 1]])
    np.testing.assert_array_equal(table.values, VALUES[[3, 0, 1]].astype(np.float32))


def test_content_hash_follows_the_content() -> None:
    table = make()
    assert table.content_hash() == make(hashes=(("file", "0"),)).content_hash()
    assert len(table.content_hash()) == 64
    others = [
        make(values=VALUES + np.eye(4, 3)),
        make(metrics=(dataclasses.replace(METRICS[0], direction="maximize"), *METRICS[1:])),
        table.select([1, 0, 2, 3]),
        table.select([0, 1, 2]),
        make(space="nas-bench-201"),
    ]
    assert len({table.content_hash(), *(other.content_hash() for other in others)}) == 6


def other_task(codes: np.ndarray, values: np.ndarray, **changes) -> Table:
    metrics = tuple(dataclasses.replace(m, task="b") if m.task else m for m in METRICS)
    fields = {"space": "transnas-micro", "codes": codes, "values": values, "metrics": metrics, **changes}
    return Table.from_arrays("theirs", **fields)


def test_join_on_the_code() -> None:
    theirs = VALUES[[2, 3, 0]] + np.array([0.0, 5.0, 1.0])
    joint = join([make(), other_task(CODES[[2, 3, 0]], theirs)], name="both")
    assert [m.name for m in joint.metrics] == ["a/top1", "a/loss", "b/top1", "b/loss", "flops"]
    np.testing.assert_array_equal(joint.codes, CODES[[0, 2, 3]])
    np.testing.assert_array_equal(joint.column("a/top1"), [50.5, 10.0, 60.0])
    np.testing.assert_array_equal(joint.column("b/top1"), [55.5, 15.0, 65.0])
    np.testing.assert_array_equal(joint.column("flops"), [10.0, 1.0, 20.0])
    assert joint.name == "both"
    assert joint.main.name == "a/top1"
    assert joint.metric("b/loss").direction == "minimize"
    assert joint.metric("b/loss").task == "b"


def test_join_keeps_costs_that_differ() -> None:
    joint = join([make(), other_task(CODES, VALUES + 1)])
    assert joint.name == "mine+theirs"
    assert [m.name for m in joint.metrics] == ["a/top1", "a/loss", "theirs/flops", "b/top1", "b/loss", "flops"]
    np.testing.assert_array_equal(joint.column("theirs/flops") - joint.column("flops"), [1, 1, 1, 1])


def test_join_refuses() -> None:
    with pytest.raises(DataError, match="expected architectures that all tables have, got none in mine, theirs"):
        join([make(codes=CODES[:2], values=VALUES[:2]), other_task(CODES[2:], VALUES[2:])])
    with pytest.raises(UsageError, match="tables of one space, got nas-bench-201, transnas-micro"):
        join([make(), other_task(CODES, VALUES, space="nas-bench-201")])
    with pytest.raises(UsageError, match="two called 'a/top1'"):
        join([make(), make()])
    with pytest.raises(UsageError, match="at least one table"):
        join([])
