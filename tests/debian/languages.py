"""Interpreters, compilers, editors of programs: each works on files, starts children, and uses its own idea of memory."""

# ruff: noqa: E501 - the scripts are as their languages have them
from __future__ import annotations

from tests.debian.cases import Case

PYTHON = r"""python3 - << 'END'
import array, asyncio, collections, csv, fcntl, hashlib, mmap, os, pickle, random, re, select, signal, socket, sqlite3, struct
import subprocess, sys, tempfile, time, zlib
pairs = socket.socketpair()
child = os.fork()
if child == 0:
    pairs[0].close()
    while data := pairs[1].recv(4096): pairs[1].sendall(data.upper())
    os._exit(5)
pairs[1].close()
for n in range(50):
    pairs[0].sendall(b"line %d" % n); assert pairs[0].recv(4096) == b"LINE %d" % n
pairs[0].close(); print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
async def talk():
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = await process.communicate(b"x" * 300000)
    await asyncio.gather(*(asyncio.sleep(0.01 * n) for n in range(8)))
    return len(out), process.returncode
asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
print(asyncio.run(talk()))
with open("noise", "rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as area:
    before = hashlib.sha256(area).hexdigest(); area[5:10] = b"hello"; print(before, area.find(b"hello"))
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
end = time.monotonic() + 100; count = 0
while len(hits) < 5 and time.monotonic() < end: count += sum(range(100))
signal.setitimer(signal.ITIMER_REAL, 0); print(len(hits) > 3)
r, w = os.pipe(); poll = select.epoll(); poll.register(r, select.EPOLLIN); print(poll.poll(0.05)); os.write(w, b"1"); print(len(poll.poll(1)))
data = {n: [random.Random(n).random() for _ in range(50)] for n in range(400)}
assert pickle.loads(zlib.decompress(zlib.compress(pickle.dumps(data)))) == data
print(subprocess.run("exit 9", shell=True).returncode, subprocess.run(["kill", "-9", "0"], start_new_session=True).returncode)
with open("lock", "w") as file: fcntl.lockf(file, fcntl.LOCK_EX); print(os.fork() or (os._exit(0)), file=open(os.devnull, "w")); os.wait()
os.unlink("lock"); print(collections.Counter(re.findall(r"[a-z]+", open("words").read())).most_common(3))
END"""

PERL = r"""perl -e '
use strict; use warnings; use IO::Select; use IPC::Open3; use POSIX qw(:sys_wait_h :signal_h); use Socket; use Time::HiRes qw(sleep ualarm);
my ($n, %kids) = (0);
for my $i (1 .. 12) { my $p = fork // die; if (!$p) { sleep 0.01 * $i; exit $i } $kids{$p} = $i }
while ((my $p = waitpid -1, 0) > 0) { $n += $? >> 8; delete $kids{$p} } print "$n ", scalar(keys %kids), "\n";
my $pid = open3(my $in, my $out, undef, "sort", "-n"); print $in "$_\n" for reverse 1 .. 200; close $in; my @l = <$out>; waitpid $pid, 0;
print scalar(@l), " $l[0]"; my $hits = 0; local $SIG{ALRM} = sub { $hits++ }; ualarm 20000, 20000; my $t = time; select undef, undef, undef, 0.1 while $hits < 3 && time < $t + 100;
ualarm 0; print $hits > 2 ? "alarms\n" : "none\n"; socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC; $a->autoflush; print $a "hello\n"; print scalar <$b>;
open my $f, "+<", "numbers"; flock $f, 2; seek $f, -20, 2; local $/; my $end = <$f>; print length $end, "\n"; print `echo back`; system "exit 3"; print $? >> 8, "\n";
my $s = POSIX::SigSet->new(SIGUSR1); sigprocmask SIG_BLOCK, $s; my $got = 0; $SIG{USR1} = sub { $got++ }; kill USR1 => $$; print $got; sigprocmask SIG_UNBLOCK, $s; print "$got\n"; '"""

CPLUSPLUS = r"""
cat > a.cc << 'END'
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
int main() { std::vector<int> v; for (int i = 0; i < 100000; i++) v.push_back(i * 7919 % 100003); std::sort(v.begin(), v.end());
    std::map<std::string, int> m; for (int x : v) m[std::to_string(x % 97)]++; std::regex r("[0-9]+"); int n = 0;
    for (auto &p : m) n += std::regex_match(p.first, r) * p.second; try { throw std::string("thrown"); } catch (std::string &s) { std::cout << s; }
    std::cout << ' ' << n << ' ' << v[500] << '\n'; }
END
g++ -O1 -o a a.cc && ./a; objdump -h a | grep -c text; nm -C a | grep -c std::map; strip a && ./a; rm a"""

