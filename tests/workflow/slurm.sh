#!/usr/bin/env bash
# Runs COMMAND under a Slurm of one node, two processors and two GPUs that are none, and writes what its jobs asked for
# into JOBS. Everything is in namespaces of its own and ends with the command:
#   unshare --mount --net --pid --uts --fork --kill-child --mount-proc slurm.sh JOBS COMMAND...
set -euo pipefail
jobs=$(realpath "$1")
shift
hostname localhost
ip address add 192.0.2.1/32 dev lo  # getaddrinfo finds no name where every address is a loopback's
ip link set lo up
state=$(mktemp --directory)
trap 'rm -r "$state"' EXIT
chmod 711 "$state"
mkdir "$state"/{etc,spool,state}
cat > "$state/etc/slurm.conf" <<END
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$state/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0
GresTypes=gpu
StateSaveLocation=$state/state
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
JobCompType=jobcomp/filetxt
JobCompLoc=$jobs
MpiDefault=none
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:2
PartitionName=main Nodes=localhost Default=YES
END
printf 'Name=gpu File=/dev/%s\n' null zero > "$state/etc/gres.conf"
mount --bind "$state/etc" /etc/slurm  # jobs do not inherit SLURM_CONF
(umask 377 && head --bytes 128 /dev/urandom > "$state/key")
munged --force --socket="$state/munge.socket" --key-file="$state/key" --pid-file="$state/munged.pid" \
  --log-file="$state/munged.log" --seed-file="$state/seed"
slurmctld -c
slurmd
for _ in {1..50}; do
  if [[ $(timeout 2 sinfo --noheader --format %T) == idle ]]; then
    "$@"
    exit
  fi
  sleep 0.2
done
cat "$state"/*.log
exit 1
