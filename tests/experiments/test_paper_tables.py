"""experiments/paper_tables.py: what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

SCRIPT = "paper_tables.py"
TRAIN = {
    "schema": "train_predictors/1",
    "tau_mean": {"ncp": {"mean": 0.7, "low": 0.69, "high": 0.71, "n": 3}},
    "config": {"folds": 5, "tasks": [], "smoke": False},
}


def folder_with(path: Path, content: object) -> Path:
    path.mkdir()
    (path / "summary.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_record_stands_beside_the_published_figure(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    smoke = folder_with(tmp_path / "smoke", TRAIN | {"config": {"smoke": True, "folds": 5, "tasks": []}})
    full = folder_with(tmp_path / "full", TRAIN)
    status, out, err = run("--records", smoke, full, "--out", tmp_path / "out")
    assert status == 0
    assert out.startswith("1 of ")
    assert "smoke is left out" in err
    page = (tmp_path / "out" / "papers.md").read_text()
    assert "| 0.700 [0.690, 0.710], n = 3 |" in page
    content = json.loads((tmp_path / "out" / "papers.json").read_text())
    assert content["schema"] == "paper_tables/1"
    first = content["tables"][0]["lines"][0]
    assert first["ours"] == {"mean": 0.7, "low": 0.69, "high": 0.71, "n": 3, "folder": str(full)}


def test_records_that_are_none(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, content, expected in (("empty", None, 2), ("text", "x", 1), ("list", "[]", 1)):
        path = tmp_path / folder if content is None else folder_with(tmp_path / folder, content)
        status, _, err = run("--records", path, "--out", tmp_path / "out")
        assert status == expected
        assert len(err.strip().splitlines()) == 1
        assert "summary" in err
    assert not (tmp_path / "out").exists()


def test_the_page_of_the_documentation_is_made_by_it() -> None:
    """Titles, published figures and what differs; ours are of records that are not in the repository."""
    from papers.lines import all_blocks
    from papers.page import HEAD, markdown

    def parts(text: str) -> list[tuple[str, ...]]:
        rows = [tuple(line.strip("| ").split(" | ")) for line in text.splitlines() if line.startswith(("| ", "## "))]
        ours = HEAD.index("ours")
        return [row[:ours] + row[ours + 1 :] for row in rows]

    page = Path(__file__).resolve().parents[2] / "docs" / "results" / "papers.md"
    assert parts(page.read_text()) == parts(markdown(all_blocks([])))
