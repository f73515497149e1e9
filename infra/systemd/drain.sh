#!/usr/bin/env bash
# Stops the worker when the Auto Scaling group or Spot is about to end this instance, then lets it end. Needs curl, the aws CLI, and
# LIFECYCLE_HOOK, AUTO_SCALING_GROUP and AWS_DEFAULT_REGION in the environment.
set -euo pipefail
metadata=${METADATA_URL:-http://169.254.169.254}/latest

look() {
    local token
    token=$(curl --silent --fail --max-time 2 --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token") || return 1
    curl --silent --fail --max-time 2 --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"
}

# `Terminated` is the state that the group wants; the instance is in Terminating:Wait meanwhile.
until [ "$(look autoscaling/target-lifecycle-state || true)" = Terminated ] || look spot/instance-action >/dev/null; do
    sleep "${LOOK_EVERY_S:-5}"
done
echo "this instance is about to end; the worker drains"
instance=$(look instance-id)
action=(--lifecycle-hook-name "$LIFECYCLE_HOOK" --auto-scaling-group-name "$AUTO_SCALING_GROUP" --instance-id "$instance")
# Ends when the worker has ended, after TOOLFLEET_DRAIN_MS at most. The hook waits as long as it gets heartbeats.
systemctl stop toolfleet-worker &
stop=$!
while sleep "${BEAT_EVERY_S:-60}" && kill -0 "$stop"; do
    aws autoscaling record-lifecycle-action-heartbeat "${action[@]}" || true
done >/dev/null 2>&1 &
beats=$!
wait "$stop"
kill "$beats" || true
# Fails where the hook does not wait, as after a Spot notice: the instance ends anyway.
aws autoscaling complete-lifecycle-action "${action[@]}" --lifecycle-action-result CONTINUE || echo "no lifecycle action waits"
systemctl disable --now toolfleet-drain
