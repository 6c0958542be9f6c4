"""What has been found, for people and for programs (pure)."""

from typing import Any, Final

from cc_gateway import __version__
from cc_gateway.doctor.check import Result, Status
from cc_gateway.doctor.examination import Examination

Piece = tuple[str, str]
"""Words and their style."""

MARKS: Final = {
    Status.OK: ("✓", "green"),
    Status.NOTE: ("·", "dim"),
    Status.SKIPPED: ("–", "dim"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILURE: ("✗", "red"),
}
ARROW: Final = "→"
PLAIN: Final = {"✓": "+", "·": ".", "–": "-", "✗": "x", ARROW: "->", "…": "..."}
"""For a terminal that knows no more than ASCII."""

WORTH_TELLING: Final = 1.0
"""Seconds from which on it is said how long a check took."""


def pieces(examination: Examination) -> list[Piece]:
    """A line for each check, two more for each trouble, and the verdict."""
    width = max(len(result.name) for result in examination.results)
    said = [piece for result in examination.results for piece in _lines(result, width)]
    mark, style = MARKS[Status.OK if examination.well else Status.FAILURE]
    if examination.well and examination.with_status(Status.WARNING):
        mark, style = MARKS[Status.WARNING]
    return [*said, ("\n", ""), (f"{mark} ", style), (f"{examination.verdict}\n", f"bold {style}")]


def _lines(result: Result, width: int) -> list[Piece]:
    mark, style = MARKS[result.status]
    quiet = "dim" if result.status in (Status.NOTE, Status.SKIPPED) else ""
    took = f"  ({result.seconds:.1f} s)" if result.seconds >= WORTH_TELLING else ""
    said = [(f"{mark} ", style), (f"{result.name:<{width}}  {result.finding.found}", quiet), (f"{took}\n", "dim")]
    indent = " " * (width + 4)
    for trouble in result.finding.troubles:
        said += [(f"{indent}{trouble.problem}\n", style), (f"{indent}{ARROW} {trouble.mend}\n", "bold")]
    return said


def plain(text: str) -> str:
    for sign, instead in PLAIN.items():
        text = text.replace(sign, instead)
    return text


def as_json(examination: Examination) -> dict[str, Any]:
    return {
        "version": __version__,
        "ok": examination.well,
        "verdict": examination.verdict,
        "driver": examination.driver,
        "isolation": examination.isolation or None,
        "model": examination.model,
        "checks": [_one(result) for result in examination.results],
    }


def _one(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "status": result.status.value,
        "found": result.finding.found,
        "troubles": [{"problem": one.problem, "mend": one.mend, "fatal": one.fatal} for one in result.finding.troubles],
        "seconds": round(result.seconds, 3),
    }
