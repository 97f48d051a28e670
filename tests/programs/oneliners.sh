#!/bin/sh
# awk, perl, sed and friends on generated text; prints checksums, so that any lost or doubled byte shows.
set -e
dir=$(mktemp -d); cd "$dir"; trap 'cd /; rm -rf "$dir"' EXIT
n=300
awk -v n="$n" 'BEGIN { x = 1; for (i = 0; i < n; i++) { x = (x * 16807) % 2147483647; printf "%d word%d %s\n", i, x % 97, x } }' > text
echo "awk $(cksum < text)"
awk '{ c[$2]++ } END { for (w in c) print w, c[w] }' text | sort | cksum
sort -k3n text | tail -n 1
perl -ne '@f = split; $s{$f[1]} += $f[2]; END { print join(" ", map { "$_=$s{$_}" } (sort keys %s)[0..3]), "\n" }' text
perl -e 'my $p = fork; if (!$p) { exit 7 } waitpid $p, 0; print "perl ", $? >> 8, "\n"; print `echo backtick`;'
perl -e '$SIG{ALRM} = sub { print "alarm\n"; exit 0 }; alarm 60; select undef, undef, undef, 0.01; kill ALRM => $$; sleep 90; print "late\n"'
sed -n 's/word\([0-9]*\)/<\1>/; 5,8p' text
tr 'a-z' 'A-Z' < text | cut -d' ' -f2 | sort | uniq -c | sort -rn -k1,1 -k2 | head -n 3
tac text | rev | rev | tac | cmp - text && echo same
split -l 50 text part. && cat part.* | cmp - text && echo split
paste -d, text text | fold -w 40 | cksum
xargs -n 20 echo < text | cksum
find . -name 'part.*' | sort | tr '\n' ' '; echo
echo PASS
