#!/usr/bin/env python3
"""Every alert fires on its trouble, alone, after its time and not before, for the installation that has it: another one stands in a namespace of
its own under the same Prometheus, and is well. Two healthy ones fire none. No sentence of an alert has a hole in it. Runs promtool.

  alerts.py
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE, ELSEWHERE = "workspace-operator", "team-a"
JOB = 'job="workspace-operator",namespace="NAMESPACE"'
HOUR, DAY = 3600, 86400
FOREVER = 20_000  # samples of one a minute

# What the two replicas of one installation show when all is well: a leads, b stands by. One value a minute, promtool's notation.
HEALTHY = {
    f'workspace_operator_heartbeat_slots{{{JOB},pod="a"}}': "20",
    f'workspace_operator_heartbeat_slots{{{JOB},pod="b"}}': "20",
    f'leader_election_master_status{{{JOB},pod="a",name="workspace-operator"}}': "1",
    f'leader_election_master_status{{{JOB},pod="b",name="workspace-operator"}}': "0",
    f'informer_seconds_since_contact{{{JOB},pod="a",informer="workspaces"}}': "20",
    f'informer_synced{{{JOB},pod="a",informer="workspaces"}}': "1",
    f'informer_quarantined{{{JOB},pod="a",informer="workspaces"}}': "0",
    f'process_resident_memory_bytes{{{JOB},pod="a"}}': "30000000",
    f'process_memory_limit_bytes{{{JOB},pod="a"}}': "134217728",
    f'workspace_operator_certificate_end_seconds{{{JOB},pod="a"}}': f"{60 * DAY}",
    f'workspace_operator_authority_end_seconds{{{JOB},pod="a"}}': f"{3000 * DAY}",
    f'workqueue_longest_running_processor_seconds{{{JOB},pod="a",name="workspace"}}': "2",
    f'controller_runtime_reconcile_total{{{JOB},pod="a",controller="workspace",result="success"}}': "0+60x{n}",
    f'controller_runtime_reconcile_errors_total{{{JOB},pod="a",controller="workspace"}}': "0+1x{n}",
    f'rest_client_requests_total{{{JOB},pod="a",code="200",method="GET"}}': "0+60x{n}",
    f'rest_client_requests_total{{{JOB},pod="a",code="503",method="GET"}}': "0+1x{n}",
    f'workspace_operator_sweep_examined_time_seconds{{{JOB},pod="a"}}': "0+60x{n}",
    f'workspace_operator_sweep_examined_time_seconds{{{JOB},pod="b"}}': "0",
    f'workspace_operator_resync_seconds{{{JOB},pod="a"}}': "300",
    f'workspace_operator_resync_seconds{{{JOB},pod="b"}}': "300",
    f'workspace_operator_declared_plugins{{{JOB},pod="a",ready="True"}}': "3",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Online",ready="True"}}': "20",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Online",ready="False"}}': "0",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Online",ready="Unknown"}}': "0",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Provisioning",ready="Unknown"}}': "1",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Suspended",ready="Unknown"}}': "2",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="AwaitingAgent",ready="Unknown"}}': "0",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Failed",ready="False"}}': "0",
    f'workspace_operator_workspaces{{{JOB},pod="a",state="Offline",ready="Unknown"}}': "0",
    f'workspace_operator_stalled{{{JOB},pod="a",kind="Workspace"}}': "0",
    f'workspace_operator_pending_restarts{{{JOB},pod="a",ready="Unknown",state="Online"}}': "0",
    f'workspace_operator_pending_restarts{{{JOB},pod="a",ready="Unknown",state="Suspended"}}': "0",
    f'workspace_operator_oldest_pending_restart_seconds{{{JOB},pod="a"}}': "0",
    f'workspace_operator_settings_rejected{{{JOB},pod="a"}}': "0",
    f'workspace_operator_reviews_forbidden{{{JOB},pod="a"}}': "0",
}

ENDS = 30  # The minute after which a series with the change None comes no more.

# Alert, the series (by a part of its name) that show its trouble from the first minute on, minutes until it must fire.
CASES = [
    ("WorkspaceOperatorDown", {"": None}, ENDS + 6),
    ("WorkspaceOperatorNoLeader", {f'leader_election_master_status{{{JOB},pod="a"': "0"}, 3),
    ("WorkspaceOperatorTwoLeaders", {"leader_election_master_status": "1"}, 2),
    ("WorkspaceOperatorCacheStale", {"informer_seconds_since_contact": "0+60x{n}"}, 10),
    ("WorkspaceOperatorCacheStale", {"informer_synced": "0"}, 6),
    ("WorkspaceOperatorMemoryHigh", {"process_resident_memory_bytes": "120000000"}, 11),
    ("WorkspaceOperatorMemoryHigh", {"process_memory_limit_bytes": "33554432"}, 11),
    ("WorkspaceOperatorCertificateEndsSoon", {"certificate_end": f"{4 * DAY}"}, 31),
    ("WorkspaceOperatorCertificateEndsSoon", {"authority_end": f"{80 * DAY}"}, 31),
    ("WorkspaceOperatorQueueStuck", {"longest_running": "0+60x{n}"}, 22),
    ("WorkspaceOperatorReconcileErrors", {"reconcile_errors_total": "0+20x{n}"}, 17),
    ("WorkspaceOperatorApiErrors", {'code="503"': "0+20x{n}"}, 17),
    ("WorkspaceOperatorSweepEmpty", {"sweep_examined_time": "7"}, 52),
    ("WorkspaceOperatorSweepEmpty", {"sweep_examined_time": "7", "resync_seconds": "3600"}, 162),
    ("WorkspaceOperatorQuarantine", {"quarantined": "2"}, 11),
    ("WorkspaceOperatorSettingsRejected", {"settings_rejected": "1"}, 11),
    ("WorkspaceOperatorReviewsForbidden", {"reviews_forbidden": "1"}, 11),
    ("WorkspacesFailed", {'state="Failed"': "2"}, 11),
    ("WorkspacesOffline", {'state="Offline"': "1"}, 11),
    ("WorkspacesAwaitingAgent", {'state="AwaitingAgent"': "1"}, 31),
    ("WorkspacesNotReady", {'state="Online",ready="False"': "1"}, 31),
    ("WorkspacesNotReady", {'state="Online",ready="Unknown"': "2", "pending_restarts": "1"}, 31),
    # What another one owes, whose agent does not report, does not make up for it.
    ("WorkspacesNotReady", {'state="Online",ready="False"': "1", 'ready="Unknown",state="Suspended"': "1"}, 31),
    ("WorkspaceObjectsStalled", {"workspace_operator_stalled": "1"}, 16),
    ("WorkspaceRestartsPending", {"pending_restarts": "1", "oldest_pending_restart": f"{HOUR}", 'state="Online",ready="Unknown"': "1"}, 187),
]

# What looks like one of these troubles and is none: no alert within four hours.
HARMLESS = [
    ("much memory, without a limit", {"process_resident_memory_bytes": "900000000", "process_memory_limit_bytes": "+Inf"}),
    ("much memory, with a limit for it", {"process_resident_memory_bytes": "300000000", "process_memory_limit_bytes": "402653184"}),
    ("a sweep in three hours", {"sweep_examined_time": "7", "resync_seconds": "10800"}),
    # At every moment somebody owes a restart, and nobody for longer than an hour.
    ("restarts that take turns", {"pending_restarts": "1", 'state="Online",ready="Unknown"': "1", "oldest_pending_restart": "1+60x{n}"}),
]


# Nobody is scraped at all, or never was: there is no namespace to name.
NOBODY = ("WorkspaceOperatorDown", 6)


def series(changes):
    """Of two installations; the changes are of one."""
    result = []
    for namespace in (HERE, ELSEWHERE):
        for name, values in HEALTHY.items():
            length = FOREVER
            for part, other in changes.items() if namespace == HERE else []:
                if part in name:
                    values, length = (values, ENDS) if other is None else (other, FOREVER)
            if "{n}" not in values:
                values += "+0x{n}"
            values = values.format(n=length) + (" stale" if length == ENDS else "")
            result.append({"series": name.replace("NAMESPACE", namespace), "values": values})
    return result


def at(minutes, alerts, namespace=HERE):
    labels = f',namespace="{namespace}"' if namespace else ""
    return {"expr": 'count by (alertname, namespace) (ALERTS{alertstate="firing"})', "eval_time": f"{minutes}m",
            "exp_samples": [{"labels": f'{{alertname="{alert}"{labels}}}', "value": 1} for alert in alerts]}


def promtool(rules, tests):
    """The output of `promtool test rules`, and whether all is as the tests say."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
        for argv in (["promtool", "check", "rules", "rules.yaml"], ["promtool", "test", "rules", "tests.yaml"]):
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                return f"{' '.join(argv)}:\n{done.stdout}{done.stderr}", False
    return "", True


