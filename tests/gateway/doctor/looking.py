"""What the tests of the doctor have in common."""

from collections.abc import Awaitable, Callable

from cc_gateway.doctor.check import Result
from cc_gateway.doctor.examination import Examination

Look = Callable[..., Awaitable[Examination]]
"""Examines this machine with these settings."""


def of(examination: Examination, name: str) -> Result:
    """The check of this name."""
    return next(result for result in examination.results if result.name == name)


def words(result: Result) -> str:
    """All that a check says."""
    troubles = result.finding.troubles
    return " | ".join([result.finding.found, *(f"{one.problem} -> {one.mend}" for one in troubles)])


def everything(examination: Examination) -> str:
    return "\n".join([*(words(result) for result in examination.results), examination.verdict])
