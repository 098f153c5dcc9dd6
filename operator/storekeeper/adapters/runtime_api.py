"""The runtime's HTTP API, as the operator uses it: ask a store for its status, give a LogStore its Streams.

Every call has a deadline and carries a short-lived token of the store's own audience. What goes wrong is a
RuntimeUnavailable with a code; a runtime that does not answer is never a reason to wait here.
"""

import ssl
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

import httpx
from pydantic import ValidationError

from store_runtime.config.model import Document
from store_runtime.config.wire import StoreStatus, StreamSync, StreamSyncResult

CONNECT_SECONDS = 2.0
STATUS_SECONDS = 5.0
"""The status is answered from memory; the backend is not asked for it."""
SYNC_SECONDS = 30.0
"""A sync writes every changed stream's config durably."""
CONNECTIONS_MAX = 64
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""A pod is less trusted than the API server: its answer must not fill the operator's memory."""

TokenFor = Callable[[str], str]
"""Audience → bearer token."""
AddressOf = Callable[[str], str | None]
"""Host name of a Service → its address, if it is known without asking the DNS."""
D = TypeVar("D", bound=Document)


class RuntimeUnavailable(Exception):
    """The runtime did not do it. `code` is that of its problem document, or Unreachable, BadAnswer."""

    def __init__(self, message: str, *, code: str, retryable: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class RuntimeApi:
    """Thread-safe; one pool of connections for all stores."""

    def __init__(
        self, token_for: TokenFor, *, verify: bool | str = True, address_of: AddressOf = lambda _host: None
    ) -> None:
        """`verify`: a CA bundle for stores that serve TLS, or False.

        `address_of` spares a look-up that may answer late (a Service that was made anew) or never (an operator that
        runs outside the cluster); certificates are checked against the host name all the same.
        """
        self._token_for = token_for
        self._address_of = address_of
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        self._client = httpx.Client(limits=limits, verify=_context(verify), trust_env=False, follow_redirects=False)

    def status(self, url: str, audience: str) -> StoreStatus:
        """GET /v1/status. Raises RuntimeUnavailable."""
        answer = self._call("GET", f"{url}/v1/status", audience, None, STATUS_SECONDS)
        return _document(StoreStatus, answer)

    def sync_streams(self, url: str, audience: str, sync: StreamSync) -> StreamSyncResult:
        """PUT /v1/admin/streams. Raises RuntimeUnavailable."""
        answer = self._call("PUT", f"{url}/v1/admin/streams", audience, sync, SYNC_SECONDS)
        return _document(StreamSyncResult, answer)

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, url: str, audience: str, body: Document | None, seconds: float) -> bytes:
        request = self._request(method, httpx.URL(url), audience, body)
        request.extensions["timeout"] = httpx.Timeout(seconds, connect=CONNECT_SECONDS).as_dict()
        try:
            response = self._client.send(request, stream=True)
            with closing(response):
                answer = _bounded(response)
        except httpx.HTTPError as error:
            raise RuntimeUnavailable(
                f"{url} does not answer ({type(error).__name__})", code="Unreachable", retryable=True
            ) from error
        if response.is_success:
            return answer
        raise _problem(url, response, answer)

    def _request(self, method: str, url: httpx.URL, audience: str, body: Document | None) -> httpx.Request:
        headers = {"Authorization": f"Bearer {self._token_for(audience)}", "Content-Type": "application/json"}
        headers["Host"] = url.netloc.decode()
        address = self._address_of(url.host)
        return self._client.build_request(
            method,
            url.copy_with(host=address) if address else url,
            headers=headers,
            content=None if body is None else body.model_dump_json(by_alias=True, exclude_none=True),
            extensions={"sni_hostname": url.host},
        )


def _bounded(response: httpx.Response) -> bytes:
    answer = bytearray()
    for chunk in response.iter_bytes():
        answer += chunk
        if len(answer) > ANSWER_BYTES_MAX:
            raise RuntimeUnavailable(
                f"{response.url} answered more than {ANSWER_BYTES_MAX} bytes", code="BadAnswer", retryable=True
            )
    return bytes(answer)


def _document(model: type[D], answer: bytes) -> D:
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RuntimeUnavailable(
            f"the runtime's {model.__name__} is not one: {where}: {first['msg']}", code="BadAnswer", retryable=True
        ) from error


def _problem(url: str, response: httpx.Response, answer: bytes) -> RuntimeUnavailable:
    """From an RFC 9457 problem document; its words are ours, so they may be shown."""
    code, detail = f"HTTP{response.status_code}", ""
    try:
        problem = httpx.Response(200, content=answer).json()
        code, detail = str(problem.get("code") or code), str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        pass
    retryable = response.status_code >= 500 or response.status_code in {401, 408, 409, 429}
    return RuntimeUnavailable(f"{url}: {response.status_code} {code}: {detail[:500]}", code=code, retryable=retryable)


def _context(verify: bool | str) -> bool | ssl.SSLContext:
    return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
