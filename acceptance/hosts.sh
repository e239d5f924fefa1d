# Hosts on one machine, for the scripts that need several; sourced by them after lib.sh.
# shellcheck shell=bash
#
# Each host is a network namespace with an address of its own on a bridge, and a rank there speaks TCP with the others.
# What one machine cannot give them is memory and processors of their own. Needs root, ip and tc.

hosts_made=0

need_hosts() {
    [ "$(id -u)" -eq 0 ] || not_run "only root can make network namespaces"
    command -v ip >/dev/null 2>&1 && command -v tc >/dev/null 2>&1 || not_run "there is no ip or tc (iproute2)"
    ip netns add acuity-probe 2>/dev/null || not_run "network namespaces cannot be made here"
    ip netns delete acuity-probe
}

# Hosts acuity-1, acuity-2, …, whose links send RATE, such as 1gbit.
make_hosts() { # COUNT RATE
    local i
    remove_hosts
    trap remove_hosts EXIT
    ip link add acuity-bridge type bridge && ip link set acuity-bridge up || stop "cannot make a bridge"
    for ((i = 1; i <= $1; i++)); do
        hosts_made=$i
        ip netns add "acuity-$i" && ip link add "acuity-v$i" type veth peer name eth0 netns "acuity-$i" &&
            ip link set "acuity-v$i" master acuity-bridge up &&
            ip -n "acuity-$i" address add "10.77.0.$i/24" dev eth0 && ip -n "acuity-$i" link set eth0 up &&
            ip -n "acuity-$i" link set lo up &&
            ip netns exec "acuity-$i" tc qdisc add dev eth0 root tbf rate "$2" burst 256kb latency 50ms ||
            stop "cannot make host $i"
    done
    host_agent=$(mktemp)
    chmod +x "$host_agent"
    # What mpirun calls in place of ssh. It needs no network itself, so it asks for the link first.
    cat >"$host_agent" <<'AGENT'
#!/bin/sh
host=$1
shift
if ! ip -n "$host" -o link show eth0 2>/dev/null | grep -q LOWER_UP; then
    echo "no route to $host" >&2
    exit 255
fi
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$0" && exec sh -c "$1"' "$host" "$*"
AGENT
}

# Host NUMBER hears and says nothing any more; what runs there goes on.
cut_host() { ip link set "acuity-v$1" down; }
join_host() { ip link set "acuity-v$1" up; }

remove_hosts() {
    local i pid
    for ((i = 1; i <= hosts_made; i++)); do
        for pid in $(ip netns pids "acuity-$i" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
        # The kernel takes its time with a namespace, but the name of the link is to be free now.
        ip link delete "acuity-v$i" 2>/dev/null
        ip netns delete "acuity-$i" 2>/dev/null
    done
    ip link delete acuity-bridge 2>/dev/null
    [ -z "${host_agent:-}" ] || rm -f "$host_agent"
    hosts_made=0
}

# A command on host acuity-1.
on_first_host() { ip netns exec acuity-1 unshare --uts sh -c 'hostname acuity-1 && exec "$@"' sh "$@"; }

# One rank on each of COUNT hosts.
on_hosts() { # COUNT COMMAND...
    local list
    list=$(seq -s, -f 'acuity-%g:1' "$1")
    on_first_host mpirun --allow-run-as-root --mca plm_rsh_agent "$host_agent" -H "$list" -np "$1" --bind-to none \
        --mca mpi_yield_when_idle 1 --mca btl tcp,self --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 \
        "${@:2}"
}
