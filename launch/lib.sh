# Functions for the scripts that start ranks; sourced by them.
# shellcheck shell=bash

# Processors that this process may use.
processors() { nproc 2>/dev/null || echo 1; }

# Physical cores among them, which is what mpirun counts as slots.
physical_cores() {
    local cores
    cores=$(lscpu --parse=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
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
