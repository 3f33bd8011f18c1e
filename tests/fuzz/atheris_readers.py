"""Fuzzes one reader with atheris, which looks for inputs that reach new lines: ``pip install ".[fuzz]"``, then

    python tests/fuzz/atheris_readers.py table -max_total_time=600

The first argument names the reader (see ``readers.make_readers``), the others are those of libFuzzer. An input that
ends in another exception than the reader may raise, or takes 2 s, is written to a file and ends the run.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["ncp_jax"]):
    from fuzz.readers import ALLOWED, make_readers


def main() -> None:
    """Runs libFuzzer on a reader, from the reader's examples."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="ncp_jax_fuzz_"))
    reader = make_readers(folder)[sys.argv[1]]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(reader.examples):
        (corpus / str(number)).write_bytes(bytes([number, 0]) + content)

    def one_input(content: bytes) -> None:
        with contextlib.suppress(*ALLOWED):  # the first two bytes choose the settings
            reader.read(content[2:], folder, int.from_bytes(content[:2], "little"))

    limits = ["-timeout=2", "-rss_limit_mb=2500", "-max_len=100000"]  # importing JAX takes some hundred MB
    atheris.Setup([sys.argv[0], *limits, *sys.argv[2:], str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
