#!/bin/bash
# A shell at work: pipes, traps, subshells, here documents, arrays, job control of its own, and many forks.
set -u
dir=$(mktemp -d) && cd "$dir" || exit 1
seconds=${1:-0.05}
forks=$(awk "BEGIN { print $seconds < 0.3 ? 20 : 200 }")
# No trap of EXIT: with it bash catches SIGTERM, even in a child until just before its exec, and forgets there that one has come.
leave() { cd / && rm -rf "$dir"; }
fail() { echo "FAIL $*"; [ $BASHPID = $$ ] && leave; exit 1; }

round() {
	# pipes
	[ "$(seq 1 1000 | grep 7 | sort -rn | head -3 | tr '\n' ' ')" = "997 987 979 " ] || fail pipes
	seq 1 20000 | tee copy | awk '{ s += $1 } END { print s }' > sum
	[ "$(cat sum)" = 200010000 ] && [ "$(wc -l < copy)" = 20000 ] || fail sums
	{ false | true; } && [ "${PIPESTATUS[0]}${PIPESTATUS[1]}" != "" ] || fail pipestatus
	(set -o pipefail; false | true) && fail pipefail

	# subshells and variables
	local x=1
	(x=2; cd /; exit 3); [ $? = 3 ] && [ $x = 1 ] && [ "$PWD" = "$dir" ] || fail subshell
	[ "$(x=5; echo $((x * x)))" = 25 ] || fail arithmetic
	local -a list=(a b "c d")
	[ ${#list[@]} = 3 ] && [ "${list[2]}" = "c d" ] || fail arrays

	# here documents, redirections, process substitution
	cat > doc <<-END
	line one $x
	line two
	END
	[ "$(wc -l < doc)" = 2 ] && grep -q "one 1" doc || fail heredoc
	exec 7> side; echo "through seven" >&7; exec 7>&-
	read -r words < side; [ "$words" = "through seven" ] || fail redirection
	diff <(seq 1 50) <(seq 1 50) > /dev/null || fail substitution
	ls nosuchfile 2> errors; [ $? = 2 ] && grep -q nosuchfile errors || fail stderr

	# traps and signals
	local got=0
	trap 'got=$((got + 1))' USR1
	for i in 1 2 3; do kill -USR1 $$; done
	[ $got = 3 ] || fail "trap $got"
	trap - USR1
	(trap 'exit 9' TERM; kill -TERM $BASHPID; sleep 10); [ $? = 9 ] || fail "trap in subshell"
	[ "$(trap 'echo out' EXIT; echo in)" = $'in\nout' ] || fail "trap of exit"
	(bash -c 'kill -KILL $$'; exit $?) 2> /dev/null; [ $? = 137 ] || fail "killed"
	sleep 100 & local pid=$!
	kill -TERM $pid; wait $pid 2> /dev/null; [ $? = 143 ] || fail "background"

	# many children at once
	rm -f out.*
	for i in 1 2 3 4 5; do (sleep 0.01; echo $i > out.$i; exit $i) & done
	wait
	[ "$(cat out.*  | sort | tr -d '\n')" = 12345 ] || fail children

	# and one after the other
	local i total=0
	for ((i = 0; i < forks; i++)); do
		total=$((total + $(echo "$i" | cat)))
	done
	[ $total = $((forks * (forks - 1) / 2)) ] || fail "forks $total"
}

end=$(awk "BEGIN { print int($seconds * 1000) }")
start=$(date +%s%3N)
while :; do
	round
	[ $(($(date +%s%3N) - start)) -ge "$end" ] && break
done
leave
echo PASS
