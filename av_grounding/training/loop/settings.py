"""Settings of a run against those that it was begun with."""

from __future__ import annotations

from typing import Any


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`name: old then, new now` for every setting that is not the same."""
    return [
        f"{key}: {then.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
