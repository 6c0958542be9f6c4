"""Which checks are made, and what they come to: the driver that `serve` would choose, the model, and whether all is well.

What `serve` does not need is no failure: with `CC_DRIVER=auto`, an engine that is missing leaves processes, and where
containers work, nobody asks for bubblewrap.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cc_gateway.doctor import (
    configuration,
    containers,
    database,
    engine,
    folder,
    listener,
    local,
    redis,
    sockets,
    upstream,
)
from cc_gateway.doctor.check import Check, Finding, Result, Status, Trouble, in_thread, run_all
from cc_gateway.doctor.subject import Subject
from cc_gateway.doctor.words import plural, scrub, secrets_of
from cc_gateway.settings import Settings


@dataclass(frozen=True)
class Examination:
    """What has been found. `driver` and `model` are None where the settings cannot be read."""

    results: list[Result]
    driver: str | None = None
    isolation: str = ""
    model: str | None = None

    def with_status(self, status: Status) -> list[Result]:
        return [result for result in self.results if result.status is status]

    @property
    def well(self) -> bool:
        return not self.with_status(Status.FAILURE)

    @property
    def verdict(self) -> str:
        if self.driver is None:
            return "not ready: the settings are wrong. The rest is looked at once they are right"
        serves = f"`cc-docker serve` would use the {self.driver} driver ({self.isolation}) and {self.model}"
        failed = [result.name for result in self.with_status(Status.FAILURE)]
        if failed:
            return f"not ready: see {', '.join(failed)}. {serves[0].upper()}{serves[1:]}"
        warned = len(self.with_status(Status.WARNING))
        return f"ready{', with ' + plural(warned, 'warning') if warned else ''}: {serves}"


async def examine(settings: Settings | None, first: Result) -> Examination:
    """Look at everything at once. `first` is what came of reading the settings."""
    if settings is None:
        return Examination([first])
    subject = Subject(settings)
    results = await run_all(_checks(subject))
    driver, kept = settle(settings.driver.driver, results)
    isolation = "containers"
    if driver == "process":
        isolation = "bubblewrap" if await in_thread(local.isolates, subject) else "nothing isolated"
    secrets = secrets_of(settings)
    return Examination(
        [_without(secrets, result) for result in (first, *kept)], driver, isolation, upstream.name_of(subject)
    )


def _checks(subject: Subject) -> list[Check]:
    wanted = subject.settings.driver.driver
    docker = engine.checks(subject) + containers.checks(subject) if wanted != "process" else []
    process = local.checks(subject) if wanted != "docker" else []
    return [
        *configuration.checks(subject),
        *folder.checks(subject),
        *sockets.checks(subject),
        *listener.checks(subject),
        *docker,
        *process,
        *database.checks(subject),
        *redis.checks(subject),
        *upstream.checks(subject),
    ]


def settle(wanted: str, results: list[Result]) -> tuple[str, list[Result]]:
    """The driver that `serve` would open, and the results with what that driver needs weighed as such (pure)."""
    if wanted != "auto":
        return wanted, results
    opens = {result.name: result.status is not Status.FAILURE for result in results}
    if opens[engine.ENGINE] and opens[engine.IMAGE]:
        return "docker", [result for result in results if result.name not in (local.BUBBLEWRAP, local.CLAUDE)]
    return "process", [_on_second_choice(result) for result in results]


def _on_second_choice(result: Result) -> Result:
    if result.name not in (engine.ENGINE, engine.IMAGE):
        return result
    mild = result.finding.mildly()
    troubles = tuple(
        replace(one, problem=f"sessions run as processes, without limits of their own: {one.problem}")
        for one in mild.troubles
    )
    return replace(result, finding=replace(mild, troubles=troubles))


def _without(secrets: Iterable[str], result: Result) -> Result:
    """The result in words that may be shown: the one place through which all of them go."""
    finding = result.finding
    troubles = tuple(
        Trouble(scrub(one.problem, secrets), scrub(one.mend, secrets), one.fatal) for one in finding.troubles
    )
    return replace(result, finding=Finding(scrub(finding.found, secrets), troubles, finding.kind))
