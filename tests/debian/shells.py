"""Shells and what lives from the operating system: job control, terminals, daemons, sockets, locks, file trees."""

# ruff: noqa: E501 - the scripts are as their languages have them
from __future__ import annotations

from tests.debian.cases import Case

#: Runs under every Bourne-like shell.
PORTABLE = r"""
n=0
while [ $n -lt 25 ]; do
    n=$((n + 1))
    (exit $((n % 5))) || x="$x$?"
done
echo "$x"
trap 'echo usr1' USR1
kill -USR1 $$
f() { local a=$1; [ $a -gt 1 ] && f $((a - 1)); echo "f $a"; }
f 4 | cat | sort -r
cat << END | while read -r line; do echo "<$line>"; done
one $n
two `echo three`
END
for i in 1 2 3 4 5 6; do (sleep 0.0$i; echo $i > out.$i) & done
wait
cat out.*
set -- a 'b c' d
for w in "$@"; do printf '%s,' "$w"; done; echo
exec 3> third; echo to three >&3; exec 3>&-; cat third
case abc in a*) echo starts;; esac
(kill -TERM $(exec sh -c 'echo $PPID')) 2> /dev/null; echo "status $?"
sleep 5 & kill $!; wait $! 2> /dev/null; echo "killed $?"
ls nosuch 2>&1 | sed 's/.*: No/No/'
trap 'echo bye' EXIT
exit 7
"""

#: What its wait gives for a job that was killed depends on whether it has heard of that death before.
MKSH = PORTABLE.replace("local ", "typeset ").replace('echo "killed $?"', ":")

JOBS = r"""
set -m; exec 2> /dev/null
sleep 3000 & sleep 3100 & sleep 3200 &
jobs %2
kill -STOP %2; until jobs -s | grep -q .; do sleep 0.05; done; jobs -s | sed 's/  */ /g'
kill -CONT %2; kill %1 %2 %3
wait; sleep 0.1; echo "all gone: $(jobs | wc -l)"
(trap '' HUP; : > armed; until [ -e sent ]; do sleep 0.05; done; echo survived > hup.new; mv hup.new hup) & disown
until [ -e armed ]; do sleep 0.05; done; kill -HUP $!; : > sent
while kill -0 $! && [ ! -e hup ]; do sleep 0.05; done; cat hup; rm armed sent
coproc tr a-z A-Z; echo lower >&"${COPROC[1]}"; eval "exec ${COPROC[1]}>&-"; cat <&"${COPROC[0]}"; wait
"""

BUSYBOX = r"""
b=busybox
$b seq 1 300 | $b awk '{ s += $1 } END { print s }'
$b find tree -type f | $b sort | $b xargs $b md5sum | $b md5sum
$b tar -c tree | $b gzip -n | $b gunzip | $b tar -t | $b wc -l
$b sed -n '/beta/p' words | $b head -n 3
$b printf '%05d\n' 42; $b expr 6 \* 7; $b factor 91; $b cal 2 2024
$b ash -c 'for i in 1 2 3; do (echo $i) & wait; done; echo $((7 * 6))'
$b dd if=noise of=copy bs=1k count=9 2> /dev/null; $b cmp noise copy | $b sed 's/.*EOF.*/shorter/'
$b cpio --help > /dev/null 2>&1; $b timeout 60 $b sleep 0.05; echo $?
$b vi -c ':%s/one/two/' -c ':wq' nosuch < /dev/null > /dev/null 2>&1; $b test -e nosuch; echo $?
"""

DAEMON = r"""
cat > daemon.py << 'END'
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.umask(0o22)
null = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(null, fd)
got = []
signal.signal(signal.SIGHUP, lambda *_: got.append("reload"))
signal.signal(signal.SIGUSR1, lambda *_: got.append("ping"))
def bye(*_):
    with open("log", "w") as file: file.write(" ".join([*sorted(set(got)), "bye\n"]))
    os.unlink("daemon.pid")
    os._exit(0)
signal.signal(signal.SIGTERM, bye)
with open("pid", "w") as file: file.write(str(os.getpid()))
os.rename("pid", "daemon.pid")
while True: time.sleep(0.05)
END
/usr/bin/python3 daemon.py
until [ -e daemon.pid ]; do sleep 0.02; done
pid=$(cat daemon.pid)
ps -o ppid= -p $pid | tr -d ' ' > /dev/null; kill -0 $pid && echo alive
kill -HUP $pid; kill -USR1 $pid; kill -TERM $pid
until [ -e log ]; do sleep 0.02; done
cat log; rm -f daemon.py log
"""

