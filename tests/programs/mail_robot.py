"""Does with its mailbox what it is told: one JSON list a line on stdin, one JSON value a line on stdout (tests/t5_mailbox.py).

Results are numbers as the calls return them, -errno for errors, and for reads [number, text].
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.read.restype = libc.syscall.restype = libc.write.restype = ctypes.c_long
libc.syscall.argtypes = [ctypes.c_long] * 7
BUFFER = ctypes.create_string_buffer(1 << 20)
KEPT = ctypes.create_string_buffer(64)
senders = {}
state = {"box": -1, "signals": 0}


def result(value):
    return -ctypes.get_errno() if value == -1 else value


def opened(path, flags, mode):
    return result(libc.open(path.encode(), flags, mode))


def read(count):
    got = result(libc.read(state["box"], BUFFER, ctypes.c_size_t(count)))
    return [got, BUFFER.raw[:got].decode("latin-1") if got > 0 and count > 0 else ""]


def send(to, text):
    if to not in senders:
        senders[to] = opened(f"/proc/mosix/mbox/{to}", os.O_WRONLY, 0)
    data = text.encode("latin-1")
    return result(libc.write(senders[to], data, ctypes.c_size_t(len(data))))


def open_box(flags):
    state["box"] = opened("/proc/mosix/mybox", os.O_CREAT, flags)
    return int(state["box"] >= 0) or state["box"]


def close_box():
    done = result(libc.close(state["box"]))
    state["box"] = -1
    return done


def filtered(hexed):
    data = bytes.fromhex(hexed)
    KEPT[: len(data)] = data
    at = ctypes.addressof(KEPT) if data else 0
    return min(0, result(libc.syscall(16, state["box"], 0x8985, at, 0, 0, 0)))


def store(hexed):
    data = bytes.fromhex(hexed)
    array = ctypes.create_string_buffer(data, len(data) or 1)
    head = (ctypes.c_long * 2)(len(data) // 40, ctypes.addressof(array))
    return result(libc.syscall(16, state["box"], 0x8986, ctypes.addressof(head), 0, 0, 0))


def which():
    bits = ctypes.create_string_buffer(128)
    return [result(libc.syscall(16, state["box"], 0x8987, ctypes.addressof(bits), 0, 0, 0)), bits.raw.hex()]


def control(name):
    return result(libc.open(f"/proc/self/{name}".encode(), 0, 0))


def migrate(node):
    return result(libc.open(b"/proc/self/migrate", os.O_WRONLY | os.O_CREAT, node))


def on_signal(*_):
    state["signals"] += 1


def drain(many, patience):
    """Read ``many`` messages, waiting for each at most ``patience`` seconds: their texts."""
    found = []
    until = time.monotonic() + patience
    while len(found) < many and time.monotonic() < until:
        got, text = read(1 << 20)
        if got < 0:
            time.sleep(0.005)
        else:
            found.append(text)
    return found


def pour(to, seconds, size=20):
    """Send numbered messages until one fails, or for so long: [how many were accepted, what ended it]."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        sent = send(to, f"{number} ".ljust(size, "."))
        if sent < 0:
            return [number, sent]
        number += 1
    return [number, 0]


def collect(quiet):
    """Read until there was no message for ``quiet`` seconds, or an error: [numbers of the messages, what ended it].

    A message that is not as `pour` sent it has the number -1.
    """
    found, until = [], time.monotonic() + quiet
    while time.monotonic() < until:
        got, text = read(1 << 20)
        if got >= 0:
            number = text.split(" ")[0]
            found.append(int(number) if number.isdigit() and text == f"{number} ".ljust(len(text), ".") else -1)
            until = time.monotonic() + quiet
        elif got == -errno.EAGAIN:
            time.sleep(0.001)
        else:
            return [found, got]
    return [found, 0]


VERBS = {
    "pour": pour, "collect": collect,
    "open": open_box, "close": close_box, "read": read, "send": send, "filter": filtered, "store": store, "which": which,
    "control": control, "migrate": migrate, "signals": lambda: state["signals"], "pid": os.getpid, "drain": drain,
}

signal.signal(signal.SIGIO, on_signal)
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    print(json.dumps(VERBS[verb](*arguments)), flush=True)
