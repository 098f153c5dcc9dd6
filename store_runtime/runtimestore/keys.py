"""The keys of items: one text each, unambiguous whatever the names contain.

    u/<provider>/<key>/<metric>     a metric: lifetime total and rings
    c/<namespace>/<sha256>          a cache entry; the caller's key is hashed, so a prompt of any length will do
    o/<sha256>                      an op_id that was applied

Each name is percent-encoded UTF-8 with nothing but A-Z a-z 0-9 - . _ ~ left as it is (RFC 3986, unreserved), so '/'
only separates. Encoding keeps prefixes: the encoded prefix of a name is a prefix of the encoded name.
"""

import hashlib
from functools import lru_cache
from urllib.parse import quote, unquote

from store_runtime.errors import InvalidInput, TooLarge
from store_runtime.runtimestore.model import CACHE_KEY_BYTES_MAX, NAME_BYTES_MAX, OP_ID_BYTES_MAX

USAGE, CACHE, OPERATION = "u/", "c/", "o/"

_REMEMBERED_KEYS = 65_536
"""Encoded usage keys kept, about 20 MB at most: encoding costs more than counting."""


def utf8(text: str, field: str, bytes_max: int, *, empty: bool = False) -> bytes:
    """The text's UTF-8; refuses what is not text, empty (unless allowed), too long or has a lone surrogate."""
    if not isinstance(text, str):
        raise InvalidInput(f"{field} has to be text, not {type(text).__name__}", field=field)
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field} has a lone surrogate at {error.start}; send valid Unicode", field=field) from None
    if not encoded and not empty:
        raise InvalidInput(f"{field} is empty", field=field)
    if len(encoded) > bytes_max:
        raise TooLarge(f"{field} has {len(encoded)} bytes of UTF-8; the limit is {bytes_max}", field=field)
    return encoded


def _name(text: str, field: str) -> str:
    return quote(utf8(text, field, NAME_BYTES_MAX), safe="")


@lru_cache(_REMEMBERED_KEYS)
def usage_key(provider: str, key: str, metric: str) -> str:
    """`u/<provider>/<key>/<metric>`."""
    return f"{USAGE}{_name(provider, 'provider')}/{_name(key, 'key')}/{_name(metric, 'metric')}"


def usage_names(item_key: str) -> tuple[str, str, str]:
    """Provider, key and metric of a usage key."""
    provider, key, metric = item_key.removeprefix(USAGE).split("/")
    return unquote(provider), unquote(key), unquote(metric)


def usage_prefix(provider: str | None, key_prefix: str) -> str:
    """What the usage keys of `provider` (None: of all), or those whose key begins with `key_prefix`, begin with."""
    if provider is None:
        if key_prefix:
            raise InvalidInput("a key prefix needs a provider", field="provider")
        return USAGE
    encoded = quote(utf8(key_prefix, "key_prefix", NAME_BYTES_MAX, empty=True), safe="")
    return f"{USAGE}{_name(provider, 'provider')}/{encoded}"


def cache_key(namespace: str, key: str) -> str:
    """`c/<namespace>/<sha256 of key>`; an empty key is a key like any other."""
    digest = hashlib.sha256(utf8(key, "key", CACHE_KEY_BYTES_MAX, empty=True)).hexdigest()
    return f"{CACHE}{_name(namespace, 'namespace')}/{digest}"


def operation_key(op_id: str) -> str:
    """`o/<sha256 of op_id>`."""
    return OPERATION + hashlib.sha256(utf8(op_id, "op_id", OP_ID_BYTES_MAX)).hexdigest()
