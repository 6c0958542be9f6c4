"""Repositories are cloned from public addresses alone, unless the operator allows others."""

import pytest

from cc_gateway.drivers.base import DriverError
from cc_gateway.services.hosts import Hosts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "172.17.0.1",
        "0.0.0.0",
        "[fd00::1]",
    ],
)
async def test_a_private_address_is_refused_unless_it_is_allowed(host: str) -> None:
    url = f"http://{host}/a/b.git"
    with pytest.raises(DriverError, match="no public address") as caught:
        await Hosts(private=False).check(url)
    assert (caught.value.code, caught.value.retryable) == ("clone_failed", False)
    assert await Hosts(private=True).check(url) is None


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("https://1.1.1.1/a", "1.1.1.1:443:1.1.1.1"),
        ("http://1.1.1.1:8080/a", "1.1.1.1:8080:1.1.1.1"),
        ("https://[2606:4700:4700::1111]/a", "2606:4700:4700::1111:443:[2606:4700:4700::1111]"),
    ],
)
async def test_whoever_connects_is_told_the_address_that_was_checked(url: str, resolved: str) -> None:
    assert await Hosts(private=False).check(url) == resolved


@pytest.mark.parametrize(
    "url", ["https://no-such-host.invalid/a", "http://a:99999/b", "https://" + "a" * 70 + ".com/x"]
)
async def test_a_host_that_cannot_be_found_is_named(url: str) -> None:
    with pytest.raises(DriverError):
        await Hosts(private=False).check(url)
