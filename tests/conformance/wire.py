"""wire: gRPC over HTTP/2 and protobuf, on Python's standard library alone.

    g = Connection("/run/workload.sock")                       # or ("127.0.0.1", 8080)
    r = g.call("/Service/Method", field(1, "x"), HEADER)       -> Reply(status, message, messages)
    s = g.stream("/Service/Method", b"", HEADER); s.next() -> bytes; s.end() -> Reply; s.cancel()

One thread: whoever waits for a stream reads for all. What a server sends is checked as far as a client that
must understand it would: a compressed message, a header block that cannot be read, a cut-off message raise Broken.
"""
import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
FRAME_MAX, MESSAGE_MAX = 16384, 4 << 20


class Broken(Exception):
    """The server's bytes are not HTTP/2, gRPC or protobuf."""


class Late(Exception):
    """Nothing came in time."""


class Ended(Exception):
    """The stream is over: .reply says how."""

    def __init__(self, reply):
        super().__init__(f"the stream ended: {reply}")
        self.reply = reply


# --- header compression (RFC 7541) ----------------------------------------------------------

# Lengths of the Huffman codes of 0..255 and of the end mark (appendix B); the code is canonical.
LENGTHS = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20,
    20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
    24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27,
    24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
    26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30]
STATIC = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), *((":status", s) for s in ("200", "204", "206", "304", "400", "404", "500")),
    ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), *((n, "") for n in (
        "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization",
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-length",
        "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from",
        "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
        "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh",
        "retry-after", "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary",
        "via", "www-authenticate"))]


def _codes():
    found, code, last = {}, 0, 0
    for length, symbol in sorted((n, i) for i, n in enumerate(LENGTHS)):
        code <<= length - last
        found[length, code] = symbol
        code, last = code + 1, length
    return found


CODES = _codes()


def unhuffman(data):
    out, code, n = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, n = code << 1 | byte >> bit & 1, n + 1
            symbol = CODES.get((n, code))
            if symbol is not None:
                if symbol == 256:
                    raise Broken("HPACK: the end mark inside a text")
                out.append(symbol)
                code = n = 0
    if n > 7 or code != (1 << n) - 1:
        raise Broken("HPACK: bad padding of a text")
    return bytes(out)


