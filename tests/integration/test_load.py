#!/usr/bin/env -S python3 -B
"""The load generator's HTTP/2: what it counts is what `make bench` claims, so a server that does everything wrong, or
right in an unusual way, is put before it."""
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading

from grpc_client import (CONTINUATION, DATA, GOAWAY, HEADERS, LIB, PING, PREFACE, RST, SETTINGS, WINDOW, Inflater,
                         literal)
from harness import BUILD, check, equal, main, test

LOAD = os.path.join(BUILD, "tests/bench/bench_load")
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
RIGHT = b'{"decision":true}'
OK = b"\x88"  # :status 200 of the static table
GRPC = ("--header", "Content-Type: application/grpc", "--header", "te: trailers")


def indexed(name, value):
    """A literal that goes into the dynamic table (RFC 7541 6.2.1)."""
    return bytes([0x40]) + literal(name, value)[1:]


class Peer:
    """A connection of the generator's, as the server sees it. @case says how it is treated."""

    def __init__(self, s, case):
        self.s, self.case, self.inflater = s, case, Inflater()
        if case.table is not None:
            LIB.nghttp2_hd_inflate_change_table_size(self.inflater.p, case.table)
        self.bodies, self.heads, self.resets, self.buffer = {}, {}, [], b""
        self.room, self.rooms, self.acked, self.pongs, self.answered = 65535, {}, False, [], 0

    def frame(self, kind, flags, sid, payload=b""):
        self.s.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload)

    def exactly(self, n):
        while len(self.buffer) < n:
            got = self.s.recv(65536)
            if not got:
                raise ConnectionError
            self.buffer += got
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def next(self):
        """Read a frame, and keep what it says."""
        head = self.exactly(9)
        kind, flags, sid = head[3], head[4], int.from_bytes(head[5:9], "big")
        payload = self.exactly(int.from_bytes(head[:3], "big"))
        if kind == HEADERS:
            check(flags & END_HEADERS and sid % 2 == 1 and sid > max(self.heads, default=0), f"HEADERS of {sid}")
            self.heads[sid] = self.inflater.read(payload)
            self.bodies[sid], self.rooms[sid] = b"", self.case.window
            self.case.most = max(self.case.most, len(self.heads) - self.answered)
        elif kind == DATA:
            self.bodies[sid] += payload
            self.room, self.rooms[sid] = self.room - len(payload), self.rooms[sid] - len(payload)
            check(self.room >= 0 and self.rooms[sid] >= 0, "more is sent than the windows let pass")
        elif kind == PING:
            self.pongs.append((flags, payload))
        elif kind == SETTINGS:
            self.acked = self.acked or bool(flags & 1)
        elif kind == RST:
            self.resets.append(sid)
        return kind, flags, sid

    def serve(self):
        equal(self.exactly(len(PREFACE)), PREFACE, "preface")
        settings = [(4, self.case.window)] + ([(1, self.case.table)] if self.case.table is not None else []) + \
            ([(3, self.case.streams)] if self.case.streams else [])
        self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *s) for s in settings))
        while True:
            kind, flags, sid = self.next()
            if kind == DATA and not flags & END_STREAM and not self.case.stingy:
                for where in (0, sid):
                    self.frame(WINDOW, 0, where, struct.pack(">I", 500))
                self.room, self.rooms[sid] = self.room + 500, self.rooms[sid] + 500
            if kind == (HEADERS if self.case.early else DATA) and (flags & END_STREAM or self.case.early):
                self.case.taken.append((self.heads[sid], self.bodies[sid]))
                self.room += 0 if self.case.early else len(self.bodies[sid])
                self.frame(WINDOW, 0, 0, struct.pack(">I", max(1, len(self.bodies[sid]))))
                self.case.answer(self, sid)
                self.answered += 1

    # What an answer is made of.
    def json(self, sid, status=OK, body=RIGHT):
        self.frame(HEADERS, END_HEADERS, sid, status)
        self.frame(DATA, END_STREAM, sid, body)

    def grpc(self, sid, trailers, body=b"\0\0\0\0\x09permitted"):
        self.frame(HEADERS, END_HEADERS, sid, OK + literal("content-type", "application/grpc"))
        self.frame(DATA, 0, sid, body)
        self.frame(HEADERS, END_HEADERS | END_STREAM, sid, trailers)


