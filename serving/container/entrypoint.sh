#!/bin/bash
# Runs the model server, which knows neither its CPU limit nor what SIGTERM asks for.
#   DUOSERVE_DRAIN_SECONDS  how long SIGTERM lets it go on serving (30); a second signal ends it at once
#   DUOSERVE_CPUS           CPUs for its threads (default: the container's limit)
#   DUOSERVE_TLS_DIR        folder with tls.crt, tls.key and ca.crt: gRPC over mutual TLS
# Exit code: 0 after a drain, else the server's own (128 + signal when a signal ended it).
set -u

# First, and never replaced: until there is a trap, PID 1 is deaf, and bash 5.1 drops a signal that
# comes while it sets another one. They only count; the loop at the end acts.
signals=0 signal=
trap 'signals=$((signals + 1)) signal=TERM' TERM
trap 'signals=$((signals + 1)) signal=INT' INT
trap : USR1

server=${DUOSERVE_SERVER:-/usr/bin/tensorflow_model_server}
drain=${DUOSERVE_DRAIN_SECONDS:-30}
cgroup=${DUOSERVE_CGROUP:-/sys/fs/cgroup}

say() { printf 'duoserve: %s\n' "$*" >&2; }
die() { say "$*"; exit 64; }

has_flag() {
  local wanted=$1 argument
  shift
  for argument; do
    [[ $argument == "--$wanted="* ]] && return 0
  done
  return 1
}

# CPUs of the cgroup's quota, rounded up; all of them without one. Both versions of cgroups.
cpu_limit() {
  local quota=max period=0
  if [[ -r $cgroup/cpu.max ]]; then
    read -r quota period <"$cgroup/cpu.max"
  elif [[ -r $cgroup/cpu/cpu.cfs_quota_us ]]; then
    read -r quota <"$cgroup/cpu/cpu.cfs_quota_us"
    read -r period <"$cgroup/cpu/cpu.cfs_period_us"
  fi
  if [[ $quota =~ ^[1-9][0-9]*$ && $period =~ ^[1-9][0-9]*$ ]]; then
    echo $(((quota + period - 1) / period))
  else
    nproc
  fi
}

# The server takes PEM contents in a text proto, not files.
write_ssl_config() {
  local folder=$1 target=$2 name
  for name in tls.key tls.crt ca.crt; do
    [[ -s $folder/$name ]] || die "Expected $folder/$name. Received: nothing readable"
  done
  (
    umask 077
    key=$(<"$folder/tls.key") cert=$(<"$folder/tls.crt") ca=$(<"$folder/ca.crt")
    printf 'server_key: "%s"\nserver_cert: "%s"\ncustom_ca: "%s"\nclient_verify: true\n' \
      "${key//$'\n'/\\n}\\n" "${cert//$'\n'/\\n}\\n" "${ca//$'\n'/\\n}\\n" >"$target"
  ) || die "Expected to write $target. Received: an error"
}

[[ $drain =~ ^[0-9]+$ ]] || die "Expected DUOSERVE_DRAIN_SECONDS to be whole seconds. Received: $drain"
cpus=${DUOSERVE_CPUS:-$(cpu_limit)}
[[ $cpus =~ ^[1-9][0-9]*$ ]] || die "Expected DUOSERVE_CPUS to be a number above 0. Received: $cpus"
[[ -f $server && -x $server ]] || die "Expected $server to be a program. Received: none"

arguments=("$@")
for flag in tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism; do
  has_flag "$flag" "$@" || arguments+=("--$flag=$cpus")
done
if [[ -n ${DUOSERVE_TLS_DIR:-} ]]; then
  target=/tmp/ssl.config
  for argument; do
    [[ $argument == --ssl_config_file=* ]] && target=${argument#*=}
  done
  write_ssl_config "$DUOSERVE_TLS_DIR" "$target"
  has_flag ssl_config_file "$@" || arguments+=("--ssl_config_file=$target")
fi

timer=
# SIGTERM for the server after so many seconds, SIGKILL ten seconds later.
end_after() {
  [[ -n $timer ]] && kill "$timer" 2>/dev/null
  (sleep "$1" && kill -TERM "$child" && sleep 10 && kill -KILL "$child") >/dev/null 2>&1 &
  timer=$!
}

if ((signals > 0)); then
  say "SIG$signal before the server started"
  exit 0
fi
"$server" "${arguments[@]}" &
child=$!
# A signal between the last look at the counter and `wait` would be seen only when the server
# ends by itself; this wakes `wait` up, so it is seen within two seconds.
(while sleep 2; do kill -USR1 $$ || exit; done) >/dev/null 2>&1 &
waker=$!

seen=0
while :; do
  now=$signals  # one more may come at any line below: it is for the next round
  if ((now > seen)); then
    if ((now > 1)); then
      say "SIG$signal again: ending now"
      end_after 0
    else
      say "SIG$signal: serving $drain s more"
      end_after "$drain"
    fi
    seen=$now
  fi
  wait "$child"
  kill -0 "$child" 2>/dev/null || break
done
# That `wait` may have been interrupted: only when the server is gone is the answer its own code.
wait "$child"
code=$?
kill "$waker" $timer 2>/dev/null
[[ -n $timer && $code -eq 143 ]] && code=0
say "server ended with code $code"
exit "$code"
