"""Writes toolfleet.json, a dashboard of Grafana: `python3 infra/grafana/generate.py`. With --check it says whether the file is up to date.

The metrics are those of docs/reference/metrics.md as Prometheus has them; infra/checks compares each panel with that list.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).with_name("toolfleet.json")
WIDTH, HEIGHT = 8, 8


def rate(metric, by="", where=""):
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{where}[$__rate_interval]))"


def quantile(percent, histogram, by="le"):
    return f"histogram_quantile({percent / 100}, {rate(histogram + '_bucket', by)})"


# Title, unit, and each line's expression and legend. Figures of the whole fleet are the same in each worker, so the greatest is taken.
PANELS = [
    ("Wanted slots and those that there are", "short", [("max(toolfleet_fleet_wanted_slots)", "wanted"), ("max(toolfleet_fleet_slots)", "there")]),
    ("Work that runs or could run", "s", [("max(toolfleet_fleet_runnable_seconds)", "runs or waits"), ("max(toolfleet_fleet_waiting_seconds)", "waits")]),
    ("Longest wait of messages by queue", "ms", [("max by (messaging_destination_name) (toolfleet_queue_oldest_ms)", "{{messaging_destination_name}}")]),
    ("Workers, and those that one tenant fills", "short", [("count(toolfleet_slots)", "workers"), ("sum(toolfleet_flooded)", "filled by one tenant")]),
    ("Calls in hand", "short", [("sum(toolfleet_calls_in_hand)", "calls")]),
    ("Messages received", "ops", [(rate("messaging_client_consumed_messages_total"), "messages"), (rate("toolfleet_receives_total"), "receives")]),
    ("Calls ended by outcome", "ops", [(rate("toolfleet_calls_ended_total", "toolfleet_outcome"), "{{toolfleet_outcome}}")]),
    ("Calls ended otherwise by code", "ops", [(rate("toolfleet_calls_ended_total", "toolfleet_code", '{toolfleet_code!=""}'), "{{toolfleet_code}}")]),
    ("Calls requeued by reason", "ops", [(rate("toolfleet_calls_requeued_total", "toolfleet_reason"), "{{toolfleet_reason}}")]),
    ("From receiving to deleting", "s", [(quantile(p, "messaging_process_duration_seconds"), f"p{p}") for p in (50, 95, 99)]),
    ("Attempts at servers, p95", "s", [(quantile(95, "mcp_client_operation_duration_seconds", "le, toolfleet_server"), "{{toolfleet_server}}")]),
    ("Failed attempts", "ops", [(rate("mcp_client_operation_duration_seconds_count", "toolfleet_server, error_type", '{error_type!=""}'), "{{toolfleet_server}} {{error_type}}")]),
    ("Breakers: 1 half-open, 2 open", "short", [("max by (toolfleet_server) (toolfleet_server_breaker)", "{{toolfleet_server}}"), ("sum(toolfleet_breakers_open)", "all, in all workers")]),
    ("Limits that make calls wait", "ops", [(rate("toolfleet_limits_met_total", "toolfleet_limit, toolfleet_waits_in"), "{{toolfleet_limit}} in the {{toolfleet_waits_in}}"), (rate("toolfleet_limits_missed_turns_total"), "missed turns"), (rate("toolfleet_limits_sent_late_total"), "sent late")]),
    ("Late answers, groups decided", "ops", [(rate("toolfleet_late_answers_total"), "late answers"), (rate("toolfleet_groups_decided_total", "toolfleet_result"), "groups: {{toolfleet_result}}")]),
    ("Requests to AWS by operation", "ops", [(rate("toolfleet_aws_requests_total", "rpc_method"), "{{rpc_method}}")]),
    ("Capacity units of DynamoDB", "ops", [(rate("toolfleet_aws_capacity_units_total", "toolfleet_table, toolfleet_units"), "{{toolfleet_table}} {{toolfleet_units}}")]),
    ("Writes in a request", "short", [(f"{rate('toolfleet_store_writes_total')} / {rate('toolfleet_store_requests_total')}", "writes")]),
    ("Stored answers", "ops", [(rate("toolfleet_cache_calls_total", "toolfleet_cache"), "{{toolfleet_cache}}")]),
    ("Calls in a batch", "short", [(f"{rate('toolfleet_batch_size_sum')} / {rate('toolfleet_batch_size_count')}", "calls")]),
    ("Lag of the run queue", "µs", [("max(toolfleet_run_queue_lag_us)", "worst worker")]),
    ("Memory of caches", "bytes", [("sum(toolfleet_cache_bytes)", "answers"), ("sum(toolfleet_schemas_bytes)", "schemas")]),
    ("Programs of stdio servers", "short", [("sum(toolfleet_stdio_programs)", "programs")]),
    ("Age of what operators have set", "ms", [("max(toolfleet_control_age_ms)", "worst worker")]),
    ("Catalogs", "short", [("max(toolfleet_catalog_taken_total)", "taken"), ("max(toolfleet_catalog_refused_total)", "refused")]),
]


def panel(number, title, unit, lines):
    source = {"type": "prometheus", "uid": "${datasource}"}
    row, column = divmod(number, 24 // WIDTH)
    return {
        "id": number + 1, "type": "timeseries", "title": title, "datasource": source,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": source, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(lines)
        ],
    }


def dashboard():
    return {
        "uid": "toolfleet", "title": "toolfleet", "schemaVersion": 39, "tags": ["toolfleet"], "editable": True, "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]},
        "panels": [panel(number, *of) for number, of in enumerate(PANELS)],
    }


def main():
    text = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("FAIL  infra/grafana/toolfleet.json is not what generate.py writes; run python3 infra/grafana/generate.py")
    else:
        print(f"ok    infra/grafana: {len(PANELS)} panels")


if __name__ == "__main__":
    main()
