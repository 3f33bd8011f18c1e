"""What a study depends on: versions, devices, sessions, data, and how it was started."""

from __future__ import annotations

import json
from typing import Any

from ncp_jax.reports.data import StudyData


def study_card(data: StudyData) -> dict[str, Any]:
    """Collects it from study.json and the sessions.

    Returns:
      JSON-ready: "versions" (name → version, of study.json), "other_versions" (of sessions, where they differ),
      "devices" (different ones, in order of first use), "sessions", "shards" (different ones), "first" and "last"
      (dates of sessions, as recorded, None where there are none), "wall_seconds" (all sessions together, None where
      unknown), "seeds" ("first", "count"), "budget", "seconds" (simulated training seconds a run may spend, None
      without a limit), "repeats" (whether asking again for an architecture costs a query), "tables" (benchmark →
      "hash", "rows", "metric", "unit", "direction", "split", "epoch", "best"), "command" (None where it was not
      recorded), "grid".
    """
    study, sessions = data.study, data.sessions
    versions = {str(name): str(found) for name, found in study.get("versions", {}).items() if found is not None}
    other: dict[str, list[str]] = {}
    for session in sessions:
        for name, version in session.get("versions", {}).items():
            if name in versions and str(version) != versions[name] and str(version) not in other.setdefault(name, []):
                other[name].append(str(version))
    dates = [str(session["date"]) for session in sessions if session.get("date")]
    walls = [session["seconds"] for session in sessions if isinstance(session.get("seconds"), int | float)]
    commands = [found for found in (study.get("command"), *(s.get("command") for s in sessions)) if found]
    first, count = study.get("seeds") or (int(data.seed.min()), int(data.seed.max() - data.seed.min() + 1))
    return {
        "versions": versions,
        "other_versions": other,
        "devices": _distinct([_device(session["device"]) for session in sessions if session.get("device")]),
        "sessions": len(sessions),
        "shards": _distinct([_text(session["shard"]) for session in sessions if session.get("shard") is not None]),
        "first": dates[0] if dates else None,
        "last": dates[-1] if dates else None,
        "wall_seconds": float(sum(walls)) if walls else None,
        "seeds": {"first": int(first), "count": int(count)},
        "budget": data.budget,
        "seconds": study.get("seconds"),
        "repeats": study.get("repeats"),
        "tables": {name: _table(data, name) for name in data.benchmarks},
        "command": _text(commands[0]) if commands else None,
        "grid": study.get("grid"),
    }


def _table(data: StudyData, name: str) -> dict[str, Any]:
    table, metric = data.study["tables"][name], data.metric(name)
    fields = {key: getattr(metric, key) for key in ("unit", "direction", "split", "epoch")}
    return {
        "hash": table.get("hash"),
        "rows": table["rows"],
        "metric": metric.name,
        **fields,
        "best": table.get("best"),
    }


def _device(device: Any) -> str:
    if not isinstance(device, dict):
        return _text(device)
    text = f"{device.get('count', 1)} × {device.get('kind', device.get('platform', 'unknown'))}"
    host = [f"{device['cores']} cores" if device.get("cores") else "", str(device.get("machine", ""))]
    return f"{text} ({', '.join(filter(None, host))})" if any(host) else text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return json.dumps(value, sort_keys=True)


def _distinct(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))
