# What the acceptance scripts share; sourced by them after they have set `name` and `parts`.
# shellcheck shell=bash
#
# A script measures and prints; it ends with 0 when every figure holds, with 1 when one does not, and with 77 after
# "NAME: not run" when data, a peer or a quiet machine is missing. Nothing that is missing counts as passed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 70
# shellcheck source=launch/lib.sh
. "$root/launch/lib.sh"

: "${name:?}" "${parts:?}"
only=
detach=
failures=0
checks=0
began=$SECONDS

usage() {
    echo "usage: acceptance/$name [--only PART] [--detach]"
    echo "parts: $parts"
}

# Reads the options; call it first.
start() {
    while [ $# -gt 0 ]; do
        case $1 in
        --only)
            only=${2:-}
            case " $parts " in
            *" $only "*) ;;
            *)
                usage >&2
                exit 64
                ;;
            esac
            [ -n "$only" ] || exit 64
            shift
            ;;
        --detach) detach=1 ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 64
            ;;
        esac
        shift
    done
    if [ -n "$detach" ]; then detached; fi
}

# Starts the script again without a terminal and ends this one.
detached() {
    local log
    log=$(state_folder "$name")/output.txt
    setsid --fork nohup "$root/acceptance/$name" ${only:+--only "$only"} >"$log" 2>&1 </dev/null
    echo "$name: running detached; its output goes to $log"
    exit 0
}

wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

not_run() {
    echo "$name: not run: $*"
    exit 77
}

# A folder for what a script keeps, for this commit (with what is changed on top of it) and the given configuration
# files.
state_folder() { # NAME FILE...
    local commit change folder
    commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo none)
    # The page describes and the scripts measure; neither changes what is measured.
    change=$(git -C "$root" diff HEAD -- Sources Package.swift "${@:2}" 2>/dev/null | cksum | cut -d ' ' -f 1)
    folder=$root/acceptance/.state/$1-$commit-$change
    mkdir -p "$folder" || exit 73
    echo "$folder"
}

# Compares a figure with a limit and prints both: check "accuracy" 93.4 ">" 90 "%"
check() { # WHAT VALUE OPERATOR LIMIT [UNIT]
    local verdict=FAILED
    checks=$((checks + 1))
    if awk -v a="$2" -v b="$4" -v o="$3" 'BEGIN {
        if (a !~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) exit 1
        exit !(o == ">" ? a > b : o == ">=" ? a >= b : o == "<" ? a < b : o == "<=" ? a <= b : a == b)
    }'; then
        verdict=ok
    else
        failures=$((failures + 1))
    fi
    echo "  $1: ${2:-none}${5:+ $5} (wanted $3 $4${5:+ $5}): $verdict"
}

# A figure within a tolerance of another.
check_near() { # WHAT VALUE EXPECTED TOLERANCE [UNIT]
    local verdict=FAILED
    checks=$((checks + 1))
    # Half a unit of the last printed digit is no difference.
    if awk -v a="$2" -v b="$3" -v t="$4" 'BEGIN {
        if (a !~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) exit 1
        d = a - b; if (d < 0) d = -d
        exit !(d <= t + 1e-9)
    }'; then
        verdict=ok
    else
        failures=$((failures + 1))
    fi
    echo "  $1: ${2:-none}${5:+ $5} (wanted $3 ± $4${5:+ $5}): $verdict"
}

# A command that must succeed counts as one check; its output goes through.
check_that() { # WHAT COMMAND...
    local what=$1 verdict=ok
    shift
    checks=$((checks + 1))
    if ! "$@"; then
        verdict=FAILED
        failures=$((failures + 1))
    fi
    echo "  $what: $verdict"
}

# Ends the script with what the checks have found.
finish() {
    if [ "$checks" -eq 0 ]; then
        echo "$name: nothing was checked"
        exit 1
    fi
    if [ "$failures" -gt 0 ]; then
        echo "$name: $failures of $checks checks failed ($(duration $((SECONDS - began))))"
        exit 1
    fi
    echo "$name: all $checks checks hold ($(duration $((SECONDS - began))))"
    exit 0
}