SERVER = r"""
cat > server.py << 'END'
import http.server, os, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201); self.end_headers(); self.wfile.write(body[::-1])
server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
with open("port.new", "w") as file: file.write(str(server.server_port))
os.rename("port.new", "port")
for _ in range(14): server.handle_request()
END
/usr/bin/python3 server.py & until [ -e port ]; do sleep 0.02; done
url=http://127.0.0.1:$(cat port)
for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - $url/tree/file$((i + 10)) | cksum; done
curl -s $url/words | cksum
curl -s -o /dev/null -w '%{http_code}\n' $url/nosuch
curl -s --data-binary @numbers $url/ | cksum
curl -s -r 100-199 $url/noise | wc -c
wait; rm port server.py
"""

CASES = (
    Case("dash script", f"cat > s << 'EOS'\n{PORTABLE}\nEOS\ndash s; echo $?; rm s"),
    Case("bash script", f"cat > s << 'EOS'\n{PORTABLE}\nEOS\nbash s; echo $?; rm s", quick=True),
    Case("zsh", f"cat > s << 'EOS'\n{PORTABLE}\nEOS\nzsh -f --sh-word-split s; echo $?; rm s", "zsh"),
    Case("mksh", f"cat > s << 'EOS'\n{MKSH}\nEOS\nmksh s; echo $?; rm s", "mksh"),
    Case("busybox sh", f"cat > s << 'EOS'\n{PORTABLE}\nEOS\nbusybox sh s; echo $?; rm s", "busybox-static", "busybox"),
    Case("tcsh", """tcsh -f -c 'foreach i (1 2 3)
        @ j = $i * 2
        echo $i $j | tr 1-9 a-i
        end
        sleep 0.1
        set n = `expr 6 + 7`
        echo $n $status' """, "tcsh"),
    Case("job control", JOBS, quick=True),
    Case("busybox", BUSYBOX, "busybox-static", "busybox", quick=True),
    Case("daemon", DAEMON),
    Case("http", SERVER, "curl wget"),
    Case("netcat", """
        nc -l -U -N sock < numbers > got & until [ -e sock ]; do sleep 0.02; done
        until nc -U -N sock < words > back; do sleep 0.05; done 2> /dev/null
        cksum < back; wait; cksum got; rm sock back""", "netcat-openbsd", "nc"),
    Case("flock", """
        for i in $(seq 12); do
            flock lock sh -c 'n=$(cat count 2> /dev/null || echo 0); sleep 0.02; echo $((n + 1)) > count' &
        done
        wait; cat count"""),
    Case("fifo", """
        mkfifo f; for i in $(seq 30); do echo line $i; done > f & sort -k2,2n < f | cksum; wait
        (head -c 200000 /dev/zero > f) & cksum < f; wait; rm f"""),
    Case("script pty", """script -qec 'tty | sed s/[0-9]*$//; stty size; stty -a | grep -o "intr = [^;]*"; exit 3' typescript
        echo $?; sed -n 2,4p typescript | tr -d '\\r'; rm typescript""", "bsdutils", "script"),
    Case("expect", """expect -c '
        log_user 0; set timeout 20
        spawn env TERM=dumb HISTFILE= PS1=ready: bash --norc --noprofile --noediting
        expect ready:
        for {set i 0} {$i < 8} {incr i} { send "echo \\$(($i * 3)).\\r"; expect -re {\\n([0-9]+)\\.}; puts $expect_out(1,string); expect ready: }
        send "sleep 100\\r"; after 200; send "\\003"; expect ready:; send "echo $?\\r"; expect -re {\\n130}; puts interrupted
        send "cat\\r"; send "typed\\r"; expect -re {typed.*typed}; send "\\004"; expect ready:
        send "exit 5\\r"; expect eof; puts [lindex [wait] 3]' """, "expect"),
    Case("tmux", """
        tmux -L $$ -f /dev/null new-session -d -x 80 -y 24 'sh -c "echo inside; sleep 0.3; seq 3; sleep 3000"'
        for i in $(seq 2000); do tmux -L $$ capture-pane -p | grep -q '^3' && break; sleep 0.05; done
        tmux -L $$ capture-pane -p | head -n 4; tmux -L $$ kill-server""", "tmux"),
    Case("vim", "vim -u NONE -es -c '%s/alpha/ALPHA/g | g/beta/d | $put =line(\\\"$\\\") | sort | wq' words", "vim"),
    Case("ed", "ed -s words", "ed", stdin="g/alpha/s/line/LINE/\n1,20p\n,w other\nq\n"),
    Case("rsync", """
        rsync -a tree/ copy/ && echo more >> tree/file03 && rm copy/file07 && touch copy/extra
        rsync -a --delete --out-format=%n --checksum tree/ copy/ | grep -v '^[.]/' | sort && diff -r tree copy && ls copy | wc -l""", "rsync"),
    Case("cpio", "find tree -depth | sort | cpio -o --quiet > a.cpio; mkdir x; cd x; cpio -id --quiet < ../a.cpio; find . | sort; rm ../a.cpio",
         "cpio"),
    Case("zip", "cp words w; zip -qX a.zip w numbers; unzip -tq a.zip; mkdir x; unzip -q a.zip -d x; cmp w x/w; rm a.zip", "zip unzip"),
    Case("zstd and lz4", """
        zstd -q --single-thread --no-asyncio -19 noise -o n.zst; zstd -dc --no-asyncio n.zst | cmp - noise; lz4 -q words w.lz4; lz4 -dc w.lz4 | cmp - words""",
         "zstd lz4"),
    Case("find and friends", """
        find tree -newer words -o -size +1k | sort; find tree -name 'file0*' -delete; find . -empty | sort
        find tree -type f -exec sh -c 'for f; do wc -c < $f; done' sh {} + | sort -n | tail -n 3; stat -c '%a %s' words"""),
    Case("ps and proc", """
        sleep 6000 & p=$!; ps -o comm=,args= -p $p; tr '\\0' ' ' < /proc/$p/cmdline; echo; readlink /proc/$p/exe /proc/self/cwd | wc -l
        ls /proc/self/fd | head -n 3; grep -E '^(Uid|Gid)' /proc/self/status
        pmap $p | grep -c sleep; pmap -x $p | tail -n 1 | wc -w; top -bn1 -p $p | tail -n 1 | awk '{ print $NF }'; pstree -A $p; free | wc -l; vmstat | wc -l
        kill $p; wait 2> /dev/null; pgrep -P $$ sleep; echo $?""", "procps psmisc", "pmap pstree"),
    Case("limits", """
        exec 2> /dev/null; ulimit -n 64; python3 -c 'import os
fds = []
try:
    while True: fds.append(os.dup(1))
except OSError as error: print(error.errno, len(fds) > 40)'
        (ulimit -f 10; head -c 20000 /dev/zero > big) 2> /dev/null; echo $?; ls -s --block-size=512 big | cut -d' ' -f1
        (ulimit -t 1; exec 2> /dev/null; sh -c 'while :; do :; done'); echo $?; (ulimit -v 200000; python3 -c 'x = bytearray(10 ** 9)' 2>&1 | tail -n 1)"""),
    Case("gpg", """
        export GNUPGHOME=$PWD/g; mkdir -m 700 g
        echo secret | gpg --batch --quiet --pinentry-mode loopback --passphrase x -o s.gpg -c words 2> /dev/null
        gpg --batch --quiet --pinentry-mode loopback --passphrase x -d s.gpg 2> /dev/null | cmp - words && echo same
        gpgconf --kill all; rm -rf g s.gpg""", "gpg"),
    Case("attributes", """
        touch f; setfattr -n user.one -v 1 f && getfattr -d f | grep -v '^#'; setfacl -m u:1:r f; getfacl -c f; rm f""",
         "attr acl", "setfattr setfacl"),
    Case("util-linux", """
        column -t words | head -n 2; hexdump -C noise | tail -n 2; rev words | head -n 2; getopt -o ab: -- -a -b c d
        setsid -w sh -c 'exit 3'; echo $?; nice -n 5 nice; taskset -p $$ > /dev/null; uuidgen | wc -c; mcookie | wc -c
        echo x | col; look alp words | head -n 1; namei -l tree > /dev/null; prlimit --nofile=100 sh -c 'ulimit -n'""",
         "bsdextrautils", "column hexdump rev look"),
)
