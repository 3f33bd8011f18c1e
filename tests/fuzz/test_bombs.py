"""Small contents that ask for much are answered in two seconds, in a process that may use 500 MB more than it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
CHILD = """
import json, resource, sys, time, warnings
from pathlib import Path
from fuzz.bombs import BOMBS
from fuzz.readers import ALLOWED, make_readers

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
readers = make_readers(folder)
for reader in readers.values():
    for content in reader.examples[:1]:
        try:
            reader.read(content, folder, 0)  # imports
        except ALLOWED:
            pass
contents = {name: make() for name, (_, _, make) in BOMBS.items()}
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 500 * 2**20,) * 2)
for name, (reader, choice, _) in BOMBS.items():
    print(json.dumps({"name": name, "error": "crash", "seconds": 0}), flush=True)
    began, error = time.process_time(), ""
    try:
        readers[reader].read(contents[name], folder, choice)
    except ALLOWED as found:
        error = type(found).__name__
    except BaseException as found:
        error = f"{type(found).__name__}: {str(found)[:200]}"
    print(json.dumps({"name": name, "error": error, "seconds": time.process_time() - began}), flush=True)
"""


def test_small_contents_that_ask_for_much(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *(path for path in sys.path if path)])}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    found = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    allowed = ("", "UsageError", "DataError", "OSError")
    bad = {name: row for name, row in found.items() if row["error"] not in allowed or row["seconds"] > 2}
    assert not bad, done.stderr[-500:]
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum(row["error"] == "" for row in found.values()) < 10, "nearly all are refused"