class Headers:
    """Reads the header blocks of one direction of a connection."""

    def __init__(self):
        self.dynamic, self.size, self.limit = [], 0, 4096

    def _number(self, data, at, bits):
        n = data[at] & (1 << bits) - 1
        at += 1
        if n == (1 << bits) - 1:
            shift = 0
            while True:
                n += (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
        return n, at

    def _text(self, data, at):
        packed = data[at] & 128
        n, at = self._number(data, at, 7)
        if at + n > len(data):
            raise Broken("HPACK: a text is cut off")
        text = data[at:at + n]
        return (unhuffman(text) if packed else text).decode("latin-1"), at + n

    def _entry(self, i):
        if not 1 <= i <= len(STATIC) + len(self.dynamic):
            raise Broken(f"HPACK: no entry {i}")
        return STATIC[i - 1] if i <= len(STATIC) else self.dynamic[i - 1 - len(STATIC)]

    def _evict(self):
        while self.size > self.limit:
            name, value = self.dynamic.pop()
            self.size -= len(name) + len(value) + 32

    def read(self, data):
        out, at = [], 0
        try:
            while at < len(data):
                first = data[at]
                if first & 128:
                    i, at = self._number(data, at, 7)
                    out.append(self._entry(i))
                elif first & 224 == 32:
                    self.limit, at = self._number(data, at, 5)
                    self._evict()
                else:
                    keep = first & 64
                    i, at = self._number(data, at, 6 if keep else 4)
                    name, at = (self._entry(i)[0], at) if i else self._text(data, at)
                    value, at = self._text(data, at)
                    out.append((name, value))
                    if keep:
                        self.dynamic.insert(0, (name, value))
                        self.size += len(name) + len(value) + 32
                        self._evict()
        except IndexError:
            raise Broken("HPACK: a header block is cut off") from None
        return out


def literal(name, value):
    """A header that is never indexed, without Huffman (RFC 7541 6.2.3)."""
    def text(s):
        s, out = s.encode("latin-1"), b""
        n = len(s)
        if n < 127:
            return bytes([n]) + s
        n -= 127
        while n >= 128:
            out, n = out + bytes([n % 128 + 128]), n // 128
        return b"\x7f" + out + bytes([n]) + s
    return b"\x10" + text(name) + text(value)


# --- protobuf -------------------------------------------------------------------------------

def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    """A string, bytes, or a message's bytes; an int as a varint; a float as a double."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def _varint(data, at):
    n = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Broken("protobuf: a number is cut off")
        n |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return n, at


def parse(data):
    """{number: [values]}: ints, floats or bytes."""
    out, at = {}, 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, n = tag & 7, 0
        if kind == 0:
            v, at = _varint(data, at)
        else:
            if kind == 2:
                n, at = _varint(data, at)
            elif kind in (1, 5):
                n = 8 if kind == 1 else 4
            else:
                raise Broken(f"protobuf: wire type {kind}")
            if at + n > len(data):
                raise Broken("protobuf: a value is cut off")
            v, at = data[at:at + n], at + n
            if kind == 1:
                v = struct.unpack("<d", v)[0]
        out.setdefault(tag >> 3, []).append(v)
    return out


def text(message, number):
    """The last value of a string field, "" if there is none."""
    try:
        return message.get(number, [b""])[-1].decode("utf-8")
    except (UnicodeDecodeError, AttributeError):
        raise Broken(f"protobuf: field {number} is no UTF-8 text") from None


def mapping(message, number):
    """map<string, bytes>."""
    entries = [parse(e) for e in message.get(number, [])]
    return {text(e, 1): e.get(2, [b""])[-1] for e in entries}


# --- gRPC -----------------------------------------------------------------------------------

class Reply:
    """http: the HTTP status; status: grpc-status, or None; code: why it was reset, or None."""

    def __init__(self):
        self.http, self.status, self.message, self.messages, self.code = None, None, "", [], None
        self.headers, self.blocks, self.lost = {}, 0, False

    def __repr__(self):
        if self.status is None:
            what = "the connection broke" if self.lost else f"reset with code {self.code}" if self.code is not None \
                else f"HTTP {self.http} without grpc-status"
        else:
            what = f"grpc-status {self.status}"
        return what + (f" ({self.message})" if self.message else "") + f", {len(self.messages)} messages"


class Stream:
    def __init__(self, connection, sid):
        self.connection, self.id, self.reply = connection, sid, Reply()
        self.buffer, self.closed, self.taken = b"", False, 0

    def send(self, message, last=True):
        self.connection.data(self.id, b"\0" + struct.pack(">I", len(message)) + message, last)

    def cancel(self):
        if not self.closed:
            self.connection.frame(RST, 0, self.id, struct.pack(">I", 8))
        self.closed = True

    def _read(self, until, seconds):
        deadline = time.monotonic() + seconds
        while not until() and not self.closed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late(f"nothing for {seconds:g} s")
            self.connection.pump(left)

    def next(self, seconds=10):
        self._read(lambda: self.taken < len(self.reply.messages), seconds)
        if self.taken == len(self.reply.messages):
            raise Ended(self.reply)
        self.taken += 1
        return self.reply.messages[self.taken - 1]

    def end(self, seconds=10):
        self._read(lambda: False, seconds)
        return self.reply


class Connection:
    def __init__(self, where, authority="localhost", seconds=10):
        self.s = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET6
                               if ":" in where[0] else socket.AF_INET)
        self.s.settimeout(seconds)
        self.s.connect(where)
        self.authority, self.next_id, self.streams = authority, 1, {}
        self.headers, self.block, self.buffer = Headers(), b"", b""
        self.closed, self.ended, self.settled, self.pongs, self.goaway = False, False, False, 0, False
        self.seconds = seconds
        self._send(PREFACE)
        self.frame(SETTINGS, 0, 0, b"")
        self.frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30))

    def close(self):
        self.s.close()

    def frame(self, kind, flags, sid, payload):
        self._send(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload)

    def _send(self, data):
        """Reads what comes meanwhile: two sides that both only write would wait for each other."""
        while data and not self.ended:
            readable, writable, _ = select.select([self.s], [self.s], [], self.seconds)
            if readable:
                self._receive()
            try:
                data = data[self.s.send(data):] if writable else data
            except (ConnectionError, socket.timeout):
                self.ended = True
            self.ended = self.ended or not readable and not writable

    def _receive(self):
        try:
            got = self.s.recv(65536)
        except ConnectionError:
            got = b""
        self.buffer += got
        self.ended = not got

    def data(self, sid, payload, last, size=FRAME_MAX):
        pieces = [payload[i:i + size] for i in range(0, len(payload), size)] or [b""]
        for i, piece in enumerate(pieces):
            self.frame(DATA, END_STREAM if last and i == len(pieces) - 1 else 0, sid, piece)

    def open(self, path, metadata=()):
        sid, self.next_id = self.next_id, self.next_id + 2
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path)]
        if self.authority is not None:
            headers.append((":authority", self.authority))
        headers += [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "spiffe-conformance/1")]
        s = self.streams[sid] = Stream(self, sid)
        self.frame(HEADERS, END_HEADERS, sid, b"".join(literal(n, v) for n, v in (*headers, *metadata)))
        return s

    def stream(self, path, message=b"", metadata=(), last=True):
        s = self.open(path, metadata)
        s.send(message, last)
        return s

    def call(self, path, message=b"", metadata=(), seconds=10):
        return self.stream(path, message, metadata).end(seconds)

    def _lost(self):
        self.closed = True
        for s in self.streams.values():
            if not s.closed:
                s.closed = s.reply.lost = True

    def pump(self, seconds):
        """Read once, and deal with the frames that are whole."""
        if not self._whole() and not self.ended and select.select([self.s], [], [], max(seconds, 0.001))[0]:
            self._receive()
        if self.ended and not self._whole():
            self._lost()
        while len(self.buffer) >= 9:
            n = int.from_bytes(self.buffer[:3], "big")
            if n > FRAME_MAX:
                raise Broken("no HTTP/2: a frame that is larger than was agreed")
            if len(self.buffer) < 9 + n:
                break
            kind, flags, sid = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
            payload, self.buffer = self.buffer[9:9 + n], self.buffer[9 + n:]
            if not self.settled and kind != SETTINGS:
                raise Broken("no HTTP/2: the first frame is not SETTINGS")
            self._take(kind, flags, sid, payload)

    def _whole(self):
        return len(self.buffer) >= 9 and len(self.buffer) >= 9 + int.from_bytes(self.buffer[:3], "big")

    def _take(self, kind, flags, sid, payload):
        s = self.streams.get(sid)
        if kind in (DATA, HEADERS) and flags & PADDED:
            payload = payload[1:len(payload) - payload[0]]
        if kind == HEADERS and flags & PRIORITY:
            payload = payload[5:]
        if kind == SETTINGS:
            self.settled = True
            if not flags & 1:
                self.frame(SETTINGS, 1, 0, b"")
        elif kind == PING:
            if flags & 1:
                self.pongs += 1
            else:
                self.frame(PING, 1, 0, payload)
        elif kind == GOAWAY:
            self.goaway = True
        elif kind in (HEADERS, CONTINUATION):
            self.block += payload
            if flags & END_HEADERS:
                headers, self.block = self.headers.read(self.block), b""
                if s:
                    _head(s.reply, headers)
        elif kind == DATA and s:
            if payload:
                self.frame(WINDOW, 0, sid, struct.pack(">I", len(payload)))
            _messages(s, payload)
        elif kind == RST and s:
            s.reply.code, s.closed = int.from_bytes(payload, "big"), True
        if kind in (DATA, HEADERS) and flags & END_STREAM and s:
            s.closed = True


def _messages(s, payload):
    s.buffer += payload
    while len(s.buffer) >= 5 and s.reply.http == 200:
        n = int.from_bytes(s.buffer[1:5], "big")
        if s.buffer[0]:
            raise Broken("gRPC: a compressed message that nobody asked for")
        if n > MESSAGE_MAX:
            raise Broken(f"gRPC: a message of {n} bytes; clients take 4 MiB")
        if len(s.buffer) < 5 + n:
            break
        s.reply.messages.append(s.buffer[5:5 + n])
        s.buffer = s.buffer[5 + n:]


def _head(reply, headers):
    reply.blocks += 1
    for name, value in headers:
        reply.headers[name] = value
        if name == ":status":
            reply.http = int(value)
        elif name == "grpc-status":
            if not value.isdigit():
                raise Broken(f"gRPC: grpc-status {value!r}")
            reply.status = int(value)
        elif name == "grpc-message":
            reply.message = percent(value)


def percent(value):
    out, i = bytearray(), 0
    while i < len(value):
        try:
            if value[i] == "%":
                out.append(int(value[i + 1:i + 3], 16))
                i += 3
                continue
        except ValueError:
            pass
        out += value[i].encode()
        i += 1
    return out.decode("utf-8", "replace")
