# What the scripts that compare rates share; sourced by them after lib.sh.
# shellcheck shell=bash
#
# Two sides of a comparison run in turn, and every finished run is kept (acceptance/rates), so that a script that was
# killed goes on where it was. A script defines run_side SIDE, which runs once and prints one line of JSON.

# Both sides of every comparison have as many threads in all, which is what the promised ratios were set for.
# shellcheck disable=SC2034  # for the scripts that source this
threads=2
# Runs of one side and round before the machine counts as too busy.
attempts=4
# Minutes to wait for the machine to become quiet.
patience=5

# Ends with 77 where the ratios mean nothing.
need_speed() {
    need_python
    command -v mpirun >/dev/null 2>&1 || not_run "there is no mpirun"
    [ "$(processors)" -ge "$threads" ] || not_run "$threads processors are needed, $(processors) may be used"
    echo "  $(lscpu 2>/dev/null | sed -n 's/^Model name: *//p'), $(processors) processors, $threads threads a side"
}

# One measurement of ours.
bench_step() { # RANKS THREADS-PER-RANK NETWORK OPTION...
    local command=()
    if [ "$1" -gt 1 ]; then
        set_mpirun "$1"
        command=("${MPIRUN[@]}")
    fi
    timeout --kill-after=5 900 "${command[@]}" "${acuity:?}" bench step "${@:3}" --threads "$2" --json \
        --progress never --log-level warning
}

# Runs the sides in turn until each has ROUNDS undisturbed runs of these settings.
alternate() { # FILE SETTINGS ROUNDS SIDE...
    local file=$1 rounds=$3 following side round run disturbed quiet='' last='' tries=0
    acceptance/rates open "$@" || stop "cannot keep runs in $file"
    while true; do
        following=$(acceptance/rates missing "$file" "$rounds" "${@:4}") || stop "cannot read $file"
        [ -n "$following" ] || return 0
        [ "$following" = "$last" ] || tries=0
        last=$following
        [ "$tries" -lt "$attempts" ] || not_run "$attempts runs in a row were disturbed: the machine is not quiet"
        tries=$((tries + 1))
        read -r side round <<<"$following"
        [ -n "$quiet" ] || need_quiet_machine "$patience"
        if ! run=$(run_side "$side" </dev/null 2>"$file.err"); then
            tail -n 20 "$file.err"
            [ "$side" != theirs ] || not_run "PyTorch's run failed; see above"
            stop "the run of $side failed"
        fi
        # Who computes now may have computed beside the run.
        sleep 1
        quiet=1
        disturbed=
        if [ "$(busy_percent)" -gt 20 ]; then
            quiet=
            disturbed=--disturbed
        fi
        acceptance/rates add "$file" "$side" "$round" ${disturbed:+"$disturbed"} <<<"$run"
        case $? in
        0 | 3) ;;
        *) stop "the run of $side printed no figures" ;;
        esac
    done
}

# The ratio of two sides' medians as a check: check_ratio "rate" FILE SIDE SIDE KEY ">=" 1.6
check_ratio() { # WHAT FILE SIDE SIDE KEY OPERATOR LIMIT
    check "$1" "$(acceptance/rates ratio "${@:2:4}")" "$6" "$7"
}
