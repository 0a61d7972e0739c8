"""grpc_client: gRPC for the tests, on sockets and frames of HTTP/2; no gRPC library.

Header compression is libnghttp2's own (through ctypes): the rest of HTTP/2 that a client of gRPC
needs is frames with a nine-byte head. One thread: whoever waits for a stream reads for all.

    g = Client("/run/workload.sock")                   # or Client(("127.0.0.1", 8080))
    reply = g.call("/grpc.health.v1.Health/Check", field(1, b""))   -> Reply(status, message, messages)
    s = g.stream("/SpiffeWorkloadAPI/FetchX509SVID", b"", {"workload.spiffe.io": "true"})
    s.next() -> bytes; s.end() -> Reply; s.cancel()
"""
import ctypes
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


class NV(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)),
                ("namelen", ctypes.c_size_t), ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


LIB = ctypes.CDLL("libnghttp2.so.14")
LIB.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
LIB.nghttp2_hd_inflate_hd2.argtypes = [ctypes.c_void_p, ctypes.POINTER(NV), ctypes.POINTER(ctypes.c_int),
                                       ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]


class Inflater:
    def __init__(self):
        self.p = ctypes.c_void_p()
        assert LIB.nghttp2_hd_inflate_new(ctypes.byref(self.p)) == 0

    def read(self, block):
        out, nv, flags = [], NV(), ctypes.c_int()
        while True:
            n = LIB.nghttp2_hd_inflate_hd2(self.p, ctypes.byref(nv), ctypes.byref(flags), block, len(block), 1)
            assert n >= 0, "a header block that cannot be read"
            block = block[n:]
            if flags.value & 2:
                out.append((bytes(nv.name[:nv.namelen]).decode(), bytes(nv.value[:nv.valuelen]).decode("latin-1")))
            if flags.value & 1:
                LIB.nghttp2_hd_inflate_end_headers(self.p)
                return out


def literal(name, value):
    """A header as a literal that is never indexed, without Huffman (RFC 7541 6.2.3)."""
    def text(s):
        s = s.encode("latin-1") if isinstance(s, str) else s
        n = len(s)
        if n < 127:
            return bytes([n]) + s
        out, n = b"\x7f", n - 127
        while n >= 128:
            out, n = out + bytes([n % 128 + 128]), n // 128
        return out + bytes([n]) + s
    return b"\x10" + text(name) + text(value)


class Ended(Exception):
    """The stream is over: .reply says how."""

    def __init__(self, reply):
        super().__init__(f"grpc-status {reply.status}: {reply.message}")
        self.reply = reply


class Reply:
    """http: the HTTP status; status: grpc-status, or None (reset: code says why)."""

    def __init__(self):
        self.http, self.status, self.message, self.messages, self.code = None, None, "", [], None
        self.headers, self.blocks = {}, 0

    def __repr__(self):
        return f"<http={self.http} grpc-status={self.status} {self.message!r} code={self.code} n={len(self.messages)}>"


class Stream:
    def __init__(self, client, sid):
        self.client, self.id, self.reply = client, sid, Reply()
        self.buffer, self.closed, self.taken = b"", False, 0
        self.room = client.initial  # bytes that the server takes; only a patient sender looks at it

    def send(self, message, last=False, patient=False):
        self.client.data(self.id, b"\0" + struct.pack(">I", len(message)) + message, last, patient)

    def half_close(self):
        self.client.frame(DATA, 1, self.id, b"")

    def cancel(self, code=8):
        self.client.frame(RST, 0, self.id, struct.pack(">I", code))
        self.closed = True

    def _read(self, until, seconds):
        deadline = time.monotonic() + seconds
        while not until() and not self.closed:
            self.client.pump(max(0.01, deadline - time.monotonic()))
            if time.monotonic() > deadline and not until() and not self.closed:
                raise TimeoutError(f"nothing on stream {self.id} for {seconds} s: {self.reply}")

    def next(self, seconds=20):
        self._read(lambda: self.taken < len(self.reply.messages), seconds)
        if self.taken == len(self.reply.messages):
            raise Ended(self.reply)
        self.taken += 1
        return self.reply.messages[self.taken - 1]

    def end_or_message(self, seconds=20):
        """The next message, or None if the stream ends first."""
        try:
            return self.next(seconds)
        except Ended:
            return None

    def quiet(self, seconds=0.3):
        """Nothing comes within this time."""
        try:
            self.next(seconds)
        except TimeoutError:
            return True
        return False

    def end(self, seconds=20):
        self._read(lambda: False, seconds)
        return self.reply


