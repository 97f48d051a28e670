# Made by mosfs.tools.completions from the commands' own tables: change those.

_mosrun() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-b -r -h -F --trace -L -l -g -G -m -e -w -u --stay-home -z -c -n -d -p -t -T -S -R -O -I -A -C -N -X --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -A command -- "$word")) ;;
    esac
}
complete -o default -F _mosrun mosrun

_mosenv() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-b -r -h -F --trace -L -l -g -G -m -e -w -u --stay-home -z -c -n -d -p -t -T -S -R -O -I -A -C -N -X --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -A command -- "$word")) ;;
    esac
}
complete -o default -F _mosenv mosenv

_mosnative() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "--help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -A command -- "$word")) ;;
    esac
}
complete -o default -F _mosnative mosnative

_mospipe() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-b -r -h -F -L -l -g -G -m -e -E --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -A command -- "$word")) ;;
    esac
}
complete -o default -F _mospipe mospipe

_mosps() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-A -e -a -d -p -t -u -U -g -G -f -l -j -H -w -T -m -I -h -M -L -O -n -N -P -V -S --json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)" -- "$word")) ;;
    esac
}
complete -o default -F _mosps mosps

_mosmigrate() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "--no-wait --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$([ $COMP_CWORD = 1 ] && echo $(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null) || echo home $(sed -n 's/^\([1-9][0-9]*\)[ \t].*/\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null))" -- "$word")) ;;
    esac
}
complete -o default -F _mosmigrate mosmigrate

_moslab() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "--root --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "up down status run shell storm" -- "$word")) ;;
    esac
}
complete -o default -F _moslab moslab

_mosbestnode() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-u -n -w -m --json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W " " -- "$word")) ;;
    esac
}
complete -o default -F _mosbestnode mosbestnode

_mosctl() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "--json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$([ $COMP_CWORD = 1 ] && echo stay nostay lstay nolstay block noblock expel bring shutdown isolate rejoin maxguests openmulti closemulti cngpri whois status localstatus rstatus || echo $(sed -n 's/^\([1-9][0-9]*\)[ \t].*/\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null))" -- "$word")) ;;
    esac
}
complete -o default -F _mosctl mosctl

_moskillall() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-HUP -INT -QUIT -ILL -TRAP -ABRT -BUS -FPE -KILL -USR1 -SEGV -USR2 -PIPE -ALRM -TERM -STKFLT -CHLD -CONT -STOP -TSTP -TTIN -TTOU -URG -XCPU -XFSZ -VTALRM -PROF -WINCH -POLL -PWR -SYS --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W " " -- "$word")) ;;
    esac
}
complete -o default -F _moskillall moskillall

_mosmon() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-w -v -V -t -d -s -m -f -c --paging -l --once --json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W " " -- "$word")) ;;
    esac
}
complete -o default -F _mosmon mosmon

_mossetpe() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-m -p -A -r -R -off --json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}
complete -o default -F _mossetpe mossetpe

_mostestload() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "-t --time -l -m --mem --random-mem --cpu --read --write --noiosyscall -d --dir -f --file --maxiosize -v --verbose --report-migrations -r --report --sleep -h --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -A command -- "$word")) ;;
    esac
}
complete -o default -F _mostestload mostestload

_mostimeof() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    case "$word" in
    -*) COMPREPLY=($(compgen -W "--json --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)" -- "$word")) ;;
    esac
}
complete -o default -F _mostimeof mostimeof
