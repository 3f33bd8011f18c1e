"""experiments/transfer_schemes.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .conftest import Smoke

SCRIPT = "transfer_schemes.py"
OPTIONS = ("--smoke", "--spaces", "digits")
METHODS = ("evolution", "reinforce", "ncp", "architectures", "population", "tuned-policy")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert {path.name for path in smoke.folder.glob("*.png")} == {"curves.png", "gains.png"}
    summary = smoke.summary()
    found = summary["spaces"]["digits"]
    assert tuple(found["levels"]) == METHODS
    assert found["compared_with"] == {
        "architectures": "ncp",
        "population": "evolution",
        "tuned-policy": "reinforce",
    }
    tasks = found["similarity"]["tasks"]
    assert len(tasks) == 3
    for scheme in found["compared_with"]:
        one = found["gains"][scheme]["20"]["one"]
        assert {(p["source"], p["target"]) for p in one["pairs"]} == {(s, t) for s in tasks for t in tasks if s != t}
        assert one["positive"] + one["negative"] <= len(one["pairs"])
        assert set(found["foresight"]["correlation"][scheme]) == set(found["similarity"]) - {"tasks"}
        assert f"digits {scheme}" in smoke.out


def test_the_summary_is_made_from_the_records(smoke: Smoke) -> None:
    """The mean percentile after 20 queries, and a gain, from the last ranks on record."""
    found = smoke.summary()["spaces"]["digits"]
    last: dict[tuple[str, str, str], np.ndarray] = {}
    for record in smoke.records():
        for source, runs in record["results"].items():
            assert all(at[0] == 1 and at[-1] <= 20 for at in runs["at"])
            assert all(ranks == sorted(ranks, reverse=True) for ranks in runs["ranks"])
            key = (record["cell"]["method"], record["cell"]["target"], source)
            last[key] = np.array([ranks[-1] for ranks in runs["ranks"]])
    tasks = found["similarity"]["tasks"]
    scratch = 100 * np.mean([last["evolution", t, "none"] for t in tasks]) / 4096
    assert found["levels"]["evolution"]["none"]["20"]["percentile"]["mean"] == pytest.approx(scratch)
    pair = found["gains"]["population"]["20"]["all"]["pairs"][0]
    gain = np.log10(last["evolution", pair["target"], "none"]) - np.log10(last["population", pair["target"], "all"])
    assert pair["gain"]["mean"] == pytest.approx(gain.mean())


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("transfer.schemes.Searches.run") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--methods", "populaton"), "did you mean: population"),
        (("--targets", "clas"), "did you mean: class"),
        (("--targets", "class", "--sources", "clas"), "did you mean: class"),
        (("--targets", "class", "--sources", "class", "edges"), "expected sources other than the targets, got class"),
        (("--spaces", "micr"), "did you mean: micro"),
        (("--budget", "9"), "--budget"),
        (("--source-budget", "3"), "--source-budget"),
        (("--source-budget", "4097"), "digits has 4096 architectures"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    given = OPTIONS if "--spaces" not in options else OPTIONS[:1]
    assert expected in refused(*given, *options)
