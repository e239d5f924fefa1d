# Changes to the machine that a script makes and takes back, however it ends; sourced after lib.sh.
# shellcheck shell=bash

undoing=()

# A command line for the end of the script; the last one runs first.
at_end() { undoing+=("$1"); }

put_back() {
    local index
    trap '' INT TERM HUP
    for ((index = ${#undoing[@]} - 1; index >= 0; index--)); do eval "${undoing[index]}"; done
    undoing=()
}
trap put_back EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Installs the Debian packages of commands that are missing (they stay), without starting their daemons; ends with 77
# where that cannot be done.
need_packages() { # COMMAND:PACKAGE ...
    local pair missing=() log policy=/usr/sbin/policy-rc.d made=
    for pair in "$@"; do
        [ -x "/usr/sbin/${pair%%:*}" ] || [ -x "/usr/lib/podman/${pair%%:*}" ] || command -v "${pair%%:*}" >/dev/null ||
            missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || not_run "these Debian packages are missing: ${missing[*]}"
    echo "installing ${missing[*]}"
    if [ ! -e "$policy" ]; then
        made=1
        at_end "rm -f $policy"
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    log=$(mktemp)
    apt-get update -q >"$log" 2>&1
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
        tail -n 5 "$log"
        rm -f "$log"
        not_run "apt-get could not install ${missing[*]}"
    fi
    rm -f "$log"
    [ -z "$made" ] || rm -f "$policy"
}

# Ends a process that this script has started, and waits for it.
end_process() { # PID [SIGNAL]
    local try
    [ -n "$1" ] && kill "-${2:-TERM}" "$1" 2>/dev/null || return 0
    for ((try = 0; try < 50; try++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL "$1" 2>/dev/null
}

# The step of the last line of a run's log that has one; 0 before the first.
logged_step() { # RUN-FOLDER
    local step
    step=$(sed -n 's/.*"step": *\([0-9]*\).*/\1/p' "$1/log.jsonl" 2>/dev/null | tail -n 1)
    echo "${step:-0}"
}

# Waits until a run has logged a step; false when it takes too long, or when a process that must live does not.
reaches() { # RUN-FOLDER STEP SECONDS [PID]
    local until=$((SECONDS + $3))
    while [ "$(logged_step "$1")" -lt "$2" ]; do
        [ "$SECONDS" -lt "$until" ] || return 1
        [ -z "${4:-}" ] || kill -0 "$4" 2>/dev/null || return 1
        sleep 0.2
    done
}

# Two checkpoints with the same files of the same bytes. The manifest states the hash of the whole recipe, in which run
# folders differ, and the checksum of its own text; all its other lines must agree.
same_checkpoint() { # FOLDER FOLDER
    local file status=0
    diff <(cd "$1" && ls -A) <(cd "$2" && ls -A) || return 1
    for file in "$1"/*; do
        file=${file##*/}
        if [ "$file" = manifest.json ]; then
            diff <(grep -vE '"(config|checksum)":' "$1/$file") <(grep -vE '"(config|checksum)":' "$2/$file") || status=1
        else
            cmp "$1/$file" "$2/$file" || status=1
        fi
    done
    return "$status"
}

# Sets `acuity`: the program that $ACUITY names, or one built now.
need_acuity() {
    if [ -n "${ACUITY:-}" ]; then
        acuity=$(realpath "$ACUITY") && [ -x "$acuity" ] || stop "there is no program $ACUITY"
    else
        build_acuity
    fi
}