class Client:
    def __init__(self, where, authority="localhost", settings=b"", window=1 << 30, tls=None):
        if isinstance(where, str):
            self.s = socket.socket(socket.AF_UNIX)
        else:
            self.s = socket.socket()
        self.s.settimeout(20)
        self.s.connect(where)
        if tls:
            tls.set_alpn_protocols(["h2"])
            self.s = tls.wrap_socket(self.s, server_hostname=authority)
            assert self.s.selected_alpn_protocol() == "h2", "no h2 by ALPN"
        self.authority, self.next_id, self.streams = authority, 1, {}
        self.inflater, self.block, self.buffer = Inflater(), b"", b""
        self.goaway, self.closed, self.pongs = False, False, 0
        self.room = self.initial = 65535
        self.s.sendall(PREFACE)
        self.frame(SETTINGS, 0, 0, settings)
        if window:
            self.frame(WINDOW, 0, 0, struct.pack(">I", window))

    def close(self):
        self.s.close()

    def frame(self, kind, flags, sid, payload):
        self.s.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload)

    def data(self, sid, payload, last, patient=False):
        s = self.streams[sid]
        pieces = [payload[i:i + 16384] for i in range(0, len(payload), 16384)] or [b""]
        for i, piece in enumerate(pieces):
            while patient and min(self.room, s.room) < len(piece) and not s.closed:
                self.pump(20)
            self.room, s.room = self.room - len(piece), s.room - len(piece)
            self.frame(DATA, 1 if last and i == len(pieces) - 1 else 0, sid, piece)

    def open(self, path, metadata=None, headers=None):
        sid, self.next_id = self.next_id, self.next_id + 2
        if headers is None:
            headers = [(":method", "POST"), (":scheme", "http"), (":path", path)]
            if self.authority is not None:
                headers.append((":authority", self.authority))
            headers += [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "writ-test/1")]
        block = b"".join(literal(n, v) for n, v in headers)
        for name, value in (metadata.items() if isinstance(metadata, dict) else metadata or []):
            block += literal(name, value)
        self.frame(HEADERS, 4, sid, block)
        self.streams[sid] = Stream(self, sid)
        return self.streams[sid]

    def stream(self, path, message=b"", metadata=None, last=True):
        s = self.open(path, metadata)
        s.send(message, last)
        return s

    def call(self, path, message=b"", metadata=None, seconds=20):
        return self.stream(path, message, metadata).end(seconds)

    def pump(self, seconds):
        """Read once and deal with the frames that are whole."""
        if self.closed:
            for s in self.streams.values():
                s.closed = True
            return
        self.s.settimeout(seconds)
        try:
            got = self.s.recv(65536)
        except (socket.timeout, BlockingIOError):
            return
        except ConnectionError:
            got = b""
        if not got:
            self.closed = True
            return self.pump(0)
        self.buffer += got
        while len(self.buffer) >= 9:
            n = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + n:
                return
            kind, flags, sid = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
            payload, self.buffer = self.buffer[9:9 + n], self.buffer[9 + n:]
            self.take(kind, flags, sid, payload)

    def take(self, kind, flags, sid, payload):
        s = self.streams.get(sid)
        if kind == SETTINGS and not flags & 1:
            self.frame(SETTINGS, 1, 0, b"")
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:  # INITIAL_WINDOW_SIZE, for streams that are open, too
                    for other in self.streams.values():
                        other.room += value - self.initial
                    self.initial = value
        elif kind == WINDOW:
            where = s or self
            where.room += int.from_bytes(payload, "big") if s or not sid else 0
        elif kind == PING and not flags & 1:
            self.frame(PING, 1, 0, payload)
        elif kind == PING:
            self.pongs += 1
        elif kind == GOAWAY:
            self.goaway = True
        elif kind in (HEADERS, CONTINUATION):
            self.block += payload
            if flags & 4:
                headers, self.block = self.inflater.read(self.block), b""
                if s:
                    self.head(s.reply, headers)
        elif kind == DATA and s:
            if payload:
                self.frame(WINDOW, 0, sid, struct.pack(">I", len(payload)))
            s.buffer += payload
            while len(s.buffer) >= 5 and s.reply.headers.get("content-type") == "application/grpc":
                n = int.from_bytes(s.buffer[1:5], "big")
                if len(s.buffer) < 5 + n:
                    break
                assert s.buffer[0] == 0, "a compressed message"
                s.reply.messages.append(s.buffer[5:5 + n])
                s.buffer = s.buffer[5 + n:]
        elif kind == RST and s:
            s.reply.code, s.closed = int.from_bytes(payload, "big"), True
        if kind in (DATA, HEADERS) and flags & 1 and s:
            s.closed = True

    @staticmethod
    def head(reply, headers):
        reply.blocks += 1
        for name, value in headers:
            reply.headers[name] = value
            if name == ":status":
                reply.http = int(value)
            elif name == "grpc-status":
                reply.status = int(value)
            elif name == "grpc-message":
                out, i = b"", 0
                while i < len(value):
                    if value[i] == "%":
                        out, i = out + bytes([int(value[i + 1:i + 3], 16)]), i + 3
                    else:
                        out, i = out + value[i].encode(), i + 1
                reply.message = out.decode()


# --- protobuf -------------------------------------------------------------------------------

def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    """A string, bytes, or a message's bytes; an int as a varint."""
    if isinstance(value, bool) or isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def parse(data):
    """{number: [values]}: ints, or bytes."""
    def number(at):
        n = shift = 0
        while True:
            n |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return n, at
    out, at = {}, 0
    while at < len(data):
        tag, at = number(at)
        if tag & 7 == 0:
            v, at = number(at)
        elif tag & 7 == 1:
            v, at = struct.unpack("<d", data[at:at + 8])[0], at + 8
        elif tag & 7 == 2:
            n, at = number(at)
            assert at + n <= len(data), "cut off"
            v, at = data[at:at + n], at + n
        else:
            raise ValueError(f"wire type {tag & 7}")
        out.setdefault(tag >> 3, []).append(v)
    return out
