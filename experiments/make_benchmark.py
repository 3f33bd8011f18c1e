"""Makes the digits benchmark: trains all TransNAS micro cells on five tasks of scikit-learn's digits.

python experiments/make_benchmark.py --out out/digits                  # all of it, about an hour on two cores
python experiments/make_benchmark.py --out out/part --limit 64         # 64 architectures
python experiments/make_benchmark.py --out out/digits --resume         # continues an interrupted run
"""

from __future__ import annotations

from typing import Any

from digits_benchmark.generate import GenerateConfig
from harness.script import run_main


def run(config: GenerateConfig) -> dict[str, Any]:
    """Trains what is missing and writes the table, its card and its figure; returns the summary."""
    from digits_benchmark.make import make_benchmark

    return make_benchmark(config)


if __name__ == "__main__":
    run_main(GenerateConfig, run, __doc__ or "")