class Case:
    """A server with one behaviour, and a run of the generator against it."""

    def __init__(self, answer, window=65535, table=None, streams=0, early=False, stingy=False):
        self.answer, self.window, self.table, self.streams, self.early = answer, window, table, streams, early
        self.stingy, self.taken, self.most, self.trouble, self.peers = stingy, [], 0, None, []

    def listen(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with s:
                s.settimeout(20)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.peers.append(Peer(s, self))
                try:
                    self.peers[-1].serve()
                except (ConnectionError, TimeoutError):
                    pass
                except Exception as e:  # pylint: disable=broad-except
                    self.trouble = e

    def run(self, *args, count=6, streams=2, body=b"x", expect='"decision":true'):
        with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.NamedTemporaryFile() as f:
            thread = threading.Thread(target=self.listen, args=(listener,))
            thread.start()
            f.write(body)
            f.flush()
            try:
                done = subprocess.run([LOAD, "--to", f"127.0.0.1:{listener.getsockname()[1]}", "--streams",
                                       str(streams), "--count", str(count), "--body", f.name, "--expect", expect,
                                       "--quiet", *args],
                                      capture_output=True, text=True, check=False, timeout=60)
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
        if self.trouble:
            raise self.trouble
        result = json.loads(done.stdout) if done.stdout else {}
        bad = {k: result.get(k) for k in ("non_2xx", "wrong", "broken", "reopened") if result.get(k)}
        equal(done.returncode, 1 if set(bad) - {"reopened"} else 0, f"exit code, with {result}, {done.stderr}")
        return result["requests"], bad


def table(rows, *args, **more):
    """Each row: why, how a request is answered, and what is counted of six requests."""
    for why, answer, wanted in rows:
        equal(Case(answer).run(*args, **more), (6, wanted), why)


def in_pieces(p, sid):
    """Headers in three frames, padded data, an empty end; and all of it byte by byte."""
    block, whole, keep = OK + literal("x-filler", "y" * 300), [], p.s
    p.s = type("Sink", (), {"sendall": staticmethod(whole.append)})
    p.frame(HEADERS, PADDED | 32, sid, b"\3" + bytes(5) + block[:1] + bytes(3))
    p.frame(CONTINUATION, 0, sid, block[1:90])
    p.frame(CONTINUATION, END_HEADERS, sid, block[90:])
    p.frame(DATA, PADDED, sid, b"\2" + RIGHT[:7] + bytes(2))
    p.frame(DATA, 0, sid, RIGHT[7:])
    p.frame(DATA, END_STREAM, sid)
    p.frame(DATA, END_STREAM, sid)  # of a stream that is over
    p.frame(0x77, 0, 0, b"unknown")
    p.s = keep
    for b in b"".join(whole):
        p.s.sendall(bytes([b]))


def interim(p, sid):
    p.frame(HEADERS, END_HEADERS, sid, literal(":status", "103"))
    p.json(sid)


def table_grows(p, sid):
    """The same byte means 200 at first, and 500 after another entry."""
    if not p.answered:
        p.json(sid, indexed(":status", "200"))
    elif p.answered == 3:
        p.json(sid, indexed(":status", "500"))
    else:
        p.json(sid, b"\xbe")


def after_pong(p, sid):
    p.frame(PING, 0, 0, b"12345678")
    while not p.pongs:
        p.next()
    equal(p.pongs.pop(), (1, b"12345678"), "answer to PING")
    p.json(sid)


@test
def right_answers_are_right_however_they_come():
    table([("one frame each", Peer.json, {}), ("in pieces", in_pieces, {}), ("103 before it", interim, {})])
    equal(Case(after_pong).run(streams=1), (6, {}), "an answer to PING is waited for")


@test
def wrong_answers_are_counted():
    table([("500", lambda p, sid: p.json(sid, b"\x8e"), {"non_2xx": 6}),
           ("a denial", lambda p, sid: p.json(sid, OK, b'{"decision":false}'), {"wrong": 6}),
           ("no body", lambda p, sid: p.json(sid, OK, b""), {"wrong": 6}),
           ("cut in the expected text", lambda p, sid: p.json(sid, OK, RIGHT[:-2]), {"wrong": 6}),
           ("the text moves within the body", lambda p, sid: p.json(sid, OK, b" " * p.answered + RIGHT), {}),
           ("one index, two meanings", table_grows, {"non_2xx": 3})])


@test
def grpc_status_is_looked_at_in_each_answer():
    zero, seven = literal("grpc-status", "0"), literal("grpc-status", "7")

    def sometimes(p, sid):
        p.grpc(sid, indexed("grpc-status", "0" if p.answered < 2 else "7") if p.answered in (0, 2) else b"\xbe")
    table([("0", lambda p, sid: p.grpc(sid, zero), {}),
           ("7", lambda p, sid: p.grpc(sid, seven), {"wrong": 6}),
           ("none", lambda p, sid: p.grpc(sid, literal("x", "y")), {"wrong": 6}),
           ("not a number", lambda p, sid: p.grpc(sid, literal("grpc-status", "00x")), {"wrong": 6}),
           ("an end without trailers", lambda p, sid: p.json(sid, OK, b"permitted"), {"wrong": 6}),
           ("headers alone, 0 but no text", lambda p, sid: p.frame(HEADERS, 5, sid, OK + zero), {"wrong": 6}),
           ("0, another text", lambda p, sid: p.grpc(sid, zero, b"denied"), {"wrong": 6}),
           ("one index, 0 twice and then 7", sometimes, {"wrong": 4})], *GRPC, expect="permitted")


@test
def broken_connections_are_counted_and_opened_again():
    def once(what):
        """The second request of the first connection is treated so, all others are answered."""
        def answer(p, sid):
            if p.answered == 1 and len(p.case.peers) == 1:
                what(p, sid)
            else:
                p.json(sid)
        return answer
    lost = {"broken": 1, "reopened": 1}
    for why, what, wanted in (
            ("RST_STREAM", lambda p, sid: p.frame(RST, 0, sid, bytes([0, 0, 0, 2])), {"broken": 1}),
            ("a frame too large", lambda p, sid: p.frame(DATA, 0, sid, bytes(16385)), lost),
            ("data before headers", lambda p, sid: p.frame(DATA, END_STREAM, sid, RIGHT), lost),
            ("a stream nobody began", lambda p, sid: p.json(sid + 2), lost),
            ("a pushed stream", lambda p, sid: p.json(2), lost),
            ("PUSH_PROMISE", lambda p, sid: p.frame(5, END_HEADERS, sid, bytes(4) + OK), lost),
            ("no HPACK", lambda p, sid: p.frame(HEADERS, 5, sid, b"\xff\xff\xff\xff\xff\xff"), lost),
            ("an index beyond the table", lambda p, sid: p.frame(HEADERS, 5, sid, b"\xc8"), lost),
            ("no status", lambda p, sid: p.frame(HEADERS, 5, sid, literal("x", "y")), lost),
            ("another frame within headers", lambda p, sid: (p.frame(HEADERS, 0, sid, OK), p.json(sid)), lost),
            ("CONTINUATION of nothing", lambda p, sid: p.frame(CONTINUATION, END_HEADERS, sid, OK), lost),
            ("all padding", lambda p, sid: p.frame(HEADERS, END_HEADERS | PADDED, sid, b"\5" + bytes(4)), lost),
            ("half a setting", lambda p, sid: p.frame(SETTINGS, 0, 0, bytes(5)), lost),
            ("a window update of nothing", lambda p, sid: p.frame(WINDOW, 0, 0, bytes(4)), lost),
            ("GOAWAY for an error", lambda p, sid: p.frame(GOAWAY, 0, 0, struct.pack(">II", sid, 2)), lost),
            ("GOAWAY before it", lambda p, sid: p.frame(GOAWAY, 0, 0, struct.pack(">II", sid - 2, 0)), lost),
            ("GOAWAY after it", lambda p, sid: (p.frame(GOAWAY, 0, 0, struct.pack(">II", sid, 0)), p.json(sid)),
             {"reopened": 1})):
        equal(Case(once(what)).run(streams=1), (6 - wanted.get("broken", 0), wanted), why)


@test
def windows_of_the_server_are_kept():
    body = b"@@@@@@@@" + bytes(range(128)) * 700
    for window in (1, 1000, 65535):
        case = Case(Peer.json, window=window)
        equal(case.run(count=3, streams=3, body=body), (3, {}), f"a window of {window}")
        equal(sorted(got[1] for got in case.taken), [b"1%07d" % n + body[8:] for n in (1, 2, 3)], "bodies")


@test
def an_answer_before_the_end_of_the_request_is_an_answer():
    case = Case(Peer.json, window=10, early=True, stingy=True)
    equal(case.run(streams=1, body=b"z" * 100), (6, {}), "early answers")
    equal(len(case.peers), 1, "connections")
    check(len(case.peers[0].resets) >= 5, f"streams given up: {case.peers[0].resets}")


@test
def what_the_server_allows_is_known_before_the_first_request():
    case = Case(Peer.json, streams=3)
    equal(case.run(count=40, streams=16), (40, {}), "three streams")
    check(case.most <= 3, f"{case.most} streams at a time")
    for size in (None, 0, 60, 4096, 1 << 20):
        case = Case(Peer.json, table=size)
        equal(case.run("--path", "/a/b?c", "--header", "X-Some: Value", count=9), (9, {}), f"a table of {size}")
        wanted = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/a/b?c"),
                  ("content-type", "application/json"), ("x-some", "Value")]
        for head, _ in case.taken:
            equal(head, wanted, "headers")
        equal(len(case.taken), 9, "requests")


if __name__ == "__main__":
    main()
