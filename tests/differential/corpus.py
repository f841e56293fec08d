"""The requests of the differential test: hostile framings, connections and targets, and ordinary ones beside them.

An entry is what one client sends on one connection. Every request in it – the ones that only a fooled parser sees,
too – carries `TAG` in its target and in `x-tag`; the runner puts a number of the same length in its place, so that
whatever an origin has parsed can be traced back. Lengths stay right because the number is as long as `TAG` is.

Sections follow the catalogue of attacks in tests/hostile; what is generated here varies one thing at a time: a length,
a coding, a chunk line, a line end, a field name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TAG = b"t@@@@@"
HIDDEN = b"GET /" + TAG + b"/hidden HTTP/1.1\r\nHost: hidden\r\nX-Tag: " + TAG + b"\r\n\r\n"
#: Closes every entry: whoever got out of step reads it as something else.
NEXT = b"GET /" + TAG + b"/next HTTP/1.1\r\nHost: test\r\nX-Tag: " + TAG + b"\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Entry:
    """What one client sends."""

    name: str
    section: str
    raw: bytes
    #: A well-formed exchange that every proxy should serve; the number of its requests.
    ordinary: int = 0

    def bytes(self, number: int) -> bytes:
        """With the tag of its number, and the request that follows."""
        return (self.raw + NEXT).replace(TAG, tag(number))


def tag(number: int) -> bytes:
    return b"t%05d" % number


def head(
    *fields: bytes,
    method: bytes = b"POST",
    target: bytes = b"/" + TAG,
    version: bytes = b"HTTP/1.1",
    end: bytes = b"\r\n",
) -> bytes:
    """A request head with Host and tag, and the raw field lines given."""
    lines = [method + b" " + target + b" " + version, b"Host: test", b"X-Tag: " + TAG, *fields]
    return end.join(lines) + end + end


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def corpus() -> list[Entry]:
    """All entries; names are unique."""
    parts = [
        *_ordinary(),
        *_lengths(),
        *_codings(),
        *_chunk_lines(),
        *_trailers(),
        *_line_ends(),
        *_names(),
        *_request_lines(),
        *_hosts(),
        *_targets(),
        *_connections(),
    ]
    names = [entry.name for entry in parts]
    if len(set(names)) != len(names):
        raise ValueError(f"names given twice: {sorted(n for n in names if names.count(n) > 1)}")
    return parts


def quick() -> list[Entry]:
    """Every third entry, and all ordinary ones: a minute's worth."""
    return [entry for number, entry in enumerate(corpus()) if entry.ordinary or number % 3 == 0]


def _show(value: bytes) -> str:
    """A short printable name for raw bytes."""
    return value.decode("latin-1").encode("unicode_escape").decode()


