#!/usr/bin/env python3
"""The conmgr's end of the heartbeat protocol, written from docs/protocol.md 1 alone.

  conmgr.py vectors FILE
      computes what FILE (the vectors of 1.7) has, and compares.
  conmgr.py run HOST PORT [--version 1|2] [--key "KEYID SECRET"] [--id HEX] [--attempt N]
                [--interval MS] [--timeout MS]
      connects, and tells on its standard output what comes. Commands on its standard input:
      goodbye CODE | plain | flip | reflect | quit

Standard library only.
"""
import argparse
import base64
import hashlib
import hmac
import os
import selectors
import socket
import struct
import sys
import time

HELLO, WELCOME, BEAT, GOODBYE, REFUSED, CHALLENGE, RESPONSE = range(1, 8)


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def expand(prk, info):
    return mac(prk, info, b"\x01")


def frame(kind, payload, tail=0):
    """tail: so many bytes of a MAC will follow, which the header counts."""
    return struct.pack(">HBB", 4 + len(payload) + tail, kind, 0) + payload


class Proof:
    """What both ends can compute once HELLO and CHALLENGE have been said."""

    def __init__(self, secret, hello, challenge):
        self.th = hashlib.sha256(b"PGWD/2 transcript" + hello + challenge).digest()
        self.prk = mac(self.th, secret)
        self.k_c = expand(self.prk, b"PGWD/2 conmgr")
        self.k_w = expand(self.prk, b"PGWD/2 watchdog")
        self.k_f = expand(self.prk, b"PGWD/2 frames")
        self.response = mac(self.k_c, self.th)
        self.sent = self.received = 0

    def welcome(self, whole):
        """The WELCOME without its MAC, None if that is wrong."""
        rest, got = whole[:-32], whole[-32:]
        good = mac(self.k_w, self.th, self.response, rest)
        return rest if len(rest) >= 4 and hmac.compare_digest(good, got) else None

    def tag(self, direction, n, whole):
        return mac(self.k_f, struct.pack(">BQ", direction, n), whole)[:16]

    def seal(self, kind, payload):
        f = frame(kind, payload, 16)
        f += self.tag(1, self.sent, f)
        self.sent += 1
        return f

    def open(self, whole):
        rest, got = whole[:-16], whole[-16:]
        if len(rest) < 4 or not hmac.compare_digest(self.tag(2, self.received, rest), got):
            return None
        self.received += 1
        return rest


def vectors(name):
    v = {}
    with open(name, encoding="ascii") as f:
        for line in f:
            if not line.startswith("#"):
                key, value = line.split()
                v[key] = bytes.fromhex(value)
    p = Proof(v["secret"], v["HELLO"], v["CHALLENGE"])
    wrong = [n for n, got in (
        ("TH", p.th), ("PRK", p.prk), ("k_c", p.k_c), ("k_w", p.k_w), ("k_f", p.k_f),
        ("RESPONSE", frame(RESPONSE, p.response)),
        ("CHALLENGE", frame(CHALLENGE, v["nonce_s"])),
    ) if v[n] != got]
    if not v["HELLO"].endswith(b"client1".ljust(16, b"\0") + v["nonce_c"]):
        wrong.append("HELLO")
    if p.welcome(v["WELCOME"]) is None:
        wrong.append("WELCOME")
    if p.open(v["BEAT_of_watchdog_n_0"]) is None:
        wrong.append("BEAT_of_watchdog_n_0")
    for n, number in (("BEAT_of_conmgr_n_0", 0), ("BEAT_of_conmgr_n_4294967296", 1 << 32), ("GOODBYE_of_conmgr_n_1", 1)):
        whole, p.sent = v[n], number
        if p.seal(whole[2], whole[4:-16]) != whole:
            wrong.append(n)
    print("wrong: " + ", ".join(wrong) if wrong else "%d vectors are right" % len(v))
    return 1 if wrong else 0


