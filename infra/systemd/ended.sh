#!/usr/bin/env bash
# Tells the agent of CloudWatch that the worker ended by itself, as the metric lost_workers. systemd runs it after the worker, and says how that ended.
set -euo pipefail
if [ "${SERVICE_RESULT:-success}" = success ] || [ -z "${TOOLFLEET_METRIC_AGENT:-}" ]; then
    exit 0
fi
fleet=$TOOLFLEET_METRIC_LINES
printf '{"_aws":{"Timestamp":%s000,"LogGroupName":"/toolfleet/%s/agent-metrics","CloudWatchMetrics":[{"Namespace":"toolfleet/%s","Dimensions":[["Fleet"]],"Metrics":[{"Name":"lost_workers","Unit":"Count"}]}]},"Fleet":"%s","lost_workers":1,"result":"%s"}' \
    "$(date +%s)" "$fleet" "$fleet" "$fleet" "$SERVICE_RESULT" >"/dev/udp/${TOOLFLEET_METRIC_AGENT%:*}/${TOOLFLEET_METRIC_AGENT##*:}"
