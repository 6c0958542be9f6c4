"""Figures: what was measured, what it is compared with, and how many values become one (pure)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies, interpolated."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


@dataclass(frozen=True)
class Summary:
    """Many values in a few. Three digits behind the point are more than any of them is good for."""

    count: int
    median: float
    p95: float
    p99: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        spread = [quantile(values, share) for share in (0.5, 0.95, 0.99, 0.0, 1.0)]
        return cls(len(values), *(round(value, 3) for value in spread))


@dataclass(frozen=True)
class Aim:
    """What a row should reach: a bound on its figure, or on its ratio to the baseline."""

    of: str
    """`figure`, `ratio` or `added` (figure less baseline)."""
    at_most: float
    unit: str = ""

    def __str__(self) -> str:
        name = {"figure": "", "ratio": "ratio ", "added": "added "}[self.of]
        return f"{name}≤ {self.at_most:g}{'' if self.of == 'ratio' else ' ' + self.unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    unit: str
    figure: float
    baseline: float | None = None
    against: str = ""
    """What the baseline is."""
    aim: Aim | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.figure / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None where there is none, or nothing to hold it against."""
        if self.aim is None:
            return None
        added = None if self.baseline is None else self.figure - self.baseline
        value = {"figure": self.figure, "ratio": self.ratio, "added": added}[self.aim.of]
        return None if value is None else value <= self.aim.at_most

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "figure": round(self.figure, 3),
            "baseline": None if self.baseline is None else round(self.baseline, 3),
            "against": self.against,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "aim": None if self.aim is None else str(self.aim),
            "met": self.met,
            "details": {k: asdict(v) if isinstance(v, Summary) else v for k, v in self.details.items()},
        }