class Conmgr:
    def __init__(self, o):
        self.o, self.proof, self.version, self.buffer = o, None, 0, b""
        self.sequence = self.heard = 0
        self.keyid = self.secret = None
        if o.key:
            keyid, secret = o.key.split()[:2]
            self.keyid, self.secret = keyid.encode().ljust(16, b"\0"), base64.b64decode(secret)
        self.socket = socket.create_connection((o.host, o.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.say("hello from port %d" % self.socket.getsockname()[1])

    @staticmethod
    def say(text):
        print(text, flush=True)

    def hello(self):
        lowest = 2 if self.keyid else 1
        p = b"PGWD" + struct.pack(">HH", lowest, self.o.version) + bytes.fromhex(self.o.id)
        p += bytes(15) + b"\x07" + struct.pack(">QIII", 0, self.o.interval, self.o.timeout, 0)
        if self.o.version >= 2:
            p += struct.pack(">I", self.o.attempt)
        if self.keyid:
            p += self.keyid + os.urandom(32)
        self.first = frame(HELLO, p)
        self.socket.sendall(self.first)

    def send(self, kind, payload):
        self.socket.sendall(self.proof.seal(kind, payload) if self.proof else frame(kind, payload))

    def beat(self):
        self.sequence += 1
        p = struct.pack(">I", self.sequence)
        if self.version >= 2:
            p += struct.pack(">I", self.heard)
        self.send(BEAT, p)

    def goodbye(self, code):
        text = b"python"
        p = struct.pack(">HH", code, len(text)) + text
        if self.version >= 2:
            p += struct.pack(">QI", 1 if code == 2 else 0, self.o.attempt)
        self.send(GOODBYE, p)

    def take(self, whole):
        """One frame of the watchdog. False: it was the last one."""
        kind = whole[2]
        if not self.version:
            return self.answer(kind, whole)
        if self.proof and (whole := self.proof.open(whole)) is None:
            self.say("unproved")
            return False
        p = whole[4:]
        if kind == BEAT:
            self.heard, flags, timeline = struct.unpack_from(">III", p)
            echo = " echo=%d" % struct.unpack_from(">I", p, 24) if self.version >= 2 else ""
            lag = self.lag(flags, p[28:])
            self.say("beat %d flags=%d timeline=%d%s%s" % (self.heard, flags, timeline, echo, lag))
            return True
        return self.last(kind, p)

    def answer(self, kind, whole):
        p = whole[4:]
        if kind == CHALLENGE and self.keyid and not self.proof:
            self.proof = Proof(self.secret, self.first, whole)
            self.say("challenge")
            self.socket.sendall(frame(RESPONSE, self.proof.response))
            return True
        if kind == WELCOME:
            if self.keyid:
                whole = self.proof.welcome(whole) if self.proof else None
                if whole is None:
                    self.say("unproved WELCOME")
                    return False
                p = whole[4:]
            self.version, flags, system, start, attributes = struct.unpack_from(">HHQqI", p)
            lag = self.lag(attributes, p[52:])
            self.say("welcome version=%d flags=%d%s%s" % (self.version, flags, " proved" if self.proof else "", lag))
            return True
        if kind == REFUSED and self.proof and (proved := self.proof.open(whole)) is not None:
            return self.last(kind, proved[4:], " proved")
        return self.last(kind, p)

    def lag(self, attributes, rest):
        """What a standby says of it at the end of WELCOME and BEAT."""
        if self.version < 2 or not attributes & 1:
            return " and more" if rest else ""
        size, ms = struct.unpack_from(">QI", rest) if len(rest) >= 12 else ((1 << 64) - 1, 0)
        return " lag=unknown" if size == (1 << 64) - 1 else " lag=%d/%d" % (size, ms)

    def last(self, kind, p, how=""):
        code, n = struct.unpack_from(">HH", p)
        name = {GOODBYE: "goodbye", REFUSED: "refused"}.get(kind, "type %d" % kind)
        self.say("%s %d %s%s" % (name, code, p[4:4 + n].decode(), how))
        return False

    def command(self, line):
        word, _, rest = line.strip().partition(" ")
        if word == "goodbye":
            self.goodbye(int(rest))
        elif word == "plain":
            self.socket.sendall(frame(BEAT, struct.pack(">II", 1, 0)))
        elif word == "flip":
            f = bytearray(self.proof.seal(BEAT, struct.pack(">II", self.sequence + 1, self.heard)))
            f[5] ^= 1
            self.socket.sendall(f)
        elif word == "reflect":
            self.socket.sendall(self.reflected)
        return word not in ("", "quit", "goodbye")

    def frames(self):
        data = self.socket.recv(4096)
        if not data:
            self.say("closed")
            return False
        self.buffer += data
        while len(self.buffer) >= 4:
            n = struct.unpack_from(">H", self.buffer)[0]
            if len(self.buffer) < n:
                break
            self.reflected, self.buffer = self.buffer[:n], self.buffer[n:]
            if not self.take(self.reflected):
                return False
        return True

    def run(self):
        self.hello()
        wait = selectors.DefaultSelector()
        wait.register(self.socket, selectors.EVENT_READ, self.frames)
        wait.register(sys.stdin, selectors.EVENT_READ, lambda: self.command(sys.stdin.readline()))
        due = time.monotonic() + self.o.interval / 1000
        while True:
            for key, _ in wait.select(max(0, due - time.monotonic())):
                try:
                    if not key.data():
                        return 0
                except ConnectionResetError:
                    self.say("reset")
                    return 0
            if time.monotonic() >= due:
                due += self.o.interval / 1000
                if self.version:
                    self.beat()


def main():
    a = argparse.ArgumentParser()
    sub = a.add_subparsers(dest="what", required=True)
    v = sub.add_parser("vectors")
    v.add_argument("file")
    r = sub.add_parser("run")
    r.add_argument("host")
    r.add_argument("port", type=int)
    r.add_argument("--version", type=int, default=2)
    r.add_argument("--key")
    r.add_argument("--id", default=os.urandom(16).hex())
    r.add_argument("--attempt", type=int, default=1)
    r.add_argument("--interval", type=int, default=100)
    r.add_argument("--timeout", type=int, default=1000)
    o = a.parse_args()
    return vectors(o.file) if o.what == "vectors" else Conmgr(o).run()


if __name__ == "__main__":
    sys.exit(main())
