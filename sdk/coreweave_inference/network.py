"""How connections are opened: through which proxy, with which certificates, and how long they may be used.

httpx limits each read, but not all reads of one response together, so a server that sends a byte now and then
could hold a call forever. ``time_limit`` limits everything that one attempt does: the sockets of
``BoundedTransport`` take no longer than what is left of it. asyncio has such a limit of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._httpx import httpcore, httpx
from .errors import InvalidSetting
from .settings import is_host_name

__all__ = ["BoundedTransport", "Proxy", "proxy_for", "time_limit", "trusted_certificates"]


class Proxy(NamedTuple):
    """A proxy, where it runs, and the name of the setting that it comes from. The URL may hold a password."""

    url: httpx.URL
    location: str
    source: str


def proxy_for(endpoint: str) -> Proxy | None:
    """The proxy that the environment, or else the system, names for an endpoint.

    Raises ``InvalidSetting`` if it cannot be used.
    """
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    key = next((key for key in (parts.scheme, "all") if proxies.get(key)), None)
    if key is None or _is_exempt(parts.netloc, parts.hostname or "", proxies.get("no", "")):
        return None
    names = (f"{key}_proxy", f"{key}_proxy".upper())
    source = next((name for name in names if os.environ.get(name)), "the system's proxy")
    given = proxies[key]
    try:
        url = httpx.URL(given if "://" in given else f"http://{given}")
    except (ValueError, httpx.InvalidURL):
        url = httpx.URL()
    # the messages show no URL: it may hold a password
    if not is_host_name(url.raw_host.decode()):
        raise InvalidSetting(f"{source}: not a valid URL of a proxy, such as http://proxy.example:3128")
    if url.scheme not in ("http", "https", "socks5", "socks5h"):
        raise InvalidSetting(f"{source}: {url.scheme!r} is not a kind of proxy that is supported: use http")
    if url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise InvalidSetting(
            f"{source}: a SOCKS proxy needs another package: run `pip install 'httpx[socks]'`"
        )
    return Proxy(url, url.netloc.decode(), source)


def _is_exempt(location: str, host: str, exempt: str) -> bool:
    """Whether NO_PROXY, or the system, exempts a host. An entry may be a network, such as 10.0.0.0/8."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        for entry in exempt.split(","):
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                    return True
    return bool(urllib.request.proxy_bypass(location))


def trusted_certificates(*, from_environment: bool) -> ssl.SSLContext:
    """The certificates to trust; raises ``InvalidSetting`` with the variable that prevents loading them."""
    directories = os.environ.get("SSL_CERT_DIR")
    is_used = from_environment and directories and not os.environ.get("SSL_CERT_FILE")
    if is_used and not any(Path(one).is_dir() for one in str(directories).split(os.pathsep)):
        raise InvalidSetting(f"SSL_CERT_DIR: {directories!r} is not a directory of certificates")
    try:
        return httpx.create_ssl_context(trust_env=from_environment)
    except OSError as error:  # ssl.SSLError is one as well
        problem = _certificate_problem(_reason(error), from_environment)
    raise InvalidSetting(problem)


def _certificate_problem(reason: str, from_environment: bool) -> str:
    bundle, log = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSLKEYLOGFILE")
    if from_environment and bundle:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=bundle)
        except OSError as error:
            return f"SSL_CERT_FILE: cannot read certificates from {bundle!r}: {_reason(error)}"
    if log:
        return f"SSLKEYLOGFILE: cannot write to {log!r}: {reason}"
    return f"cannot load the certificates that this machine trusts: {reason}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


_limit = threading.local()


@contextlib.contextmanager
def time_limit(left: Callable[[], float]) -> Iterator[None]:
    """Limit what ``BoundedTransport`` does in this thread; ``left`` returns the seconds that are left."""
    _limit.left = left
    try:
        yield
    finally:
        del _limit.left


def _bounded(timeout: float | None, error: type[Exception]) -> float | None:
    left: float = getattr(_limit, "left", lambda: float("inf"))()
    if left <= 0:
        raise error("the time is over")
    return left if timeout is None else min(timeout, left)


class BoundedTransport(httpx.HTTPTransport):
    """httpx's transport, with sockets that keep to the ``time_limit`` of the thread that uses them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # httpcore takes a backend, but httpx does not pass one on
        self._pool._network_backend = _Backend(self._pool._network_backend)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        def connect(address: str, untried: int) -> httpcore.NetworkStream:
            left = _bounded(timeout, httpcore.ConnectTimeout)
            share = None if left is None else left / untried
            return _Stream(self._backend.connect_tcp(address, port, share, local_address, socket_options))

        # one by one: `socket.create_connection` would allow each address the full timeout
        *first, last = _addresses(host, port, _bounded(timeout, httpcore.ConnectTimeout))
        for index, address in enumerate(first):
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connect(address, len(first) + 1 - index)
        return connect(last, 1)


def _addresses(host: str, port: int, timeout: float | None) -> list[str]:
    """The addresses of a host. Raises as httpcore does if they are not found in time."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found: list[str] = []
    failed: list[Exception] = []

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            failed.append(error)
        else:
            found.extend(str(address[0]) for *_, address in answers)

    # the system's resolver has no limit of its own, and cannot be interrupted
    resolving = threading.Thread(target=resolve, daemon=True)
    resolving.start()
    resolving.join(timeout)
    if failed:
        raise httpcore.ConnectError(str(failed[0]))
    if not found:
        raise httpcore.ConnectTimeout(f"{host} is not resolved in time")
    return found


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _bounded(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _bounded(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
