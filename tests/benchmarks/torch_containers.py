"""Writes the two containers of ``torch.save`` without PyTorch: plain data alone."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

MAGIC = 0x1950A86A20F9469CFC6C
SIZES = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def archive(value: Any, *, raw: bytes | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """Returns the zip archive that holds a value, or a pickle given as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("archive/data.pkl", pickle.dumps(value, protocol=2) if raw is None else raw)
        file.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def sequence(value: Any, *, raw: bytes | None = None) -> bytes:
    """Returns the older container of a value: a sequence of pickles."""
    parts = [pickle.dumps(part, protocol=2) for part in (MAGIC, 1001, SIZES, value, [])]
    return b"".join(parts if raw is None else (*parts[:3], raw, parts[4]))
