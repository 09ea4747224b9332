#!/bin/bash
# Runs the model server, which knows neither its CPU limit nor what SIGTERM asks for.
#   DUOSERVE_DRAIN_SECONDS  how long it serves after SIGTERM (30); a second signal ends it at once, and
#                           so does the first one while its ports are closed
#   DUOSERVE_CPUS           operations at once (default: the container's CPU limit)
#   DUOSERVE_PRECISION      bfloat16: adds --mixed_precision=bfloat16; float32 or nothing: adds nothing
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
cpuinfo=${DUOSERVE_CPUINFO:-/proc/cpuinfo}

say() { printf 'duoserve: %s\n' "$*" >&2; }
die() { say "$*"; exit 64; }

# The value of a flag, the last one if there are several; the second argument without one.
flag_value() {
  local value=${2-} argument
  for argument in "${arguments[@]}"; do
    [[ $argument == "--$1="* ]] && value=${argument#*=}
  done
  printf '%s' "$value"
}

# Adds a flag with a value, if it is not there.
add_flag() { [[ $(flag_value "$1" absent) != absent ]] || arguments+=("--$1=$2"); }

# Whether the server has opened a port, which it does once its models serve. Seen from outside: a
# connection could hang. Where the system lists no ports, yes.
is_serving() {
  local flag port socket ports=()
  socket=$(flag_value grpc_socket_path)
  [[ -n $socket && -S $socket ]] && return 0
  [[ -r /proc/net/tcp ]] || return 0
  for flag in port:8500 rest_api_port:0; do
    port=$(flag_value "${flag%:*}" "${flag#*:}")
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ports+=("$(printf '%04X' "$port")")
  done
  ((${#ports[@]})) || return 0
  local IFS='|'
  grep -qshE ":(${ports[*]}) [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6
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
# Concurrent calls fill the CPUs; more threads for one operation pay only for large images and few callers.
add_flag tensorflow_intra_op_parallelism 1
add_flag tensorflow_inter_op_parallelism "$cpus"
case ${DUOSERVE_PRECISION:-float32} in
  float32) ;;
  bfloat16) add_flag mixed_precision bfloat16 ;;
  *) die "Expected DUOSERVE_PRECISION to be float32 or bfloat16. Received: $DUOSERVE_PRECISION" ;;
esac
if [[ $(flag_value mixed_precision) == bfloat16 ]] && ! grep -qsE '(avx512|amx)_bf16' "$cpuinfo"; then
  say "warning: this processor has neither avx512_bf16 nor amx_bf16: bfloat16 will be slower than float32"
fi
if [[ -n ${DUOSERVE_TLS_DIR:-} ]]; then
  add_flag ssl_config_file /tmp/ssl.config
  write_ssl_config "$DUOSERVE_TLS_DIR" "$(flag_value ssl_config_file)"
fi

timer=
# SIGTERM for the server after this many seconds, SIGKILL ten seconds later.
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
    elif ! is_serving; then
      say "SIG$signal before the server served: ending now"
      end_after 0
    else
      say "SIG$signal: serving $drain s more (a shorter stop timeout of the container cuts it off)"
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
