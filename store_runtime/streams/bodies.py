"""Bodies: what was posted, decompressed and as NDJSON, whatever form it had. Pure."""

import zlib
from enum import StrEnum

import msgspec

from store_runtime.errors import InvalidInput, TooLarge

TEXT_FIELD = "content"
"""The field of a line of text."""


class BodyKind(StrEnum):
    """How entries stand in a body."""

    NDJSON = "ndjson"  # an object a line
    JSON = "json"  # {"records": [objects]}, an array of objects, or NDJSON after all
    TEXT = "text"  # a line an entry


class _Envelope(msgspec.Struct):
    records: list[msgspec.Raw]


_Records = msgspec.json.Decoder(_Envelope)
_Array = msgspec.json.Decoder(list[msgspec.Raw])
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")


def ndjson(body: bytes, kind: BodyKind) -> bytes:
    """Lines of JSON; raises InvalidInput."""
    if kind is BodyKind.TEXT:
        lines = (line.strip() for line in body.decode(errors="replace").splitlines())
        return b"\n".join(msgspec.json.encode({TEXT_FIELD: line}) for line in lines if line)
    if kind is BodyKind.JSON:
        return _unwrapped(body)
    return body


def _unwrapped(body: bytes) -> bytes:
    try:
        found = _Array.decode(body) if body.lstrip()[:1] == b"[" else _Records.decode(body).records
    except msgspec.ValidationError as error:
        if "records" in str(error) and "missing" not in str(error):
            raise InvalidInput('records has to be an array: {"records": [{…}, {…}]}', field="records") from error
        return body
    except msgspec.DecodeError as error:
        if body.count(b"\n") and "trailing" in str(error):
            return body
        raise InvalidInput(f"the body is not JSON: {error}", field="body") from error
    # Newlines between tokens are white space; within strings JSON has them escaped.
    return b"\n".join(bytes(record).translate(_NEWLINES) for record in found)


def decompressed(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """A body without its content encoding (gzip, deflate, zstd or none); raises InvalidInput, TooLarge."""
    if encoding in ("", "identity"):
        plain = body
    elif encoding == "zstd":
        plain = _unzstd(body, bytes_max)
    else:
        plain = _unzipped(body, bytes_max)
    if len(plain) > bytes_max:
        raise TooLarge(f"the body has more than {bytes_max} bytes (decompressed); send several smaller ones")
    return plain


CONTENT_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "zstd"})


def _unzipped(body: bytes, bytes_max: int) -> bytes:
    """All members of a gzip (or zlib) stream, at most one byte more than allowed."""
    plain = bytearray()
    try:
        while body and len(plain) <= bytes_max:
            inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            plain += inflater.decompress(body, bytes_max + 1 - len(plain))
            if not inflater.eof and len(plain) <= bytes_max:
                raise InvalidInput("the compressed body ends too early", field="body")
            body = inflater.unused_data
    except zlib.error as error:
        raise InvalidInput(f"the body is not gzip: {error}", field="body") from error
    return bytes(plain)


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
            plain: bytes = stream.read(bytes_max + 1)
            return plain
    except OSError as error:
        raise InvalidInput("the body is not zstd", field="body") from error
