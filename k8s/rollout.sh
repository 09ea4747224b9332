#!/bin/sh
# Runs one command of the rollout as a job in the cluster, shows its output and ends with its exit code:
#   k8s/rollout.sh run 8        k8s/rollout.sh rollback        k8s/rollout.sh status
# For a person or a pipeline. Needs the component `rollout` in the cluster, and the right to get
# cronjobs, create and get jobs, list pods and get their logs. May be set: NAMESPACE (duoserve),
# CONTEXT (of kubectl). Interrupted, it leaves the job running: `status` shows where it is.
set -eu

if [ $# -eq 0 ]; then
  sed -n 's/^# \{0,1\}//;2,6p' "$0" >&2
  exit 2
fi

ask() { kubectl ${CONTEXT:+--context="$CONTEXT"} --namespace="${NAMESPACE:-duoserve}" "$@"; }

# The command replaces the template's `status`; the other words follow it. The job gets no owner: the
# CronJob's history limit would delete it, with its log.
patch='{"op":"add","path":"/metadata/ownerReferences","value":[]}' place=0 operation=replace
for word; do
  case $word in
    *[!A-Za-z0-9._=/:-]*) echo "error: Expected words of letters, digits and ._=/:-. Received: $word" >&2; exit 2 ;;
  esac
  path=/spec/template/spec/containers/0/args/$place
  patch="$patch,{\"op\":\"$operation\",\"path\":\"$path\",\"value\":\"$word\"}"
  place=$((place + 1)) operation=add
done

job=duoserve-rollout-$1-$(date -u +%Y%m%d-%H%M%S)
ask create job "$job" --from=cronjob/duoserve-rollout --dry-run=client -o json |
  kubectl patch --local -f - --type=json -p "[$patch]" -o json |
  ask create -f -

# When the log breaks off, the job still runs.
ask logs --follow "job/$job" --pod-running-timeout=15m || true
while :; do
  code=$(ask get pods -l "batch.kubernetes.io/job-name=$job" \
    -o 'jsonpath={.items[*].status.containerStatuses[0].state.terminated.exitCode}')
  [ -z "$code" ] || exit "$code"
  state=$(ask get job "$job" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}')
  case $state in
    *Failed*) echo "error: Expected job $job to run. Received: kubectl describe job $job" >&2; exit 1 ;;
  esac
  sleep 5
done
