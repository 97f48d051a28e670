"""Coreutils, text tools, archives and other things that every Debian system has."""

from __future__ import annotations

from tests.debian.cases import Case

CASES = (
    Case("cat", "cat words numbers", quick=True),
    Case("cat stdin", "cat - words -", stdin="from\nstandard input\n"),
    Case("head", "head -c 3000 noise"),
    Case("tail", "tail -n 20 words"),
    Case("wc", "wc words numbers noise"),
    Case("sort", "sort -k2,2 -k1,1n words", quick=True),
    Case("sort big", "sort -S 100K -T . --parallel=1 -o sorted words"),
    Case("uniq", "cut -d' ' -f2 words | sort | uniq -c"),
    Case("tr", "tr a-z A-Z < words > upper"),
    Case("od", "od -A x -t x1z noise"),
    Case("split", "split -b 7000 -d noise piece."),
    Case("sha256sum", "sha256sum words numbers noise", quick=True),
    Case("dd", "dd if=noise of=copy bs=777 status=none conv=notrunc seek=3"),
    Case("cp", "cp -a tree copied"),
    Case("mv and ln", """
        mv tree/a moved && ln moved/b/deep hard && ln -s moved soft
        ls -R soft/ && stat -c '%F %h %n' hard soft"""),
    Case("rm", "rm -r tree noise"),
    Case("ls", "ls -lR --time-style=+ tree"),
    Case("du", "du -a --apparent-size tree"),
    Case("touch", "touch -d @1000000000 words new && stat -c '%Y %n' words new"),
    Case("test", "test -d tree && test ! -e nosuch && test words -nt nosuch"),
    Case("false", "false", status=1),
    Case("missing file", "cat nosuchfile", status=1),
    Case("find", "find tree -type f -size -2k -name '*e*' -exec cksum {} +", quick=True),
    Case("xargs", "find tree -type f -print0 | sort -z | xargs -0 -n 1 wc -c"),
    Case("grep", "grep -rnc alpha words tree", quick=True),
    Case("sed", "sed -i.old -e 's/alpha/ALPHA/g' -e '/beta/d' words", quick=True),
    Case("awk", "awk '{ n[$2] += $1 } END { for (w in n) print w, n[w] | \"sort\" }' words", quick=True),
    Case("diff", """
        tac words > backwards
        diff words backwards > changes
        patch -o again words changes && cmp again backwards"""),
    Case("tar", """
        tar --sort=name --owner=0 --group=0 --mtime=@0 -cf t.tar tree
        mkdir x && tar -xf t.tar -C x && tar -tf t.tar""", quick=True),
    Case("tar gz", "tar --sort=name --owner=0 --group=0 --mtime=@0 -c tree noise | gzip -n > t.tgz && tar -tzf t.tgz"),
    Case("gzip", "gzip -kn9 noise words && gzip -dc words.gz | cmp - words", quick=True),
    Case("bzip2", "bzip2 -k words noise && bzip2 -t words.bz2"),
    Case("xz", "xz -k -T1 words noise && xz -dc noise.xz | cmp - noise"),
    Case("bash", """
        for i in $(seq 12); do (echo $((i * i)) | cat) & wait; done
        trap 'echo bye; exit 4' TERM; kill $$; sleep 9""", quick=True, status=4),
    Case("bash status", "exec 2> /dev/null; bash -c 'kill -SEGV $$'; echo $?; exit 77", status=77),
    Case("git", """
        git init -q -b main . && git add words tree && git commit -qm first
        echo more >> words && git commit -qam second
        git log --stat --format='%H %an %ad %s' && git fsck && git gc -q
        git show HEAD~1:words | cksum && git status -s"""),
    Case("make", """
        make -sC project CC=gcc && project/program 12
        make -C project --no-print-directory clean all > log"""),
    Case("perl", "perl -MDigest::MD5=md5_hex -ne '$h{$_}++; END { print md5_hex(join \"\", sort keys %h) }' words"),
    Case("python", """python3 -c '
import hashlib, json, subprocess, zlib
data = open("noise", "rb").read()
print(hashlib.sha1(zlib.compress(data)).hexdigest(), subprocess.run(["wc", "words"], capture_output=True).stdout)
print(json.dumps({"pi": sum((-1) ** k * 4 / (2 * k + 1) for k in range(50000))}))' """, quick=True),
    Case("sqlite3", """sqlite3 db '
        create table t(a integer primary key, b);
        with recursive c(x) as (values(1) union all select x + 1 from c where x < 5000)
            insert into t select x, hex(x * 7919) from c;
        create index i on t(b); select sum(a), max(b) from t;
        delete from t where a % 3; vacuum; pragma integrity_check;' """),
    Case("bc", "bc -l", stdin="""
        scale = 300\n4 * a(1)\n2 ^ 1000
        define f(n) { if (n < 2) return 1; return n * f(n - 1) }\nf(60)\n"""),
    Case("openssl", """
        openssl dgst -sha512 words noise
        openssl enc -aes-256-ctr -K 00 -iv 00 -in noise -out secret 2> /dev/null"""),
    Case("text tools", """
        cksum < noise; tee a b c < words | md5sum; paste a b | head -n 3
        join <(seq 5) <(seq 3 9); comm <(seq 5) <(seq 3 9)"""),
    Case("small tools", """
        date -u -d @1234567890 +%FT%T; printf '%s|' a b; expr 6 '*' 7; basename /x/y.c .c; seq -s, 9
        factor 360360"""),
    Case("env", "env -i A=1 sh -c 'echo $A; unset A; echo ${A-none}; umask; ulimit -c'"),
    Case("timeout", "exec 2> /dev/null; timeout 0.2 sleep 20; echo $?; timeout -s KILL 0.2 sleep 20; echo $?"),
)
