"""Ablations: every combination of searchers, settings, benchmarks and seeds of a grid file; resumes, shards.

    python experiments/ablation.py grid.toml --out out/ablation
    python experiments/ablation.py grid.toml --out out/ablation --shard 3/8      # one job of an array
    python experiments/ablation.py grid.toml --out out/ablation --resume         # after an interruption

The same as ``ncp-jax study``. The grid file is explained in docs/studies.md.
"""

from harness.script import run_main

from ncp_jax.commands.study import Study

if __name__ == "__main__":
    run_main(Study, Study.run, __doc__ or "")
