# Made by tools.completions from the commands' own tables: change those.

# Each function has in "at" the place of the first word that it does not know yet.

# Goes behind the options. $1: letters that take a value, with a colon before them; $2: longer options that do.
_mosfs_skip() {
    local word start
    while ((at < COMP_CWORD)); do
        word=${COMP_WORDS[at]}
        start=${word%%[0123456789"$1"]*}
        if [[ $word == -- ]]; then
            ((at += 1))
            return
        elif [[ $word != -?* ]]; then
            return
        elif [[ ${COMP_WORDS[at + 1]} == = ]]; then
            ((at += 3))
        elif [[ " $2 " == *" $word "* ]] || [[ $word != --* && $word == "$start"["$1"] ]]; then
            ((at += 2))
        else
            ((at += 1))
        fi
    done
}

# Completes an option, or the value of one; false where neither stands. $3: all options; $4: "anywhere" if they may follow
# other words.
_mosfs_own() {
    local word=${COMP_WORDS[COMP_CWORD]}
    _mosfs_skip "$1" "$2"
    if ((at > COMP_CWORD)); then
        _mosfs_files
    elif [[ $word == -* && ${COMP_WORDS[at - 1]} != -- ]] && { ((at == COMP_CWORD)) || [[ $4 ]]; }; then
        _mosfs_words "$3"
    else
        return 1
    fi
}

_mosfs_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

_mosfs_files() {
    local word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == = ]] && word=
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

# Programs by name, without the shell's own words, which mosrun cannot run.
_mosfs_commands() {
    local word=${COMP_WORDS[COMP_CWORD]} IFS=: folder file
    [[ $word == */* ]] && { _mosfs_files; return; }
    mapfile -t COMPREPLY < <(
        for folder in $PATH; do
            for file in "$folder/$word"*; do
                [[ -f $file && -x $file ]] && printf '%s\n' "${file##*/}"
            done
        done | sort -u
    )
}

