#!/usr/bin/env bash
# A Slurm of one node, to see what a real queue does with recot's jobs. All it writes lies in the folder that is named:
#
#   apt-get install slurm-wlm munge
#   tests/device/slurm.sh start /tmp/slurm
#   SLURM_CONF=/tmp/slurm/slurm.conf python -m pytest tests/test_real_slurm.py
#   tests/device/slurm.sh stop /tmp/slurm
#
# Only this machine is listened to. Slurm keeps no accounts here, so sacct has nothing to say.
set -euo pipefail
[ $# = 2 ] || { echo "tests/device/slurm.sh start DIR | stop DIR" >&2; exit 2; }
mkdir -p "$2"
dir=$(cd "$2" && pwd) host=$(hostname -s) me=$(id -un)
PATH=$PATH:/usr/sbin
if [ "$1" = stop ]; then
  for name in slurmd slurmctld munged; do
    [ ! -s "$dir/$name.pid" ] || kill "$(cat "$dir/$name.pid")" || true
  done
  exit 0
fi
chmod 755 "$dir"
mkdir -p "$dir/state" "$dir/spool"
(umask 077; head -c 1024 /dev/urandom >"$dir/munge.key")
cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk "/MemTotal/ {print int(\$2 / 2048)}" /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
  --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
export SLURM_CONF="$dir/slurm.conf"
slurmctld
slurmd
while [ $SECONDS -lt 60 ]; do
  if timeout 10 sinfo --noheader --states=idle 2>/dev/null | grep -q idle && timeout 10 srun --ntasks=1 true; then
    exit 0
  fi
  sleep 0.5
done
echo "the node does not come up, or runs nothing; see $dir/slurmctld.log and $dir/slurmd.log" >&2
exit 1
