"""Servers and their clients, all on sockets in the row's own directory or on a free port of the loopback."""

# ruff: noqa: E501 - the scripts are as their languages have them
from __future__ import annotations

from tests.debian.cases import Case

#: A server that forks for each connection, five clients at once, and the server's end.
FORKING = r"""
import hashlib, os, signal, socket, socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            n = int(line)
            data = bytes(i * n & 255 for i in range(256)) * n
            self.wfile.write(len(data).to_bytes(8, "big") + data)

class Server(socketserver.ForkingMixIn, socketserver.TCPServer):
    pass

def client(address, k):
    digest = hashlib.md5()
    with socket.create_connection(address) as s, s.makefile("rwb") as f:
        for n in range(1, 40, 7):
            f.write(b"%d\n" % (n * k))
            f.flush()
            digest.update(f.read(int.from_bytes(f.read(8), "big")))
    return digest.hexdigest()

def stop(*_):
    raise SystemExit

server = Server(("127.0.0.1", 0), Handler)
signal.signal(signal.SIGTERM, stop)
pid = os.fork()
if pid == 0:
    try:
        server.serve_forever()
    finally:
        server.server_close()
        os._exit(3)
address = server.server_address
server.socket.close()
clients = []
for k in range(1, 6):
    r, w = os.pipe()
    if (child := os.fork()) == 0:
        os.write(w, client(address, k).encode() + client(address, k + 1).encode())
        os._exit(k)
    os.close(w)
    clients.append((child, open(r)))
for child, answer in clients:
    print(answer.read(), os.waitpid(child, 0)[1])
os.kill(pid, signal.SIGTERM)
print(os.waitpid(pid, 0)[1])
"""

#: What sockets do beside reading and writing: urgent data, descriptors and credentials in messages, error queues, SIGIO, netlink.
MESSAGES = r"""
import array, fcntl, os, select, signal, socket, struct, time
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOL_IP, SOL_SOCKET

def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]

def urgent():
    a, b = pair()
    got = []
    signal.signal(signal.SIGURG, lambda *_: got.append("SIGURG"))
    fcntl.fcntl(b, fcntl.F_SETOWN, os.getpid())
    a.send(b"abc"); a.send(b"!", socket.MSG_OOB); a.send(b"def")
    assert select.select([], [], [b], 20)[2] == [b]
    return got, b.recv(1, socket.MSG_OOB), b.recv(3), b.recv(3, socket.MSG_WAITALL)

def descriptors():
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"two"], [r, w])
    text, fds, flags, _ = socket.recv_fds(b, 10, 5)
    os.write(fds[1], b"through")
    socket.send_fds(a, [b"six"], [r, w] * 3)
    cut = b.recvmsg(10, socket.CMSG_LEN(8), socket.MSG_CMSG_CLOEXEC)
    kept = array.array("i", cut[1][0][2])
    return text, flags, os.read(r, 9), len(kept), cut[2], [fcntl.fcntl(f, fcntl.F_GETFD) for f in kept]

def credentials():
    a, b = socket.socketpair()
    b.setsockopt(SOL_SOCKET, socket.SO_PASSCRED, 1)
    if (pid := os.fork()) == 0:
        a.send(b"c")
        a.sendmsg([b"d"], [(SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iii", os.getpid(), os.getuid(), os.getgid()))])
        os._exit(0)
    senders = [struct.unpack("iii", b.recvmsg(1, 100)[1][0][2])[0] == pid for _ in "cd"]
    os.waitpid(pid, 0)
    return senders, struct.unpack("iii", b.getsockopt(SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid()

def ancillary():
    a, b = socket.socket(AF_INET, SOCK_DGRAM), socket.socket(AF_INET, SOCK_DGRAM)
    b.bind(("127.0.0.1", 0))
    for option in (8, 12, 13):
        b.setsockopt(SOL_IP, option, 1)
    a.sendmsg([b"a", b"b"], [(SOL_IP, socket.IP_TTL, struct.pack("i", 7))], 0, b.getsockname())
    text, extra, flags, _ = b.recvmsg(10, 500)
    return text, flags, [(level, kind, len(data)) for level, kind, data in extra], extra[1][2]

def refused():
    a = socket.socket(AF_INET, SOCK_DGRAM)
    with socket.socket(AF_INET, SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    a.setsockopt(SOL_IP, 11, 1)
    a.connect(address)
    a.send(b"x")
    select.select([a], [], [], 20)
    try:
        error = a.recv(1)
    except OSError as failure:
        error = failure.errno
    text, extra, flags, _ = a.recvmsg(10, 200, socket.MSG_ERRQUEUE)
    return error, text, flags, [(level, kind, len(data)) for level, kind, data in extra]

def told_by_signal():
    a, b = socket.socketpair()
    number = signal.SIGRTMIN + 2
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    fcntl.fcntl(a, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(a, 10, number)
    fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    b.send(b"2")
    info = signal.sigtimedwait([number], 20)
    return info.si_signo - number, info.si_code, info.si_band, a.recv(5)

def aborted():
    a, b = pair()
    a.setsockopt(SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    a.close()
    try:
        return b.recv(1)
    except OSError as failure:
        return failure.errno

def interrupted():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, .01, .01)
    received = 0
    for _ in range(40):
        a, b = pair()
        a.send(b"x")
        received += len(b.recv(1))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return received

def waited_for():
    a, b = pair()
    if (pid := os.fork()) == 0:
        for i in range(30):
            a.send(bytes([i]) * 1000)
            time.sleep(.01)
        os._exit(0)
    a.close()
    lengths = [len(b.recv(n, socket.MSG_WAITALL)) for n in (12000, 19000)]
    return lengths, os.waitpid(pid, 0)[1]

def routes():
    with socket.socket(AF_NETLINK, SOCK_RAW) as s:
        s.bind((0, 0))
        own = s.getsockname()[0] == os.getpid()
        s.send(struct.pack("IHHIIBxHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0))
        kind = 0
        while kind != 3:
            answer = s.recv(65536)
            while answer:
                length, kind = struct.unpack("IH", answer[:6])
                answer = answer[length + 3 & ~3:]
    return own, "lo" in [name for _, name in socket.if_nameindex()]

def named():
    with socket.socket(AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        with socket.socket(AF_UNIX) as client:
            client.connect(listener.getsockname())
            return len(listener.getsockname()), listener.accept()[1]

for part in (urgent, descriptors, credentials, ancillary, refused, told_by_signal, aborted, interrupted, waited_for, routes, named):
    print(part.__name__, part())
"""

