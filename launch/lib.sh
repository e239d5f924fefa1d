# Functions for the scripts that start ranks; sourced by them.
# What is set here is for the scripts that source this.
# shellcheck shell=bash disable=SC2034

# Processors that this process may use.
processors() { nproc 2>/dev/null || echo 1; }

# Physical cores among them, which is what mpirun counts as slots.
physical_cores() {
    local cores
    cores=$(lscpu --parse=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    if [ "${cores:-0}" -gt 0 ]; then echo "$cores"; else processors; fi
}

# Physical cores of the processors that this process may use: what is bound to cores counts them, not their hyper-threads.
usable_cores() {
    local allowed cores
    allowed=$(awk '$1 == "Cpus_allowed_list:" { print $2 }' /proc/self/status 2>/dev/null)
    cores=$(lscpu --parse=CPU,CORE,SOCKET 2>/dev/null | awk -F, -v allowed="$allowed" '
        BEGIN {
            count = split(allowed, range, ",")
            for (i = 1; i <= count; i++) {
                last = split(range[i], end, "-") == 2 ? end[2] : end[1]
                for (cpu = end[1] + 0; cpu <= last + 0; cpu++) mine[cpu] = 1
            }
        }
        !/^#/ && ($1 in mine) && !(($2, $3) in seen) { seen[$2, $3] = 1; cores++ }
        END { print cores + 0 }')
    if [ "${cores:-0}" -gt 0 ]; then echo "$cores"; else processors; fi
}

# Whether this is a container, where ranks may not read each other's memory.
in_container() {
    [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ] || [ -n "${KUBERNETES_SERVICE_HOST:-}" ]
}

# Sets the array MPIRUN to a command that starts $1 ranks on this machine with what OpenMPI 4.1 needs.
set_mpirun() {
    local ranks=$1
    # Bound, two ranks would get one core each; unbound, Acuity divides the processors among them. A rank that waits
    # must not spin on a core that another one computes on.
    MPIRUN=(mpirun -np "$ranks" --bind-to none --mca mpi_yield_when_idle 1)
    [ "$(id -u)" -ne 0 ] || MPIRUN+=(--allow-run-as-root)
    [ "$ranks" -le "$(physical_cores)" ] || MPIRUN+=(--oversubscribe)
    ! in_container || MPIRUN+=(--mca btl_vader_single_copy_mechanism none)
}

# "3 min 20 s"
duration() {
    if [ "$1" -lt 120 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# --- Several hosts: what mpirun, supervise, slurm and the containers share ----------------------------------------------

# Sets the array ACUITY_COMMAND to the program that the ranks run: $ACUITY, in the Apptainer image $ACUITY_IMAGE if that
# is set; else this tree's build; else the one on PATH. Fails with a word about it when there is none.
set_program() { # ROOT
    local program=${ACUITY:-}
    if [ -n "${ACUITY_IMAGE:-}" ]; then
        local runtime
        runtime=$(command -v apptainer || command -v singularity) || {
            echo "there is neither apptainer nor singularity to run $ACUITY_IMAGE with" >&2
            return 69
        }
        ACUITY_COMMAND=("$runtime" exec "$ACUITY_IMAGE" "${program:-acuity}")
        return 0
    fi
    if [ -z "$program" ] && [ -x "$1/.build/release/acuity" ]; then program=$1/.build/release/acuity; fi
    if [ -z "$program" ]; then program=$(command -v acuity); fi
    if [ -z "$program" ] || ! command -v "$program" >/dev/null; then
        echo "there is no ${program:-acuity}; build it with 'swift build -c release --product acuity', or set ACUITY" >&2
        return 66
    fi
    ACUITY_COMMAND=("$program")
}

# What a job trains, as all launch files take it: recipe files, overrides as key.path=value with run.folder among them,
# and options of acuity as --name=value. Sets the arrays JOB_RECIPES, JOB_OVERRIDES and JOB_OPTIONS, and RUN_FOLDER.
set_job() { # ARGUMENT...
    local argument
    JOB_RECIPES=() JOB_OVERRIDES=() JOB_OPTIONS=() RUN_FOLDER=
    for argument in "$@"; do
        case $argument in
        -*) JOB_OPTIONS+=("$argument") ;;
        run.folder=?*) RUN_FOLDER=${argument#run.folder=} ;;
        ./* | /*) JOB_RECIPES+=("$argument") ;;
        *=*) JOB_OVERRIDES+=("$argument") ;;
        *) JOB_RECIPES+=("$argument") ;;
        esac
    done
    if [ -z "$RUN_FOLDER" ]; then
        echo "name the run's folder, which all hosts share: run.folder=FOLDER" >&2
        return 64
    fi
    if [ ${#JOB_RECIPES[@]} -eq 0 ] && ! has_checkpoint "$RUN_FOLDER"; then
        echo "name a recipe, such as configs/quickstart.yaml" >&2
        return 64
    fi
}

# The number of the newest complete checkpoint's step, 0 without one.
newest_step() { # RUN-FOLDER
    local manifest step newest=0
    for manifest in "$1"/checkpoints/step-*/manifest.json; do
        [ -e "$manifest" ] || continue
        step=${manifest%/manifest.json}
        step=${step##*/step-}
        step=${step%%-*}
        case $step in *[!0-9]* | '') continue ;; esac
        step=$((10#$step))
        if [ "$step" -gt "$newest" ]; then newest=$step; fi
    done
    echo "$newest"
}

has_checkpoint() { # RUN-FOLDER
    local manifest
    for manifest in "$1"/checkpoints/step-*/manifest.json; do
        if [ -e "$manifest" ]; then return 0; fi
    done
    return 1
}

# Sets the array START to the command of acuity that starts the job, or goes on with it: the same words may be said
# again after any end. After set_job.
set_start() {
    local option options=()
    if has_checkpoint "$RUN_FOLDER"; then
        # What a run learns from is decided when it starts.
        for option in "${JOB_OPTIONS[@]}"; do
            case $option in --overfit=*) ;; *) options+=("$option") ;; esac
        done
        START=(resume "$RUN_FOLDER" "${JOB_OVERRIDES[@]}" "${options[@]+"${options[@]}"}")
    else
        START=(train "${JOB_RECIPES[@]}" "run.folder=$RUN_FOLDER" "${JOB_OVERRIDES[@]}" "${JOB_OPTIONS[@]}")
    fi
}

# Prints "NAME RANKS" for each host of a host file: a name, and after it perhaps slots=N, as OpenMPI has it, or :N, as
# other MPIs have it. '#' starts a comment; a name that comes again adds its ranks. A host of no slots, such as one from
# which jobs are only started, gets no ranks and is left out. What is no number of ranks is printed as it stands, for the
# caller to refuse.
read_hostfile() { # FILE RANKS-PER-HOST
    awk -v ranks="$2" '
        { sub(/#.*/, "") }
        NF == 0 { next }
        {
            name = $1; slots = 1
            if (split(name, part, ":") == 2) { name = part[1]; slots = part[2] }
            for (i = 2; i <= NF; i++) if ($i ~ /^slots=[0-9]+$/) slots = substr($i, 7)
            if (!(name in sum)) { order[++count] = name; sum[name] = 0 }
            if (slots ~ /^[0-9]+$/) sum[name] += slots; else wrong[name] = slots
        }
        END {
            for (i = 1; i <= count; i++) {
                name = order[i]
                if (name in wrong) print name, wrong[name]
                else if (sum[name] == 0) print "host " name " has 0 slots: left out" >"/dev/stderr"
                else print name, ranks != "" ? ranks : sum[name]
            }
        }' "$1"
}

# The same of a list A,B:N,C.
read_hosts() { # LIST RANKS-PER-HOST
    tr ',' '\n' <<<"$1" | read_hostfile /dev/stdin "$2"
}

# Whether a host name is this machine's.
is_this_host() { # NAME
    local own
    own=$(uname -n)
    case $1 in
    localhost | 127.0.0.1 | "$own" | "${own%%.*}") return 0 ;;
    esac
    [ "${1%%.*}" = "${own%%.*}" ]
}

# Networks that lead to no other host: loopback, bridges of containers and virtual machines.
nowhere=lo,docker0,podman0,cni0,virbr0,lxcbr0

# Whether the given settings, the environment or OpenMPI's files say which networks a layer (btl or oob) uses. OpenMPI
# refuses to include and exclude at once, so what is said there stays alone.
network_is_chosen() { # LAYER SETTING...
    local file include=OMPI_MCA_${1}_tcp_if_include exclude=OMPI_MCA_${1}_tcp_if_exclude
    case " ${*:2} " in *" ${1}_tcp_if_"*) return 0 ;; esac
    [ -z "${!include:-}${!exclude:-}" ] || return 0
    for file in "${HOME:-}/.openmpi/mca-params.conf" /etc/openmpi/openmpi-mca-params.conf \
        "$(dirname "$(command -v mpirun || echo /usr/bin/mpirun)")/../etc/openmpi-mca-params.conf"; do
        if grep -qE "^[[:space:]]*${1}_tcp_if_(include|exclude)" "$file" 2>/dev/null; then return 0; fi
    done
    return 1
}

# Whether a process that this script has started handles SIGUSR1 (bit 10 of SigCgt). Before it does, the signal would end
# it, or be lost: a process that is still a copy of this script has this one's handlers, and forgets them.
hears() { # PID
    local caught
    if cmp -s "/proc/$$/cmdline" "/proc/$1/cmdline"; then return 1; fi
    caught=$(awk '$1 == "SigCgt:" { print $2 }' "/proc/$1/status" 2>/dev/null)
    [ -n "$caught" ] && [ $((16#${caught: -4} & 0x200)) -ne 0 ]
}

# Runs a command line on a host by the agent (ssh, or what --agent says), or here when the host is this one.
on_host() { # NAME COMMAND-LINE
    if is_this_host "$1"; then
        bash -c "$2" </dev/null
    elif [ -n "${LAUNCH_AGENT:-}" ]; then
        "$LAUNCH_AGENT" "$1" "$2" </dev/null
    else
        ssh -o BatchMode=yes -o ConnectTimeout=10 "$1" "$2" </dev/null
    fi
}
