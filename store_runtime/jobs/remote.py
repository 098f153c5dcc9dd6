"""A job that asks the serving pod: for a store on a volume, whose data only that pod may touch."""

import ssl
from pathlib import Path

import httpx
from pydantic import ValidationError

from store_runtime.config.wire import RetainRequest, RetainResult
from store_runtime.errors import BackendUnreachable, InvalidInput, StoreError

CONNECT_SECONDS = 5.0
RETAIN_SECONDS = 900.0
"""Retention deletes in batches and may have much to do; a CronJob that takes longer is a job that hangs."""


class RemoteError(StoreError):
    """The serving store's own error: its `code` is that of the problem document."""


def retain_by_url(url: str, token_file: Path, ca_file: Path | None, request: RetainRequest) -> RetainResult:
    """POST /v1/admin/retain. Raises BackendUnreachable when nobody answers or it should be tried again."""
    with httpx.Client(verify=_trust(ca_file), trust_env=False, follow_redirects=False) as client:
        try:
            response = client.post(
                f"{url.rstrip('/')}/v1/admin/retain",
                content=request.model_dump_json(by_alias=True),
                headers={"Authorization": f"Bearer {_token(token_file)}", "Content-Type": "application/json"},
                timeout=httpx.Timeout(RETAIN_SECONDS, connect=CONNECT_SECONDS),
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidInput(f"{url!r} is not a URL: write https://host:port", field="url") from error
        except httpx.HTTPError as error:
            raise BackendUnreachable(f"{url} does not answer ({type(error).__name__}: {error})") from error
    if not response.is_success:
        raise _problem(url, response)
    try:
        return RetainResult.model_validate_json(response.content)
    except ValidationError as error:
        raise RemoteError(f"{url} answered something else than a result of retention", code="BadAnswer") from error


def _problem(url: str, response: httpx.Response) -> StoreError:
    try:
        document = response.json()
        code, detail = str(document["code"]), str(document["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = f"HTTP{response.status_code}", "the answer is not a problem document; is it a store's URL?"
    if response.status_code in (429, 502, 503, 504):
        return BackendUnreachable(f"{url}: {detail}", code=code)
    return RemoteError(f"{url}: {detail}", code=code)


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"cannot read the token {path}: {error.strerror}", field="token-file") from error
    if not token.isascii() or len(token.split()) != 1:
        raise InvalidInput(f"{path} does not hold one token and nothing else", field="token-file")
    return token


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise InvalidInput(f"{ca_file} is no file of certificates: {error.strerror}", field="ca-file") from error
