"""The table for people, and the JSON file for whoever compares runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.figures import Row

HEADINGS = ("", "figure", "baseline", "ratio", "aim", "")
WIDTH = 110
VERDICTS = {True: "met", False: "MISSED", None: ""}


def table(rows: Sequence[Row], conditions: dict[str, Any], failed: dict[str, str]) -> str:
    """Plain text, as wide as it has to be."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    lines += [f"{name}: FAILED: {why}" for name, why in failed.items()]
    against = {row.against: row.what for row in reversed(rows) if row.against}
    if against:
        lines += ["", *_wrapped("Baselines:", [f"{name}: {what}" for what, name in against.items()])]
    return "\n".join([*lines, "", *_wrapped("Conditions:", _words(conditions))])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{_number(row.figure)} {row.unit}",
        "" if row.baseline is None else f"{_number(row.baseline)} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.aim is None else str(row.aim),
        VERDICTS[row.met],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    first, last = 0, len(line) - 1
    return [
        text.ljust(width) if column in (first, last) else text.rjust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]


def _words(conditions: dict[str, Any]) -> list[str]:
    named = {name: value for name, value in conditions.items() if not isinstance(value, dict)}
    words = [f"{name.replace('_', ' ')} {value}" for name, value in named.items()]
    words += [
        f"{name} {value}" for group in conditions.values() if isinstance(group, dict) for name, value in group.items()
    ]
    return words


def _wrapped(title: str, words: list[str]) -> list[str]:
    lines = [title]
    for word in words:
        if len(lines[-1]) + len(word) > WIDTH:
            lines.append(" ")
        lines[-1] += f" {word};"
    return lines


def write_json(path: Path, rows: Sequence[Row], conditions: dict[str, Any], failed: dict[str, str]) -> None:
    found = {"conditions": conditions, "rows": [row.as_json() for row in rows], "failed": failed}
    path.write_text(json.dumps(found, indent=2) + "\n")
