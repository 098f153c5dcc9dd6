"""Tokens: which are accepted, for how long, and for what."""

import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store_runtime.config.runtime import Auth
from store_runtime.config.wire import Scope
from store_runtime.errors import InvalidInput, Unauthorized
from store_runtime.http.auth import CACHED_MAX, CACHED_SECONDS, Authenticator, require
from tests.runtime.serving import PUBLIC_PEM, token

AUDIENCE = "LogStore/test/store"
OTHER_KEY = Ed25519PrivateKey.generate()


def pem(key) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


class Wall:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def authenticator(wall):
    return Authenticator(Auth(audience=AUDIENCE, public_keys=(PUBLIC_PEM,)), wall)


def test_a_token_of_the_operator_is_accepted(authenticator):
    principal = authenticator.authenticate(token(AUDIENCE, "read write"))
    assert principal.subject == "test"
    assert principal.allows(Scope.READ)
    assert principal.allows(Scope.WRITE)
    assert not principal.allows(Scope.ADMIN)


def test_admin_includes_all_scopes(authenticator):
    principal = authenticator.authenticate(token(AUDIENCE, "admin"))
    assert all(principal.allows(scope) for scope in Scope)


@pytest.mark.parametrize("scope", ["", "reader", "read,write", "READ"])
def test_what_is_no_scope_allows_nothing(authenticator, scope):
    principal = authenticator.authenticate(token(AUDIENCE, scope))
    assert not any(principal.allows(each) for each in Scope)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: token("LogStore/test/other"), "another audience"),
        (lambda: token(AUDIENCE, aud=None), "another audience"),
        (lambda: token(AUDIENCE, iss="somebody"), "another issuer"),
        (lambda: token(AUDIENCE, exp=int(time.time()) - 1), "expired"),
        (lambda: token(AUDIENCE, nbf=int(time.time()) + 600), "not valid yet"),
        (lambda: token(AUDIENCE, scope=["read"]), "scope claim"),
        (lambda: token(AUDIENCE, key=OTHER_KEY), "not signed by a key"),
        (lambda: "x" * 5000, "longer than"),
        (lambda: "not.a.token", "not a JWT"),
        (lambda: "ä", "not a JWT"),
        (lambda: "", "not a JWT"),
        (lambda: jwt.encode({"iss": "storekeeper", "aud": AUDIENCE, "scope": "admin"}, None, "none"), "not a JWT"),
        (lambda: jwt.encode({"iss": "storekeeper", "aud": AUDIENCE}, "s" * 32, "HS256"), "not a JWT"),
        (lambda: jwt.encode({"iss": "storekeeper", "aud": AUDIENCE}, ec.generate_private_key(ec.SECP256R1()), "ES256"),
         "not a JWT"),
    ],
)  # fmt: skip
def test_what_is_not_accepted_says_why_and_is_not_quoted(authenticator, made, says):
    refused = made()
    with pytest.raises(Unauthorized, match=says) as raised:
        authenticator.authenticate(refused)
    assert len(refused) < 8 or refused not in raised.value.message


def test_any_of_several_keys_will_do_while_one_is_rotated(wall):
    authenticator = Authenticator(Auth(audience=AUDIENCE, public_keys=(PUBLIC_PEM, pem(OTHER_KEY))), wall)
    assert authenticator.authenticate(token(AUDIENCE))
    assert authenticator.authenticate(token(AUDIENCE, key=OTHER_KEY))


def test_a_remembered_token_still_expires(authenticator, wall, monkeypatch):
    short = token(AUDIENCE, exp=int(wall.seconds) + 20)
    assert authenticator.authenticate(short)
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    wall.seconds += 10
    assert authenticator.authenticate(short), "remembered, and not expired"
    monkeypatch.setattr(jwt, "decode", _expired)
    wall.seconds += 11
    with pytest.raises(Unauthorized, match="expired"):
        authenticator.authenticate(short)


def _expired(*_, **__):
    raise jwt.ExpiredSignatureError


def test_a_token_without_end_is_verified_again_after_a_while(authenticator, wall, monkeypatch):
    endless = token(AUDIENCE)
    assert authenticator.authenticate(endless)
    monkeypatch.setattr(jwt, "decode", _expired)
    wall.seconds += CACHED_SECONDS + 1
    with pytest.raises(Unauthorized):
        authenticator.authenticate(endless)


def test_no_more_tokens_are_remembered_than_the_limit(authenticator, monkeypatch):
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: {"scope": "read"})
    for number in range(CACHED_MAX + 10):
        authenticator.authenticate(str(number))
    assert len(authenticator._verified) == CACHED_MAX


@pytest.mark.parametrize("wrong", ["", "no pem", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_a_key_that_is_none_is_named(wrong):
    with pytest.raises(InvalidInput) as raised:
        Authenticator(Auth(audience=AUDIENCE, public_keys=(PUBLIC_PEM, wrong)))
    assert raised.value.field == "auth.publicKeys.1"


def test_the_dependency_of_a_scope_is_one_object():
    assert require(Scope.READ) is require(Scope.READ)
    assert require(Scope.READ) is not require(Scope.WRITE)
