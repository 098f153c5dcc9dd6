"""Tokens: JWTs that the operator signs and the runtimes check with the public half (RFC 7519, RFC 8037 EdDSA).

Because a token can be made at any time and old ones stay valid, a Secret never has to be read. Two kinds: an
application's, without expiry, into its Secret; the operator's own, short-lived, for its calls to a runtime.
"""

import threading
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store_runtime.clock import Clock, SystemClock
from store_runtime.config.wire import ISSUER, SIGNING_ALGORITHM, Scope

OPERATOR_SUBJECT = "storekeeper-operator"
OPERATOR_TOKEN_LIFETIME = timedelta(minutes=10)
RENEW_BEFORE_END = timedelta(minutes=2)
"""A cached token is used until then: longer than any call and any clock's deviation."""
BACKDATED = timedelta(seconds=30)
"""`iat` lies this far back, so that a runtime whose clock is behind does not see a token from the future."""


class SigningKeyError(Exception):
    """The key file is missing or is not an Ed25519 private key; its content is never in the message."""


class Signer:
    """Thread-safe."""

    def __init__(self, private_key: Ed25519PrivateKey, clock: Clock | None = None) -> None:
        self._key = private_key
        self._clock = clock or SystemClock()
        self._cached: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self.public_pem = public_pem(private_key)

    @classmethod
    def from_file(cls, path: Path, clock: Clock | None = None) -> "Signer":
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise SigningKeyError(
                f"cannot read the signing key {path}: {error.strerror}; make one with `storekeeper keygen`"
            ) from error
        except (ValueError, TypeError) as error:
            raise SigningKeyError(f"{path} is not an unencrypted private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError(f"{path} holds another kind of key; an Ed25519 key is needed")
        return cls(key, clock)

    def token(self, audience: str, subject: str, scopes: Sequence[Scope], lifetime: timedelta | None = None) -> str:
        """A newly signed token; without a lifetime it never expires."""
        now = self._seconds()
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": audience,
            "sub": subject,
            "scope": " ".join(scope.value for scope in scopes),
            "iat": int(now - BACKDATED.total_seconds()),
            "jti": uuid.uuid4().hex,
        }
        if lifetime is not None:
            claims["exp"] = int(now + lifetime.total_seconds())
        return jwt.encode(claims, self._key, algorithm=SIGNING_ALGORITHM)

    def operator_token(self, audience: str) -> str:
        """The operator's own, with every scope; cached until shortly before its end."""
        with self._lock:
            token, end = self._cached.get(audience, ("", 0.0))
            now = self._seconds()
            if now < end - RENEW_BEFORE_END.total_seconds():
                return token
            self._cached = {a: (t, e) for a, (t, e) in self._cached.items() if now < e}
            token = self.token(audience, OPERATOR_SUBJECT, (Scope.ADMIN,), OPERATOR_TOKEN_LIFETIME)
            self._cached[audience] = token, now + OPERATOR_TOKEN_LIFETIME.total_seconds()
            return token

    def _seconds(self) -> float:
        return self._clock.now_ns() / 1e9


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: Ed25519PrivateKey) -> str:
    encoded = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()
