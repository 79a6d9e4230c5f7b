"""The HTTP transport under both SDKs: aiohttp, with our limits and our names for what goes wrong.

The SDKs' own transport walks its whole connection pool for every request and keeps at most 100 connections
alive; theirs over aiohttp resolves names itself and has no limit on a body. This one checks every address at
connect time, follows no redirect, keeps no cookies, caps the size of an answer and raises `CallError`.

Importing this module costs a second of CPU: adapters do it with their first call.
"""

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from mllm.addresses import AddressError, check_ip, written_out_address
from mllm.errors import CallError, Failure

CONNECT_TIMEOUT = 10.0  # seconds
MAX_BODY = (
    32 * 1024 * 1024
)  # bytes of one answer, unpacked; log-probabilities of a long answer take about 5 MB
MAX_TRANSFER = 2 * 1024 * 1024 * 1024  # bytes of the answers of a whole batch


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses those at a forbidden address, so that a name that changes is caught."""

    def __init__(self, *, allow_private: bool) -> None:
        self._inner = ThreadedResolver()
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for entry in found:
            address = ipaddress.ip_address(entry["host"].partition("%")[0])
            check_ip(address, host, allow_private=self._allow_private)
        return found

    async def close(self) -> None:
        await self._inner.close()


class GuardedTransport(httpx2.AsyncBaseTransport):
    """One connection pool of `max_connections`; every failure is a `CallError`."""

    def __init__(
        self, *, max_connections: int, allow_private: bool, connect_timeout: float, max_body: int = MAX_BODY
    ) -> None:
        self._max_connections = max_connections
        self._allow_private = allow_private
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._max_body = max_body
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._session is None:
            self._session = self._open_session()
        host = request.url.host
        headers = dict(request.headers)
        headers["accept-encoding"] = "gzip, deflate"
        content = await request.aread()  # a form with a file is not read yet
        with _named_failures(host):
            self._check_written_out_address(host)
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=headers,
                data=content or None,
                allow_redirects=False,
            )
        return httpx2.Response(
            status_code=response.status,
            headers=[
                (name, value) for name, value in response.raw_headers if name.lower() not in _DROPPED_HEADERS
            ],
            stream=_CappedBody(response, host, self._max_body),
            request=request,
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            resolver=GuardedResolver(allow_private=self._allow_private),
            ttl_dns_cache=60,
        )
        return aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    def _check_written_out_address(self, host: str) -> None:
        # aiohttp asks no resolver for a host that is already an address.
        address = written_out_address(host)
        if address is not None:
            check_ip(address, host, allow_private=self._allow_private)


# aiohttp hands over the body unpacked, so the first two would no longer be true; httpx2 would keep the cookies.
_DROPPED_HEADERS = frozenset({b"content-encoding", b"content-length", b"set-cookie"})


class _CappedBody(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, host: str, limit: int) -> None:
        self._response = response
        self._host = host
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        with _named_failures(self._host):
            async for chunk in self._response.content.iter_any():
                size += len(chunk)
                if size > self._limit:
                    raise CallError(
                        Failure.SERVER_ERROR,
                        f"{self._host} sent more than {self._limit // (1024 * 1024)} MB for one answer; "
                        "the call was stopped.",
                        retryable=False,
                    )
                yield chunk

    async def aclose(self) -> None:
        # Closing an unfinished response closes its connection, which is how the server learns of a cancel.
        self._response.close()


@contextlib.contextmanager
def _named_failures(host: str) -> Iterator[None]:
    try:
        yield
    except AddressError as error:
        raise CallError(Failure.UNREACHABLE, str(error), retryable=False, fatal=True) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise CallError(
            Failure.UNREACHABLE,
            f"The certificate of {host} is not valid, so nothing was sent.",
            retryable=False,
            fatal=True,
            raw=str(error),
        ) from error
    except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError) as error:
        raise CallError(Failure.TIMED_OUT, f"{host} did not accept a connection in time.") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise CallError(Failure.UNREACHABLE, f"The host name {host} cannot be found.") from error
    except aiohttp.ClientConnectorError as error:
        raise CallError(
            Failure.UNREACHABLE, f"No connection to {host}: {error.os_error.strerror or 'refused'}."
        ) from error
    except aiohttp.InvalidURL as error:
        raise CallError(
            Failure.BAD_REQUEST, "The base URL of the connection is not valid.", fatal=True
        ) from error
    except aiohttp.ClientResponseError as error:
        raise CallError(
            Failure.SERVER_ERROR, f"{host} does not answer in HTTP as it should.", raw=str(error)
        ) from error
    except TimeoutError:  # an OSError, but it is the caller's own limit that has passed
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise CallError(
            Failure.SERVER_ERROR, f"The connection to {host} broke before the answer was complete."
        ) from error