def said(rules, alert, given, fires):
    """The annotations of a firing alert, which promtool shows when nothing is expected."""
    test = {"interval": "1m", "input_series": given, "alert_rule_test": [{"eval_time": f"{fires}m", "alertname": alert, "exp_alerts": []}]}
    text = promtool(rules, [test])[0]
    return re.findall(r'(?:summary|description)="((?:[^"\\]|\\.)*)"', text.split("got:")[-1])


def main():
    rules = yaml.safe_load((ROOT / "manifests/monitoring/rules.yaml").read_text())["spec"]
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    untested = set(alerts) - {case[0] for case in CASES}
    if untested:
        sys.exit(f"alerts: no case for {', '.join(sorted(untested))}")
    tests = [{"interval": "1m", "name": "two installations are well", "input_series": series({}), "promql_expr_test": [at(10, []), at(240, [])]},
             {"interval": "1m", "name": "nobody", "input_series": [], "promql_expr_test": [at(4, []), at(NOBODY[1], [NOBODY[0]], "")]}]
    tests += [{"interval": "1m", "name": name, "input_series": series(changes), "promql_expr_test": [at(minutes, []) for minutes in (30, 121, 240)]}
              for name, changes in HARMLESS]
    for alert, changes, fires in CASES:
        minutes = sum(int(n) * {"m": 1, "h": 60}[unit] for n, unit in re.findall(r"(\d+)([mh])", alerts[alert]["for"]))
        quiet = max(minutes - 1, 0) + (ENDS if None in changes.values() else 0)
        tests.append({"interval": "1m", "name": alert, "input_series": series(changes), "promql_expr_test": [at(quiet, []), at(fires, [alert])]})
    text, good = promtool(rules, tests)
    if not good:
        sys.exit(f"alerts: {text}")
    for alert, given, fires in [(alert, series(changes), fires) for alert, changes, fires in CASES] + [(NOBODY[0], [], NOBODY[1])]:
        sentences = said(rules, alert, given, fires)
        # A label that the result has not is printed as nothing.
        holes = [sentence for sentence in sentences if re.search(r"  | [.,;:]|^ | $|<no value>", sentence)]
        if holes or not sentences:
            sys.exit(f"alerts: {alert} says: {holes or 'nothing'}")
    print(f"alerts: {len(alerts)} alerts, {len(tests)} cases passed")


if __name__ == "__main__":
    main()
