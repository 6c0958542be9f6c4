"""Which driver this deployment has: the one that is named, or the best that works here."""

from pathlib import Path

import structlog

from cc_gateway.drivers.base import DriverAway, DriverError, SessionDriver
from cc_gateway.drivers.docker import DockerDriver, DockerOptions
from cc_gateway.drivers.docker.container import Limits
from cc_gateway.drivers.process import ProcessDriver
from cc_gateway.errors import StartupError
from cc_gateway.settings import Settings

log = structlog.get_logger(__name__)


async def open_driver(settings: Settings, logs: Path) -> SessionDriver:
    """The driver, ready to start sessions. Raises `StartupError` where the one that is named cannot be had."""
    wanted = settings.driver.driver
    if wanted == "auto":
        return await _open_docker_if_possible(settings, logs) or await _open(process_driver(settings, logs))
    return await _open(docker_driver(settings, logs) if wanted == "docker" else process_driver(settings, logs))


async def _open_docker_if_possible(settings: Settings, logs: Path) -> SessionDriver | None:
    driver = docker_driver(settings, logs)
    try:
        await driver.open()
    except DriverAway as error:
        log.debug("no_docker", reason=error.message)
    except DriverError as error:
        log.warning("docker_not_used", reason=error.message)
    else:
        return driver
    return None


async def _open(driver: SessionDriver) -> SessionDriver:
    try:
        await driver.open()
    except DriverAway as error:
        message = f"{error.message}. Start the engine, see that you may use it (group docker), or set CC_DRIVER=process"
        raise StartupError(message, code=error.code) from error
    except DriverError as error:
        raise StartupError(error.message, code=error.code) from error
    return driver


def docker_driver(settings: Settings, logs: Path) -> DockerDriver:
    """The docker driver of these settings; it has yet to be opened."""
    chosen = settings.driver
    limits = Limits(
        memory=chosen.session_memory,
        cpus=chosen.session_cpus,
        pids=chosen.session_pids,
        files=chosen.session_files,
        tmp=chosen.session_tmp,
    )
    options = DockerOptions(
        limits, chosen.docker_url, chosen.session_image, chosen.container_runtime, chosen.clone_network
    )
    return DockerDriver(deployment=settings.deployment_id, logs=logs, options=options)


def process_driver(settings: Settings, logs: Path) -> ProcessDriver:
    """The process driver of these settings. Raises `StartupError`."""
    try:
        return ProcessDriver(
            deployment=settings.deployment_id,
            data_dir=settings.data_dir,
            logs=logs,
            bubblewrap=settings.driver.bubblewrap,
            binary=settings.driver.claude_binary,
        )
    except DriverError as error:
        raise StartupError(error.message, code=error.code) from error
