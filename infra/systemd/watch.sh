#!/usr/bin/env bash
# Ends a worker that hangs, so that systemd starts another. After ten questions without an answer that it lives, it is asked to drain; one that hangs does
# not, and after ten more it is killed. One that drains, or whose queue does not answer, lives. Needs curl, and TOOLFLEET_HTTP_ADDR in the environment.
set -uo pipefail
failures=0
while sleep "${ASK_EVERY_S:-30}"; do
    if curl --silent --fail --max-time 5 --output /dev/null "http://$TOOLFLEET_HTTP_ADDR/health/live"; then
        failures=0
        continue
    fi
    failures=$((failures + 1))
    case $failures in
    10) echo "the worker does not answer that it lives; it is asked to drain" && systemctl kill --kill-whom=main --signal=SIGTERM toolfleet-worker ;;
    20) echo "the worker hangs; it is killed" && systemctl kill --signal=SIGKILL toolfleet-worker && failures=0 ;;
    esac
done