SOCAT = r"""
socat -u UNIX-LISTEN:s OPEN:copy,creat &
socat -u OPEN:words UNIX-CONNECT:s,retry=999,interval=0.05; wait $!; echo $?; cmp words copy
socat -t 30 UNIX-LISTEN:e,fork EXEC:rev &
for i in 1 2 3; do echo "hello $i" | socat -t 30 - UNIX-CONNECT:e,retry=999,interval=0.05; done
kill $!; wait $!; echo $?
socat -t 30 - EXEC:'sh -c "rev; echo done"' < words | cksum
rm -f s e
"""

#: The client starts the daemon itself, at the other end of a socket.
RSYNC = r"""
printf 'uid = %s\ngid = %s\nuse chroot = no\nmunge symlinks = no\nlog file = /dev/null\n[m]\npath = %s/tree\nread only = no\n' $(id -u) $(id -g) $PWD > conf
export RSYNC_CONNECT_PROG='rsync --daemon --config=conf .'
rsync -a rsync://here/m/ got/; echo $?; diff -r tree got && echo same
echo more >> got/file03; rm got/file07; rsync -a --delete got/ rsync://here/m/; echo $?; diff -r tree got && echo same
rsync rsync://here/m/ | wc -l; rm conf
"""

#: In place of % stands what starts the server.
WEB = r"""
umask 022; mkdir -p t; %
get() { curl -s --unix-socket $PWD/s "http://here/$@"; }
until [ -S s ] && get words > /dev/null; do sleep 0.05; done
for file in words numbers noise; do get $file | cksum; done
get noise -r 1000-1999 | cksum; get nosuch -o /dev/null -w '%{http_code}\n'; get words --compressed | cksum
kill -TERM $server; wait $server; echo $?
rm -rf t c s err
"""
NGINX = r"""
printf 'daemon off; master_process off; pid t/pid; user root; error_log err; events { } http { access_log off; client_body_temp_path t; proxy_temp_path t;
fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t; sendfile on; gzip on; gzip_types *; server { listen unix:%s/s; root %s; } }' $PWD $PWD > c
nginx -p $PWD -e err -c $PWD/c 2> /dev/null & server=$!"""
LIGHTTPD = r"""
printf 'server.document-root = "%s"\nserver.bind = "%s/s"\n' $PWD $PWD > c
lighttpd -D -f c 2> err & server=$!"""

TLS = r"""
openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -days 2 -subj /CN=here 2> /dev/null; echo $?
openssl s_server -key k -cert c -unix s -WWW -quiet > /dev/null 2>&1 &
until openssl s_client -unix s < /dev/null; do sleep 0.05; done > /dev/null 2>&1
for file in words noise; do printf "GET /$file HTTP/1.0\r\n\r\n" | openssl s_client -quiet -unix s 2> /dev/null | cksum; done
kill $!; wait $!; echo $?
rm -f k c s
"""

CASES = (
    Case("forking server", "cat > server.py << 'END'\n" + FORKING + "END\npython3 server.py", "python3"),
    Case("messages", "cat > messages.py << 'END'\n" + MESSAGES + "END\npython3 messages.py", "python3", quick=True),
    Case("socat", SOCAT, "socat"),
    Case("rsync daemon", RSYNC, "rsync"),
    Case("nginx", WEB.replace("%", NGINX, 1), "nginx-light curl", "nginx curl"),
    Case("lighttpd", WEB.replace("%", LIGHTTPD, 1), "lighttpd curl"),
    Case("tls", TLS, "openssl"),
)