stop() {
    echo "$name: $*"
    exit 1
}

# Builds the executable; sets `acuity`.
build_acuity() {
    scripts/install-dependencies || exit $?
    local log
    log=$(mktemp)
    if ! swift build -c release --product acuity >"$log" 2>&1; then
        tail -n 40 "$log"
        rm -f "$log"
        stop "the build failed"
    fi
    rm -f "$log"
    # shellcheck disable=SC2034  # for the script that sources this
    acuity=$(swift build -c release --show-bin-path)/acuity
}

build_tests() {
    scripts/install-dependencies || exit $?
    local log
    log=$(mktemp)
    if ! swift build -c release --build-tests >"$log" 2>&1; then
        tail -n 40 "$log"
        rm -f "$log"
        stop "the build failed"
    fi
    rm -f "$log"
}

# Runs the tests that a filter names; fails when there are none.
run_tests() { # FILTER
    local log status
    log=$(mktemp)
    NO_COLOR=1 swift test -c release --skip-build --no-parallel --disable-xctest --filter "$1" 2>&1 | tee "$log" |
        grep -v ' started\.$'
    status=${PIPESTATUS[0]}
    if grep -q 'Test run with 0 tests' "$log" || ! grep -q 'Test run with' "$log"; then
        echo "  no test matches $1"
        status=1
    fi
    rm -f "$log"
    return "$status"
}

# Sets `faces` to the folder of real faces, or ends with 77.
need_faces() {
    faces=${ACUITY_FACES:-}
    [ -n "$faces" ] || not_run "ACUITY_FACES does not name the folder of real faces"
    [ -e "$faces/$1" ] || not_run "$faces has no $1"
}

need_python() { command -v python3 >/dev/null 2>&1 || not_run "there is no python3"; }

# Percent of the processors' time that was used over three seconds.
busy_percent() {
    local before after
    before=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
    sleep 3
    after=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
    awk -v a="$before" -v b="$after" 'BEGIN {
        split(a, x); split(b, y); d = y[1] - x[1]; i = y[2] - x[2]; printf "%d", 100 * d / (d + i + 1e-9) }'
}

# Refuses to measure speed while others compute: more than a fifth of the processors busy over three seconds. With
# MINUTES it waits that long for them to end.
need_quiet_machine() { # [MINUTES]
    local busy end=$((SECONDS + 60 * ${1:-0}))
    while busy=$(busy_percent) && [ "$busy" -gt 20 ]; do
        [ "$SECONDS" -lt "$end" ] || not_run "the machine is busy ($busy %): speed cannot be measured"
        sleep 10
    done
}

# One figure of the report of `acuity evaluate`: figure REPORT accuracy | "TAR at FAR 1e-2" | EER
figure() {
    awk -v what="$2" 'index($0, "  " what " ") == 1 {
        rest = substr($0, length(what) + 3); split(rest, words); print words[1]; exit }' "$1"
}

# Trains into FOLDER/run, or goes on with what is there; FOLDER/trained says that it has ended.
train_run() { # FOLDER RECIPE OVERRIDE...
    local folder=$1 run=$1/run status began=$SECONDS
    [ ! -e "$folder/trained" ] || return 0
    mkdir -p "$folder" || exit 73
    set_mpirun "${ranks:?}"
    if [ -e "$run/checkpoints/latest" ]; then
        "${MPIRUN[@]}" "${acuity:?}" resume "$run" --progress lines --log-level warning >>"$folder/output.txt" 2>&1 </dev/null
    else
        rm -rf "$run"
        "${MPIRUN[@]}" "${acuity:?}" train "${@:2}" "run.folder=$run" --progress lines --log-level warning \
            >"$folder/output.txt" 2>&1 </dev/null
    fi
    status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 5 "$folder/output.txt"
        stop "$(basename "$folder") ended with status $status; start this script again to go on"
    fi
    touch "$folder/trained"
    echo "  $(basename "$folder"): trained ($(duration $((SECONDS - began))))"
}