# A program, and its arguments as without us: bash-completion knows how, or there is a function for it.
_mosfs_program() {
    local name function spec
    if ((at >= COMP_CWORD)); then
        _mosfs_commands
    elif declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$at"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$at"
    else
        name=${COMP_WORDS[at]##*/}
        spec=$(complete -p "$name" 2>/dev/null)
        function=${spec##* -F }
        if [[ $function == "$spec" ]]; then
            _mosfs_files
            return
        fi
        COMP_WORDS=("${COMP_WORDS[@]:at}")
        ((COMP_CWORD -= at))
        COMP_LINE=${COMP_WORDS[*]}
        COMP_POINT=${#COMP_LINE}
        "${function%% *}" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    fi
}

_mosrun() {
    local at=1
    _mosfs_own :rmdSROIACNX '--cpu --joblog --retries --halt --timeout --delay' '-b -r -h -F --trace -L -l -g -G -m --outlive -e -w -u --stay-home --threads --no-threads --share-memory --no-share-memory --cpu -z -c -n -d -p -t -T -S --joblog --resume --resume-failed --retries --halt --timeout --delay --group --keep-order --progress -R -O --same-pid -I --json -A -C -N --incremental --compress --no-compress -X --help --version' && return
    _mosfs_program
}
complete -o default -F _mosrun mosrun

_mosenv() {
    local at=1
    _mosfs_own :rmdSROIACNX '--cpu --joblog --retries --halt --timeout --delay' '-b -r -h -F --trace -L -l -g -G -m --outlive -e -w -u --stay-home --threads --no-threads --share-memory --no-share-memory --cpu -z -c -n -d -p -t -T -S --joblog --resume --resume-failed --retries --halt --timeout --delay --group --keep-order --progress -R -O --same-pid -I --json -A -C -N --incremental --compress --no-compress -X --help --version' && return
    _mosfs_program
}
complete -o default -F _mosenv mosenv

_mosnative() {
    local at=1
    _mosfs_own : '' '--help --version' && return
    _mosfs_program
}
complete -o default -F _mosnative mosnative

_mospipe() {
    local at=1
    _mosfs_own :rm '' '-b -r -h -F -L -l -g -G -m -e -E --help --version' && return
    _mosfs_commands
}
complete -o default -F _mospipe mospipe

_mosd() {
    local at=1
    _mosfs_own : '--root --tracer --host' '--root --foreground --kernel --tracer --host --help --version' && return
    COMPREPLY=()
}
complete -F _mosd mosd

_mosps() {
    local at=1
    _mosfs_own :ptuUgG '' '-A -e -a -d -x -p -t -u -U -g -G -f -l -j -H -w -T -m -I -h -M -L -O -n -N -P -V -S --json --help --version' anywhere && return
    _mosfs_words "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
}
complete -o default -F _mosps mosps

_mosmigrate() {
    local at=1
    _mosfs_own : '' '--no-wait --help --version' anywhere && return
    if ((at == COMP_CWORD)); then
        _mosfs_words "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
    else
        _mosfs_words "home $(sed -n 's/^\([1-9][0-9]*\)[ \t].*/\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null)"
    fi
}
complete -o default -F _mosmigrate mosmigrate

_mosbestnode() {
    local at=1
    _mosfs_own :m '' '-u -n -w -m --json --help --version' anywhere && return
    COMPREPLY=()
}
complete -F _mosbestnode mosbestnode

_mosctl() {
    local at=1
    _mosfs_own : '' '--json --help --version' anywhere && return
    if ((at == COMP_CWORD)); then
        _mosfs_words "stay nostay lstay nolstay block noblock expel bring shutdown isolate rejoin maxguests openmulti closemulti cngpri whois status localstatus rstatus doctor metrics"
    else
        _mosfs_words "$(sed -n 's/^\([1-9][0-9]*\)[ \t].*/\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null)"
    fi
}
complete -o default -F _mosctl mosctl

_moskillall() {
    local at=1
    _mosfs_own : '' '-HUP -INT -QUIT -ILL -TRAP -ABRT -BUS -FPE -KILL -USR1 -SEGV -USR2 -PIPE -ALRM -TERM -STKFLT -CHLD -CONT -STOP -TSTP -TTIN -TTOU -URG -XCPU -XFSZ -VTALRM -PROF -WINCH -POLL -PWR -SYS --help --version' && return
    COMPREPLY=()
}
complete -F _moskillall moskillall

_mosmon() {
    local at=1
    _mosfs_own : --html '-w -v -V -t -d -s -m -f -c --paging -l --once --html --json --help --version' anywhere && return
    COMPREPLY=()
}
complete -F _mosmon mosmon

_mossetpe() {
    local at=1
    _mosfs_own :mp '' '-m -p -A -r -R -off --json --help --version' anywhere && return
    _mosfs_files
}
complete -o default -F _mossetpe mossetpe

_mos_in_job() {
    local at=1
    _mosfs_own : '' '-A --help --version' && return
    _mosfs_files
}
complete -o default -F _mos_in_job mos_in_job

_mos_checkconf() {
    local at=1
    _mosfs_own : --root '--root --json --help --version' anywhere && return
    _mosfs_files
}
complete -o default -F _mos_checkconf mos_checkconf

_mos_autoconf() {
    local at=1
    _mosfs_own : '--subnet --number --answers --then' '--subnet --number --no-numbers --yes --answers --list --json --answer --then --help --version' anywhere && return
    COMPREPLY=()
}
complete -F _mos_autoconf mos_autoconf

_mosconf() {
    local at=1
    _mosfs_own : '--root --answers' '--root --answers --help --version' anywhere && return
    _mosfs_words "nodes key numbers speed freezing mosrun misc partners"
}
complete -o default -F _mosconf mosconf

_mostestload() {
    local at=1
    _mosfs_own :tlmdf '--time --mem --cpu --dir --file --maxiosize --sleep' '-t --time -l -m --mem --random-mem --cpu --read --write --noiosyscall -d --dir -f --file --maxiosize -v --verbose --report-migrations -r --report --sleep -h --help --version' && return
    COMPREPLY=()
}
complete -F _mostestload mostestload

_mostimeof() {
    local at=1
    _mosfs_own : '' '--json --help --version' anywhere && return
    _mosfs_words "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
}
complete -o default -F _mostimeof mostimeof

_mosacct() {
    local at=1
    _mosfs_own : '--file --since --user' '--all --file --since --user --sum --json --help --version' && return
    COMPREPLY=()
}
complete -F _mosacct mosacct

_moslab() {
    local at=1 verb
    _mosfs_own : --root '--root --help --version' && return
    if ((at == COMP_CWORD)); then
        _mosfs_words 'up down status run shell storm'
        return
    fi
    verb=${COMP_WORDS[at]}
    ((at += 1))
    case $verb in
    up)
        _mosfs_own :n '--root --clusters --base --speeds --cpus --memory' '--root -v --verbose -n --clusters --base --netns --balance --speeds --cpus --memory --help --version' anywhere && return ;;
    down)
        _mosfs_own : --root '--root -v --verbose --keep --help --version' anywhere && return ;;
    status)
        _mosfs_own : --root '--root --json --help --version' anywhere && return ;;
    run)
        _mosfs_own : --root '--root --help --version' && return
        (((at += 1) <= COMP_CWORD)) && _mosfs_program ;;
    shell)
        _mosfs_own : --root '--root --help --version' && return ;;
    storm)
        _mosfs_own : '--root --every --checkpoint --seed --stats' '--root -v --verbose --every --home --freeze --checkpoint --seed --stats --help --version' && return
        (((at += 0) <= COMP_CWORD)) && _mosfs_program ;;
    esac
}
complete -o default -F _moslab moslab
