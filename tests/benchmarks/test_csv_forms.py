"""Property tests: a table is read as it was written, in whatever form, or refused."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.benchmarks.csv_table import SEEDS, read_csv
from ncp_jax.checks import DataError, UsageError
from ncp_jax.spaces import get_space

SPACE = get_space("transnas-micro")


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',;\t|"# ') else cell


def read(content: bytes, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        return read_csv(path, space="transnas-micro", **options)


@settings(max_examples=300)
@given(
    separator=st.sampled_from(",;\t|"),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]),
    form=st.sampled_from(["string", "tuple", "columns"]),
    seed=st.integers(0, 10**6),
)
def test_tables(separator: str, ends: str, encoding: str, form: str, seed: int) -> None:
    extras = random.Random(seed)
    n = extras.randrange(2, 7)
    codes = SPACE.all_codes()[extras.sample(range(SPACE.size), n)]
    values = np.array([[extras.choice([1, 20, 71.5, 1e-3, 1234.25]), float(i)] for i in range(n)])
    values[0, 0] = -7
    columns = {"acc": [f"{value!r}" for value in values[:, 0].tolist()], "lat \u00e9": [f"{i}" for i in range(n)]}
    if separator != "," and extras.random() < 0.5:
        columns["acc"] = [cell.replace(".", ",") for cell in columns["acc"]]
    if form == "columns":
        columns |= {f"x{j}": [str(value) for value in codes[:, j]] for j in range(6)}
    else:
        texts = SPACE.to_strings(codes) if form == "string" else [str(tuple(code)) for code in codes.tolist()]
        columns["arch"] = texts
    columns["note"] = [extras.choice(["", "a; b", "1,5", 'x "y"', "#1", "5"]) for _ in range(n)]
    order = extras.sample(list(columns), len(columns))
    rows = [order, *([columns[name][i] for name in order] for i in range(n))]
    if extras.random() < 0.3:
        rows = [[extras.choice(["", "Unnamed: 0"]), *rows[0]], *([str(i), *row] for i, row in enumerate(rows[1:]))]
    lines = [separator.join(map(quoted, row)) for row in rows]
    for line in ("# a, b; c", "", separator * 3):
        if extras.random() < 0.3:
            lines.insert(extras.randrange(len(lines) + 1), line)
    if extras.random() < 0.3:
        lines.insert(0, f"sep={separator}")
    table = read(ends.join(lines).encode(encoding), maximize=["acc"], minimize=["lat \u00e9"])
    np.testing.assert_array_equal(table.codes, codes)
    np.testing.assert_array_equal(table.values, values)


@settings(max_examples=300)
@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.text('01 ,;\t\r\n"#.acx-_e', max_size=80).map(lambda text: f"arch,acc\n{text}".encode()),
        st.text("0123 ,\n", max_size=80).map(lambda text: f"x0,x1,x2,x3,x4,x5,acc\n{text}".encode()),
    ),
    seeds=st.sampled_from(SEEDS),
)
def test_any_content_is_read_or_refused(content: bytes, seeds: str) -> None:
    try:
        table = read(content, maximize=["acc"], seeds=seeds)
    except (DataError, UsageError):
        return
    assert np.isfinite(table.values).all()
