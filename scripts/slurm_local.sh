#!/bin/sh
# A real Slurm of one machine, for tests and for trying a sweep before it goes to a cluster.
#   scripts/slurm_local.sh install   Debian's slurm-wlm and munge (as root; nothing if they are there)
#   scripts/slurm_local.sh start     configure this machine as controller and node, and start it
#   scripts/slurm_local.sh status    what sinfo says; status 0 if jobs can be submitted
#   scripts/slurm_local.sh stop      end the daemons (jobs included)
# It leaves a Slurm that it did not start alone. Its configuration and state are in GOSSAMER_SLURM
# (default: /tmp/gossamer-slurm); clients find it through SLURM_CONF, which `start` prints.
set -eu
place="${GOSSAMER_SLURM:-/tmp/gossamer-slurm}"
conf="$place/slurm.conf"
export SLURM_CONF="$conf"

say() { echo "slurm_local: $*" >&2; }

install() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then
        return
    fi
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
        say "slurmctld, slurmd and munged are missing, and only root on Debian can install them here"
        exit 1
    }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
    host=$(hostname -s)
    cpus=$(nproc)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    mkdir -p "$place/state" "$place/spool"
    cat >"$conf" <<CONF
ClusterName=gossamer
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=30
MinJobAge=600
SlurmctldTimeout=300
SlurmdTimeout=300
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

ready() { [ -s "$conf" ] && sinfo -h -o %t 2>/dev/null | grep -qE '^(idle|mix|alloc|comp)'; }

start() {
    if ready; then
        echo "export SLURM_CONF=$conf"
        return
    fi
    install
    stop # what an earlier one left that was killed
    configure
    (umask 077 && head -c 1024 /dev/urandom >"$place/munge.key")
    # --force: its folder is not where a distribution would put it
    munged --force --key-file="$place/munge.key" --socket="$place/munge.socket" \
        --pid-file="$place/munged.pid" --log-file="$place/munged.log" --seed-file="$place/munge.seed"
    slurmctld -c -f "$conf"
    slurmd -f "$conf"
    tries=0
    until ready; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            say "no node became ready in 60 s; see $place/slurmctld.log and $place/slurmd.log"
            exit 1
        fi
        sleep 1
    done
    echo "export SLURM_CONF=$conf"
}

running() { pgrep -f "^(/usr/sbin/)?(slurmctld|slurmd|munged) .*$place/"; }

stop() {
    grep -qs '^ClusterName=gossamer$' "$conf" || return 0 # not ours
    scancel --user="$(id -un)" 2>/dev/null || true
    tries=0
    while [ "$tries" -lt 60 ] && [ -n "$(squeue -h 2>/dev/null)" ]; do # jobs save their state
        tries=$((tries + 1))
        sleep 1
    done
    tries=0
    while pids=$(running); do
        tries=$((tries + 1))
        if [ "$tries" -gt 20 ]; then kill -KILL $pids; else kill $pids 2>/dev/null || true; fi
        sleep 1
    done
    rm -rf "$place"
}

case "${1:-}" in
    install | start | stop) "$1" ;;
    status) sinfo && ready ;;
    *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