C_TOOLS = r"""
make -j4 -sC project CC=gcc && project/program 9; gcc -O2 -S -o - project/a.c | wc -l > /dev/null
ar rc lib.a project/*.o && ranlib lib.a && ar t lib.a; ld -r -o all.o project/*.o && size all.o | tail -n 1 | awk '{ print NF }'
gcc -shared -fPIC -o libb.so project/b.c && gcc -o p project/main.c project/a.c project/c.c -L. -lb -Wl,-rpath,. && ./p 5
cpp -P project/all.h | wc -l > /dev/null; strings p | grep -c printf; readelf -h p | grep Class; rm -f p lib.a all.o libb.so"""

AUTOMAKE_LIKE = r"""
cat > configure << 'END'
for f in stdio.h sys/epoll.h nosuch.h; do echo "#include <$f>" > t.c; gcc -c t.c 2> /dev/null && echo "$f yes" || echo "$f no"; done
echo 'int main() { return sizeof(long); }' > t.c; gcc t.c -o t; ./t; echo "long $?"; rm -f t t.c t.o
END
sh configure; rm configure"""

CASES = (
    Case("python wide", PYTHON, quick=True),
    Case("python modules", """python3 -c '
import compileall, decimal, email, fractions, html, json, tarfile, textwrap, xml.etree.ElementTree, zipfile
with zipfile.ZipFile("z.zip", "w") as z: [z.writestr(f"{n}", str(n) * n) for n in range(99)]
with zipfile.ZipFile("z.zip") as z: print(sum(len(z.read(i)) for i in z.infolist()))
with tarfile.open("t.tar.xz", "w:xz") as t: t.add("tree/file09")
print(tarfile.open("t.tar.xz").getnames(), decimal.Decimal(2).sqrt(), fractions.Fraction(1, 3) + 1)'; rm z.zip t.tar.xz"""),
    Case("perl wide", PERL, quick=True),
    Case("perl prove", r"""mkdir t; for i in 1 2 3; do echo "use Test::More tests => 2; ok(1); is(\$\$, getppid() ? \$\$ : 0);" > t/$i.t; done
        prove t 2>&1 | sed 's/wallclock.*//;s/, *$//' | grep -v Files"""),
    Case("gcc and binutils", C_TOOLS),
    Case("g++", CPLUSPLUS, "g++"),
    Case("configure", AUTOMAKE_LIKE),
    Case("cmake", """printf 'cmake_minimum_required(VERSION 3.5)\\nproject(p C)\\nadd_executable(p main.c a.c b.c c.c)\\n' > project/CMakeLists.txt
        cmake -S project -B b > log 2>&1; echo $?; make -sC b 2>&1 | grep -c Linking; b/p 4; rm -rf b log""", "cmake"),
    Case("nasm", """printf 'global _start\\nsection .text\\n_start: mov edi, 42\\n mov eax, 60\\n syscall\\n' > a.s
        nasm -f elf64 a.s -o a.o && ld a.o -o a && ./a; echo $?""", "nasm"),
    Case("bison and flex", """
        printf '%%{\\n#include <stdio.h>\\nint yylex(void); void yyerror(const char *s) { puts(s); }\\n%%}\\n%%token N\\n%%left %s\\n%%%%\\n' "'+'" > c.y
        printf "s: e { printf(\\"%%%%d\\\\\\\\n\\", \\$1); };\\ne: N | e '+' e { \\$\\$ = \\$1 + \\$3; };\\n%%%%\\nint main(void) { return yyparse(); }\\n" > tail
        cat tail >> c.y; bison -d -o c.c c.y && printf '%%{\\n#include "c.h"\\n%%}\\n%%option noyywrap noinput nounput\\n%%%%\\n[0-9]+ { yylval = atoi(yytext); return N; }\\n"+" return 43;\\n\\\\n ;\\n' > l.l
        flex -o l.c l.l && gcc -o calc c.c l.c && echo '1+20+300' | ./calc; rm -f calc""", "bison flex"),
    Case("m4", "m4", "m4", stdin="define(`f', `ifelse($1, 0, 1, `eval($1 * f(decr($1)))')')f(6)\nsyscmd(`echo shell')esyscmd(`seq 3')\n"),
    Case("gawk", """gawk 'BEGIN { "date -u -d @0 +%Y" | getline y; print y, strftime("%F", 86400, 1), gensub(/(a)/, "<\\\\1>", "g", "banana")
        cmd = "tr a-z A-Z"; print "coprocess" |& cmd; close(cmd, "to"); cmd |& getline x; print x }
        { s += $1 } END { print s, NR; printf "%c%05.2f\\n", 65, 3.14159 }' words""", "gawk"),
    Case("mawk and original-awk", """for a in mawk original-awk; do $a '{ c[$2]++ } END { for (k in c) print k, c[k] | "sort" }' words
        $a 'BEGIN { while (("ls tree" | getline f) > 0) n++; print n; system("exit 3") }'; done""", "mawk original-awk"),
    Case("lua", """lua5.4 -e 'local t = {} for i = 1, 200000 do t[i] = (i * 7919) % 100003 end table.sort(t) print(t[77], #t)
        local p = io.popen("sort -n", "w") for i = 9, 1, -1 do p:write(i, "\\n") end print(p:close())
        print(os.execute("exit 4")) local c = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) print(c(), c())' """, "lua5.4"),
    Case("tcl", """tclsh << 'END'
        set f [open |[list sort -n] r+]; foreach i {3 1 2} { puts $f $i }; close $f write; puts [read $f]; close $f
        after 50; puts [exec echo sub | tr a-z A-Z]
        proc fib n { expr {$n < 2 ? $n : [fib [expr {$n - 1}]] + [fib [expr {$n - 2}]]} }; puts [fib 18]
END""", "tcl", "tclsh"),
    Case("tcl events", """tclsh << 'END'
        after 50 { set done 1 }; vwait done
        set s [socket -server accept -myaddr 127.0.0.1 0]; proc accept {c a p} { puts $c hello; close $c; set ::ok 1 }
        set c [socket 127.0.0.1 [lindex [fconfigure $s -sockname] 2]]; vwait ok; puts [gets $c]
END""", "tcl", "tclsh"),
    Case("ruby", """ruby --disable-gems -e 'puts (1..20).map { |n| n ** 2 }.sum; puts [3, 1, 2].sort.inspect; puts 2 ** 200
        def f(n) n < 2 ? n : f(n - 1) + f(n - 2) end; puts [30, 31, 32].map { |n| Thread.new { f(n) } }.map(&:value).sum' """, "ruby", moves=True),
    Case("php", """php -n -r 'echo array_sum(range(1, 1000)), "\\n", md5_file("noise"), "\\n", shell_exec("echo sub"); $p = proc_open(["sort"],
        [["pipe", "r"], ["pipe", "w"]], $q); fwrite($q[0], "b\\na\\n"); fclose($q[0]); echo stream_get_contents($q[1]), proc_close($p), "\\n";' """,
         "php-cli", "php"),
    Case("guile", "guile --no-auto-compile -c '(display (let f ((n 32)) (if (< n 2) n (+ (f (- n 1)) (f (- n 2))))))'", "guile-3.0", "guile", moves=True),
    Case("prolog", """swipl -q -g 'numlist(1, 300000, L), foldl([X, A, B]>>(B is A + X * X), L, 0, S), writeln(S), halt' --no-tty""", "swi-prolog-nox",
         "swipl", moves=True),
    Case("gforth", "gforth -e ': sq dup * ; : t 0 1000 0 do i sq + loop . ; t cr bye'", "gforth"),
    Case("jq", """seq 500 | jq -n '[inputs | {n: ., s: (. * .)}] | map(select(.n % 7 == 0)) | (map(.s) | add), length, (.[3] | tojson)'""", "jq"),
    Case("xml", """xmllint --noout - <<< '<a><b/></a>' && echo valid; printf '<r>%s</r>' "$(seq -f '<n>%g</n>' 300)" > x.xml
        xmllint --xpath 'sum(//n)' x.xml; echo; xmllint --format x.xml | cksum""", "libxml2-utils", "xmllint"),
    Case("groff", """printf '.TH X 1\\n.SH NAME\\nx \\\\- y\\n.PP\\ntext %s\\n' "$(seq -s' ' 200)" > x.1; groff -man -Tascii x.1 | cksum; groff -man -Tps x.1 | wc -l""",
         "groff"),
    Case("git wide", """
        git init -q -b main . && git add words && git commit -qm one && git checkout -q -b side && sed -i 's/alpha/side/' words && git commit -qam two
        git checkout -q main && seq 10 > new && git add new && git commit -qm three && git merge -q side -m merge && git log --graph --oneline --no-abbrev
        git rebase -q HEAD~1 2>&1 | head -n 3; git stash list; echo change >> new; git stash -q; git stash pop -q; git diff --stat; git clone -q . ../clone$$
        git -C ../clone$$ log --oneline | wc -l; rm -rf ../clone$$; git grep --threads=1 -c gamma; git bundle create -q b HEAD; git bundle verify -q b 2>&1 | head -n 1
        git archive HEAD | tar -t; git blame -s new | tail -n 2; git repack -adq; git fsck --no-dangling 2>&1; rm b; rm -rf .git"""),
)