def _ordinary() -> Iterator[Entry]:
    body = b"hello=world"
    length = b"Content-Length: %d" % len(body)
    coded = b"Transfer-Encoding: chunked"
    get = head(method=b"GET")
    for name, raw, count in (
        ("GET", get, 1),
        ("GET with a query", head(method=b"GET", target=b"/" + TAG + b"/a?b=c&d=%20e"), 1),
        ("HEAD", head(method=b"HEAD"), 1),
        ("OPTIONS", head(method=b"OPTIONS"), 1),
        ("DELETE", head(method=b"DELETE"), 1),
        ("POST with a length", head(length) + body, 1),
        ("PUT with a length", head(length, method=b"PUT") + body, 1),
        ("PATCH with a length", head(length, method=b"PATCH") + body, 1),
        ("POST of length 0", head(b"Content-Length: 0"), 1),
        ("POST chunked", head(coded) + chunks(body, b"more"), 1),
        ("POST chunked and empty", head(coded) + chunks(), 1),
        ("GET chunked", head(coded, method=b"GET") + chunks(body), 1),
        ("GET with a length", head(length, method=b"GET") + body, 1),
        ("DELETE with a body", head(length, method=b"DELETE") + body, 1),
        ("OPTIONS with a body", head(coded, method=b"OPTIONS") + chunks(body), 1),
        ("Expect: 100-continue", head(length, b"Expect: 100-continue") + body, 1),
        ("a body of 100 kB", head(b"Content-Length: 100000") + b"x" * 100_000, 1),
        ("chunks of 1 byte", head(coded) + chunks(*(b"%c" % b for b in b"abcdefghijklmnopqrstuvwxyz")), 1),
        ("a request in a body", head(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 1),
        ("a request in a chunk", head(coded) + chunks(HIDDEN), 1),
        ("two GETs in one piece", get + get, 2),
        ("ten GETs in one piece", get * 10, 10),
        ("POST, GET, POST in one piece", head(length) + body + get + head(coded) + chunks(body), 3),
        ("HEAD, then GET", head(method=b"HEAD") + get, 2),
        ("cookies and a long value", head(b"Cookie: a=b; c=d", b"X-Long: " + b"v" * 3000, method=b"GET"), 1),
        ("fifty fields", head(*(b"X-%d: %d" % (n, n) for n in range(50)), method=b"GET"), 1),
        ("fields named twice", head(b"Accept: a/b", b"Accept: c/d", method=b"GET"), 1),
        ("field values with high bytes", head(b"X-Name: J\xfcrgen", method=b"GET"), 1),
        ("empty field value", head(b"X-Empty:", method=b"GET"), 1),
        ("HTTP/1.0 keep-alive", head(b"Connection: keep-alive", method=b"GET", version=b"HTTP/1.0"), 1),
        ("upgrade that is declined", head(b"Connection: upgrade", b"Upgrade: foo/2", method=b"GET"), 1),
        ("empty line in front", b"\r\n" + get, 1),
    ):
        yield Entry(f"ordinary: {name}", "ordinary", raw, count)


def _lengths() -> Iterator[Entry]:
    for value in (
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"0b101",
        b"0o5",
        b"5.0",
        b"5e0",
        b"05",
        b"0000000000000000000005",
        b"5 ",
        b"\t5",
        b"5\t",
        b"\x0b5",
        b"5\x0c",
        b"5\x00",
        b"5\xa0",
        b"\x855",
        b"5 5",
        b"5_0",
        b"1_0",
        b"5,",
        b",5",
        b"5,5",
        b"5, 5",
        b"5,6",
        b"5;5",
        b'"5"',
        b"",
        b" ",
        b"five",
        b"\xd9\xa5",
        b"\xef\xbc\x95",
        b"18446744073709551621",
        b"4294967301",
        b"9223372036854775813",
        b"99999999999999999999999999999999",
    ):
        yield Entry(f"length {_show(value)!r}", "length", head(b"Content-Length: " + value) + b"hello")
    hidden = b"%d" % len(HIDDEN)
    for name, fields, body in (
        ("two equal lengths", (b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
        ("lengths 0 and hidden", (b"Content-Length: 0", b"Content-Length: " + hidden), HIDDEN),
        ("lengths hidden and 0", (b"Content-Length: " + hidden, b"Content-Length: 0"), HIDDEN),
        ("length with an underscore", (b"Content_Length: " + hidden,), HIDDEN),
        ("length with a space before the colon", (b"Content-Length : " + hidden,), HIDDEN),
        ("length with a tab before the colon", (b"Content-Length\t: " + hidden,), HIDDEN),
        ("length with a space in front", (b" Content-Length: " + hidden,), HIDDEN),
        ("length folded", (b"Content-Length:\r\n " + hidden,), HIDDEN),
        ("length as a continuation", (b"X-A: b\r\n Content-Length: " + hidden,), HIDDEN),
        ("length behind a NUL", (b"X-A: b\x00", b"Content-Length: " + hidden), HIDDEN),
        ("length behind a bare CR", (b"X-A: b\rContent-Length: " + hidden,), HIDDEN),
        ("length behind a bare LF", (b"X-A: b\nContent-Length: " + hidden,), HIDDEN),
        ("length in upper case", (b"CONTENT-LENGTH: " + hidden,), HIDDEN),
        ("length hidden by Connection", (b"Content-Length: " + hidden, b"Connection: Content-Length"), HIDDEN),
        ("length in HTTP/1.0 with a hidden request", (b"Content-Length: 0", b"Connection: keep-alive"), HIDDEN),
        ("length too short for its body", (b"Content-Length: 3",), b"hello"),
        ("empty name before a length", (b": x", b"Content-Length: " + hidden), HIDDEN),
    ):
        version = b"HTTP/1.0" if "1.0" in name else b"HTTP/1.1"
        yield Entry(f"length: {name}", "length", head(*fields, version=version) + body)
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"FOO"):
        yield Entry(
            f"length: {method.decode()} with a hidden request",
            "length",
            head(b"Content-Length: " + hidden, method=method) + HIDDEN,
        )
    yield Entry("length: longer than what follows", "length", head(b"Content-Length: 100000") + b"hello")


def _codings() -> Iterator[Entry]:
    lines = (
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: Chunked",
        b"TRANSFER-ENCODING: CHUNKED",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b" Transfer-Encoding: chunked",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding:\x0cchunked",
        b"Transfer-Encoding: \x00chunked",
        b"Transfer-Encoding: chunked\x00",
        b"Transfer-Encoding: chunked\x0b",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding: \xa0chunked",
        b"Transfer-Encoding: chunked\x85",
        b"Transfer-Encoding: chun\xe7ked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: x chunked",
        b"Transfer-Encoding: chunked x",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: 'chunked'",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: cow, chunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: ",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: x\r\n chunked",
        b"Transfer-Encoding: chunked\r\n ,x",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-encoding: x",
        b"X-A: b\nTransfer-Encoding: chunked",
        b"X-A: b\rTransfer-Encoding: chunked",
        b"X-A: b\r\n Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
        b"Content-Encoding: chunked",
        b"Transfer-Encodin\xe7: chunked",
    )
    coded = b"0\r\n\r\n" + HIDDEN
    for line in lines:
        name = _show(line)
        # CL.TE: the length covers all, a chunked reader stops early and finds the hidden request.
        yield Entry(f"coding CL.TE {name!r}", "coding", head(b"Content-Length: %d" % len(coded), line) + coded)
        # TE.CL: the length stops early, a chunked reader takes all.
        body = chunks(HIDDEN)
        short = b"%x\r\n" % len(HIDDEN)
        yield Entry(f"coding TE.CL {name!r}", "coding", head(line, b"Content-Length: %d" % len(short)) + body)
    for line in lines[::3]:
        # TE.0: no length at all.
        yield Entry(f"coding TE.0 {_show(line)!r}", "coding", head(line) + chunks(HIDDEN))
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
        yield Entry(
            f"coding: {method.decode()} chunked with a hidden request",
            "coding",
            head(b"Transfer-Encoding: chunked", method=method) + chunks(HIDDEN),
        )
    for version in (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.", b"http/1.1"):
        fields = (b"Transfer-Encoding: chunked", b"Connection: keep-alive")
        yield Entry(f"coding: chunked in {version.decode()}", "coding", head(*fields, version=version) + chunks(HIDDEN))


def _chunk_lines() -> Iterator[Entry]:
    coded = head(b"Transfer-Encoding: chunked")
    for line in (
        b"05",
        b"005",
        b"0000000000000000005",
        b"0x5",
        b"0X5",
        b"+5",
        b"-5",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"5\x0b",
        b"5\x00",
        b"5_",
        b"5,",
        b"5h",
        b"5.0",
        b"5\xa0",
        b"5;",
        b"5 ;a",
        b"5;a",
        b"5;a=b",
        b"5;a = b",
        b'5;a="b;c"',
        b'5;a="b',
        b'5;a="\r\n"',
        b"5;a=b\n",
        b"5;a\rb",
        b"5;\x00",
        b"5;" + b"a" * 600,
        b"5;" + b"a" * 20_000,
        b"5;=",
        b"5;a=\xff",
        b"100000005",
        b"10000000000000005",
        b"100000000000000005",
        b"fffffffffffffffffffffff5",
        b"five",
        b"",
    ):
        name = _show(line[:24])
        yield Entry(f"chunk line {name!r} ({len(line)})", "chunk", coded + line + b"\r\nhello\r\n0\r\n\r\n")
    for name, body in (
        ("size line ends in LF", b"5\nhello\r\n0\r\n\r\n"),
        ("size line ends in CR", b"5\rhello\r\n0\r\n\r\n"),
        ("size line ends in CRCRLF", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("size line ends in LFCR", b"5\n\rhello\r\n0\r\n\r\n"),
        ("data ends in LF", b"5\r\nhello\n0\r\n\r\n"),
        ("data ends in CR", b"5\r\nhello\r0\r\n\r\n"),
        ("data without an end", b"5\r\nhello0\r\n\r\n"),
        ("data ends in XX", b"5\r\nhelloXX0\r\n\r\n"),
        ("data longer than its size", b"5\r\nhello!\r\n0\r\n\r\n"),
        ("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n"),
        ("last chunk 00", b"5\r\nhello\r\n00\r\n\r\n"),
        ("last chunk of twenty zeros", b"5\r\nhello\r\n" + b"0" * 20 + b"\r\n\r\n"),
        ("last chunk -0", b"5\r\nhello\r\n-0\r\n\r\n"),
        ("last chunk 0x0", b"5\r\nhello\r\n0x0\r\n\r\n"),
        ("last chunk with an extension", b"5\r\nhello\r\n0;a=b\r\n\r\n"),
        ("last chunk ends in LF", b"5\r\nhello\r\n0\n\n"),
        ("last chunk ends in LF, then CRLF", b"5\r\nhello\r\n0\n\r\n"),
        ("last chunk, then LF", b"5\r\nhello\r\n0\r\n\n"),
        ("last chunk, then CR and X", b"5\r\nhello\r\n0\r\n\rX"),
        ("last chunk, then XX", b"5\r\nhello\r\n0\r\nXX"),
        ("last chunk without an empty line", b"5\r\nhello\r\n0\r\n"),
        ("no last chunk", b"5\r\nhello\r\n"),
        ("hidden in an extension with LF", b"5;\n\r\nhello\r\n0\r\n\r\n"),
        ("hidden behind an extension", b"2;\nxx\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"),
        ("hidden as extension text", b"5;a=" + HIDDEN[:-4] + b"\r\nhello\r\n0\r\n\r\n"),
        ("spill over the data", b"3\r\nabcXX\r\n0\r\n\r\n"),
    ):
        yield Entry(f"chunk: {name}", "chunk", coded + body)


def _trailers() -> Iterator[Entry]:
    coded = head(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n"
    for name, lines in (
        ("plain", b"X-Late: 1\r\n\r\n"),
        ("Content-Length", b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN),
        ("Transfer-Encoding", b"Transfer-Encoding: chunked\r\n\r\n"),
        ("Host", b"Host: hidden\r\n\r\n"),
        ("Authorization", b"Authorization: Basic eA==\r\n\r\n"),
        ("ends in LF", b"X-Late: 1\n\r\n"),
        ("all ends in LF", b"X-Late: 1\n\n"),
        ("space before the colon", b"X-Late : 1\r\n\r\n"),
        ("folded", b"X-Late: 1\r\n 2\r\n\r\n"),
        ("no colon", b"nonsense\r\n\r\n"),
        ("empty name", b": 1\r\n\r\n"),
        ("NUL", b"X-Late: a\x00b\r\n\r\n"),
        ("bare CR", b"X-Late: a\rb\r\n\r\n"),
        ("a request", HIDDEN),
        ("9 kB", b"X-Late: " + b"a" * 9_000 + b"\r\n\r\n"),
    ):
        yield Entry(f"trailer: {name}", "chunk", coded + lines)


def _line_ends() -> Iterator[Entry]:
    get = head(method=b"GET")
    tagged = b"\r\nHost: test\r\nX-Tag: " + TAG
    for name, raw in (
        ("all bare LF", head(method=b"GET", end=b"\n")),
        ("all bare CR", head(method=b"GET", end=b"\r")),
        ("all CRCRLF", head(method=b"GET", end=b"\r\r\n")),
        ("all LFCR", head(method=b"GET", end=b"\n\r")),
        ("request line ends in LF", b"GET /" + TAG + b" HTTP/1.1\nHost: test\r\nX-Tag: " + TAG + b"\r\n\r\n"),
        ("request line ends in CR", b"GET /" + TAG + b" HTTP/1.1\rHost: test\r\nX-Tag: " + TAG + b"\r\n\r\n"),
        ("head ends in LFLF", b"GET /" + TAG + b" HTTP/1.1" + tagged + b"\n\n"),
        ("head ends in CRLF LF", b"GET /" + TAG + b" HTTP/1.1" + tagged + b"\r\n\n"),
        ("head ends in LF CRLF", b"GET /" + TAG + b" HTTP/1.1" + tagged + b"\n\r\n"),
        ("head ends in CRLF CR X", b"GET /" + TAG + b" HTTP/1.1" + tagged + b"\r\n\rX"),
        ("head ends in CRLF X", b"GET /" + TAG + b" HTTP/1.1" + tagged + b"\r\n\rX-B: c\r\n\r\n"),
        ("two empty lines in front", b"\r\n\r\n" + get),
        ("ten empty lines in front", b"\r\n" * 10 + get),
        ("LF in front", b"\n" + get),
        ("CR in front", b"\r" + get),
        ("space in front", b" " + get),
        ("NUL in front", b"\x00" + get),
        ("junk in front", b"xyz\r\n" + get),
        ("byte order mark in front", b"\xef\xbb\xbf" + get),
        ("CRLF between two requests", get + b"\r\n" + get),
        ("LF between two requests", get + b"\n" + get),
        ("junk between two requests", get + b"xyz\r\n" + get),
        ("invalid second request", get + b"GET / \r\n\r\n"),
    ):
        yield Entry(f"line end: {name}", "line", raw)


def _names() -> Iterator[Entry]:
    for line in (
        b"X A: b",
        b"X-A : b",
        b"X-A\t: b",
        b" X-A: b",
        b"\tX-A: b",
        b"X-A",
        b": b",
        b":",
        b"X-\x00A: b",
        b"X-A: b\x00c",
        b"X-A: b\x01c",
        b"X-A: b\x7fc",
        b"X-A: b\x0bc",
        b"X-A: b\rc",
        b"X-A: b\n c",
        b"X-A: b\r\n c",
        b"X-A: b\r\n\tc",
        b"X-A: b\r\n \r\n c",
        b"X-\xc3\xa9: b",
        b"X(A): b",
        b'X"A: b',
        b"X[A]: b",
        b"X{A}: b",
        b"X@A: b",
        b"X/A: b",
        b"X,A: b",
        b"X;A: b",
        b"X=A: b",
        b"X_A: b",
        b"X.A: b",
        b"GET / HTTP/1.1",
        b"X" * 9000 + b": b",
        b"X-A: " + b"b" * 40_000,
        b"X" * 300 + b": b",
    ):
        yield Entry(f"field {_show(line[:30])!r} ({len(line)})", "field", head(line, method=b"GET"))
    yield Entry("field: 300 of them", "field", head(*(b"X-%d: y" % n for n in range(300)), method=b"GET"))
    yield Entry("field: 3000 of them", "field", head(*(b"X-%d: y" % n for n in range(3000)), method=b"GET"))


def _request_lines() -> Iterator[Entry]:
    rest = b"\r\nHost: test\r\nX-Tag: " + TAG + b"\r\n\r\n"
    target = b"/" + TAG
    for line in (
        b"GET  " + target + b" HTTP/1.1",
        b"GET " + target + b"  HTTP/1.1",
        b"GET\t" + target + b"\tHTTP/1.1",
        b"GET " + target + b" HTTP/1.1 ",
        b"GET " + target + b" HTTP/1.1\t",
        b"GET " + target + b"\x0bHTTP/1.1",
        b"GET " + target + b" x HTTP/1.1",
        b"GET " + target + b" HTTP/1.1 HTTP/1.1",
        b"GET " + target,
        b"GET " + target + b" ",
        b"GET " + target + b" HTTP/1.0",
        b"GET " + target + b" HTTP/1.2",
        b"GET " + target + b" HTTP/1.9",
        b"GET " + target + b" HTTP/2.0",
        b"GET " + target + b" HTTP/3",
        b"GET " + target + b" HTTP/11",
        b"GET " + target + b" HTTP/1.01",
        b"GET " + target + b" HTTP/01.1",
        b"GET " + target + b" HTTP/1,1",
        b"GET " + target + b" HTTP/1.1x",
        b"GET " + target + b" HTTPS/1.1",
        b"GET " + target + b" http/1.1",
        b"GET " + target + b" RTSP/1.0",
        b"get " + target + b" HTTP/1.1",
        b"Get " + target + b" HTTP/1.1",
        b"G@T " + target + b" HTTP/1.1",
        b"GE\x00T " + target + b" HTTP/1.1",
        b"GE(T) " + target + b" HTTP/1.1",
        b"\xc3\x89T " + target + b" HTTP/1.1",
        b"M-SEARCH " + target + b" HTTP/1.1",
        b"PROPFIND " + target + b" HTTP/1.1",
        b"FOO " + target + b" HTTP/1.1",
        b"A" * 100 + b" " + target + b" HTTP/1.1",
        b"CONNECT test:80 HTTP/1.1",
        b"CONNECT " + target + b" HTTP/1.1",
        b"TRACE " + target + b" HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"OPTIONS * HTTP/1.1",
        b"GET * HTTP/1.1",
    ):
        yield Entry(f"request line {_show(line[:60])!r}", "request line", line + rest)


def _hosts() -> Iterator[Entry]:
    line = b"GET /" + TAG + b" HTTP/1.1\r\nX-Tag: " + TAG + b"\r\n"
    for fields in (
        b"",
        b"Host:\r\n",
        b"Host: \r\n",
        b"Host: a\r\nHost: b\r\n",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a\r\nhost : b\r\n",
        b"Host: a, b\r\n",
        b"Host: a b\r\n",
        b"Host: a@b\r\n",
        b"Host: a/b\r\n",
        b"Host: a?b\r\n",
        b"Host: a#b\r\n",
        b"Host: a:b\r\n",
        b"Host: a:80:90\r\n",
        b"Host: a:99999\r\n",
        b"Host: a:\r\n",
        b"Host: [::1]\r\n",
        b"Host: [::1\r\n",
        b"Host: a\x00b\r\n",
        b"Host: a\\b\r\n",
        b"Host: \xc3\xa9\r\n",
        b"Host: A.EXAMPLE.\r\n",
        b"Host: a%2eb\r\n",
        b"X-A: b\r\n Host: c\r\n",
    ):
        yield Entry(f"host {_show(fields)!r}", "host", line + fields + b"\r\n")
    for target in (b"http://other/" + TAG, b"HTTP://other/" + TAG, b"https://other/" + TAG, b"http://a@other/" + TAG,
                   b"http:///" + TAG, b"http://other?" + TAG, b"http://other#" + TAG, b"ftp://other/" + TAG,
                   b"http:/" + TAG, b"//other/" + TAG, b"other/" + TAG, b"other:80"):  # fmt: skip
        yield Entry(f"host: target {_show(target)!r}", "host", head(method=b"GET", target=target))


def _targets() -> Iterator[Entry]:
    base = b"/" + TAG
    for target in (
        base + b"/../x",
        base + b"/a/../b",
        base + b"/./b",
        base + b"/%2e%2e/x",
        base + b"/%2E./x",
        base + b"/..%2fx",
        base + b"/..%5cx",
        base + b"/..\\x",
        base + b"/a//b",
        b"/" + base,
        b"/../" + TAG,
        b"/../../" + TAG,
        base + b"/a%2fb",
        base + b"/a%5Cb",
        base + b"/a\\b",
        base + b"/a%00b",
        base + b"/a%0d%0aX:%20y",
        base + b"/a%0ab",
        base + b"/a#b",
        base + b"/a?b#c",
        base + b"/a?b?c",
        base + b"/a?b=%",
        base + b"/a?b=%zz",
        base + b"/a?b;c",
        base + b"/a?b=c d",
        base + b"/a%",
        base + b"/a%4",
        base + b"/a%zz",
        base + b"/a%u002f",
        base + b"/a%c0%ae",
        base + b"/a%c0%afb",
        base + b"/a\x00b",
        base + b"/a\x01b",
        base + b"/a\x7fb",
        base + b"/a\x80b",
        base + b"/\xc3\xa9",
        base + b"/%C3%A9",
        base + b"/%7euser",
        base + b"/a;b=c/d",
        base + b"/..;/x",
        base + b'/a"b<c>d',
        base + b"/a|b^c`d",
        base + b"/a{b}c",
        base + b"/a[b]c",
        base + b"/a\tb",
        base + b"/a\x0bb",
        base + b"/a\rb",
        base + b"/" + b"a" * 5_000,
        base + b"/" + b"a" * 40_000,
        base + b"/a?" + b"b" * 5_000,
        base + b"?a=b",
        b"?" + TAG,
        b"%2f" + TAG,
        TAG,
        base + b"/%252e%252e/x",
        base + b"/a/.",
        base + b"/a/..",
    ):
        yield Entry(f"target {_show(target[:40])!r} ({len(target)})", "target", head(method=b"GET", target=target))


def _connections() -> Iterator[Entry]:
    hidden = b"%d" % len(HIDDEN)
    coded = b"Transfer-Encoding: chunked"
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    websocket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                 b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    get = head(method=b"GET")
    for name, raw in (
        ("names Host", head(b"Connection: Host", method=b"GET")),
        ("names Content-Length", head(b"Connection: Content-Length", b"Content-Length: " + hidden) + HIDDEN),
        ("names Transfer-Encoding", head(b"Connection: Transfer-Encoding", coded) + chunks(HIDDEN)),
        ("names x-fresh-id", head(b"Connection: X-Fresh-Id, X-Request-Id", method=b"GET")),
        ("names a field", head(b"Connection: X-Hop", b"X-Hop: 1", method=b"GET")),
        ("close", head(b"Connection: close", method=b"GET")),
        ("close and more", head(b"Connection: close", method=b"GET") + get),
        ("keep-alive, close", head(b"Connection: keep-alive, close", method=b"GET")),
        ("bad token", head(b"Connection: a b", method=b"GET")),
        ("Proxy-Connection", head(b"Proxy-Connection: keep-alive", method=b"GET")),
        ("Keep-Alive", head(b"Keep-Alive: timeout=1", method=b"GET")),
        ("TE: trailers", head(b"TE: trailers", b"Connection: TE", method=b"GET")),
        ("h2c upgrade", head(*h2c, method=b"GET")),
        ("h2c upgrade with a preface", head(*h2c, method=b"GET") + preface),
        ("h2c upgrade without settings", head(b"Connection: Upgrade", b"Upgrade: h2c", method=b"GET")),
        ("h2 preface", preface),
        ("websocket upgrade that is declined", head(*websocket, method=b"GET")),
        ("upgrade with bytes before 101", head(*websocket, method=b"GET") + HIDDEN),
        ("upgrade with a body", head(*websocket, b"Content-Length: " + hidden) + HIDDEN),
        ("upgrade without Connection", head(b"Upgrade: websocket", method=b"GET")),
        ("Expect with a hidden body", head(b"Expect: 100-continue", b"Content-Length: " + hidden) + HIDDEN),
        ("unknown Expect", head(b"Expect: 200-ok", b"Content-Length: " + hidden) + HIDDEN),
        ("Expect folded", head(b"Expect:\r\n 100-continue", b"Content-Length: " + hidden) + HIDDEN),
        ("Expect twice", head(b"Expect: 100-continue, 100-continue", b"Content-Length: 5") + b"hello"),
        ("Expect on OPTIONS", head(b"Expect: 100-continue", b"Content-Length: 5", method=b"OPTIONS") + b"hello"),
        ("Expect on GET without a body", head(b"Expect: 100-continue", method=b"GET")),
        ("CONNECT with early bytes", head(method=b"CONNECT", target=b"test:80") + HIDDEN),
        ("HTTP/1.0 without keep-alive", head(method=b"GET", version=b"HTTP/1.0") + get),
        ("HTTP/1.0 POST without a length", head(version=b"HTTP/1.0") + HIDDEN),
        ("HTTP/0.9", b"GET /" + TAG + b"\r\n"),
        ("HEAD with a body and a hidden request", head(b"Content-Length: " + hidden, method=b"HEAD") + HIDDEN),
        ("internal redirect fields", head(b"X-Accel-Redirect: /x", b"X-Original-URL: /hidden", method=b"GET")),
        ("method override", head(b"X-HTTP-Method-Override: DELETE", b"Content-Length: 0")),
    ):  # fmt: skip
        yield Entry(f"connection: {name}", "connection", raw)
