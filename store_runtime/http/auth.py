"""Who may call: bearer tokens, JWTs that the operator signed for this store (RFC 7519, EdDSA by RFC 8037).

A route says what it needs by `Depends(require(Scope.WRITE))`; the app's Authenticator, in `app.state.authenticator`,
decides. Tokens are only ever compared as digests and are in no message.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from store_runtime.config.runtime import Auth
from store_runtime.config.wire import ISSUER, SIGNING_ALGORITHM, Scope
from store_runtime.errors import Forbidden, InvalidInput, Unauthorized

TOKEN_BYTES_MAX = 4096
"""Ours have 400 bytes; what is longer is not worth a signature check."""
CACHED_SECONDS = 60.0
"""How long a verified token is not verified again (80 µs each); its own expiry ends this earlier."""
CACHED_MAX = 1024
"""Tokens kept; a store has a handful of callers."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for, and what it allows. `expires_at` is in seconds since the epoch, None is never."""

    subject: str
    scopes: frozenset[str]
    expires_at: float | None

    def allows(self, scope: Scope) -> bool:
        return scope.value in self.scopes or Scope.ADMIN.value in self.scopes


class Authenticator:
    """Verifies tokens for one audience by any of the configured keys. Used in the event loop only."""

    def __init__(self, auth: Auth, wall_seconds: Callable[[], float] = time.time) -> None:
        """Raises InvalidInput that names the key which is not an Ed25519 public key in PEM."""
        self._audience = auth.audience
        self._keys = [_public_key(pem, index) for index, pem in enumerate(auth.public_keys)]
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._wall_seconds = wall_seconds

    def authenticate(self, token: str) -> Principal:
        """The token's principal; raises Unauthorized that says why it is not accepted, without quoting it."""
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        cached, until = self._verified.get(digest, (None, 0.0))
        if cached is not None and self._wall_seconds() < until:
            return cached
        principal = self._principal(token)
        until = self._wall_seconds() + CACHED_SECONDS
        self._verified[digest] = principal, min(until, principal.expires_at or until)
        if len(self._verified) > CACHED_MAX:
            self._verified.popitem(last=False)
        return principal

    def _principal(self, token: str) -> Principal:
        claims = self._claims(token)
        scope, subject = claims.get("scope", ""), claims.get("sub", "")
        if not isinstance(scope, str):
            raise Unauthorized("the token's scope claim has to be a string of scopes separated by spaces")
        return Principal(str(subject), frozenset(scope.split()), claims.get("exp"))

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthorized(f"the token is longer than {TOKEN_BYTES_MAX} bytes: it is none of this store's")
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[SIGNING_ALGORITHM],
                    audience=self._audience,
                    issuer=ISSUER,
                    options={"require": ["aud", "iss"]},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise Unauthorized(_reason(error, self._audience)) from error
        raise Unauthorized("the token is not signed by a key that this store accepts; get a new one from its Secret")


def _public_key(pem: str, index: int) -> Ed25519PublicKey:
    field = f"auth.publicKeys.{index}"
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"{field} is not a public key in PEM", field=field) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(f"{field} is another kind of key; an Ed25519 key is needed", field=field)
    return key


def _reason(error: jwt.InvalidTokenError, audience: str) -> str:
    if isinstance(error, jwt.ExpiredSignatureError):
        return "the token has expired; get a new one"
    if isinstance(error, jwt.InvalidAudienceError | jwt.MissingRequiredClaimError):
        return f"the token is for another audience; this store is {audience}"
    if isinstance(error, jwt.InvalidIssuerError):
        return f"the token has another issuer than {ISSUER!r}"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "the token is not valid yet; compare the clocks of its signer and of this machine"
    return "the token is not a JWT signed with EdDSA"


_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of this store's binding Secret.")


@cache
def require(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """The dependency of a route that needs `scope`: 401 without a valid token, 403 with one that does not allow it."""

    async def authorized(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Principal:
        if credentials is None:
            raise Unauthorized("no token: send the header `Authorization: Bearer <token>`")
        authenticator: Authenticator = request.app.state.authenticator
        principal = authenticator.authenticate(credentials.credentials)
        if not principal.allows(scope):
            raise Forbidden(f"this needs the scope {scope.value!r}, which the token does not have")
        return principal

    return authorized
