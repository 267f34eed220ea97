"""Holds alerts and dashboards to what the operator really exports: every metric that they name is in a real scrape, and so is every label that they
select, group or print by. check.py runs it.
"""
import json
import pathlib
import re
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request

import yaml

import alerts

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "manifests/monitoring/rules.yaml"
DASHBOARDS = ROOT / "manifests/monitoring/dashboards"
RUNBOOKS = ROOT / "docs/runbooks"
# What Prometheus adds to each series that a PodMonitor finds.
OF_THE_TARGET = {"job", "namespace", "pod", "container", "endpoint", "instance"}
METRIC = re.compile(r"\b([a-z]+_[a-z0-9_]+)\b(?!\s*\()(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def label_list(text):
    return {label.strip() for label in text.split(",") if label.strip()}


def body_of(expression, start):
    """The text inside of the parenthesis that opens at or after `start`."""
    begin = expression.index("(", start)
    depth = 0
    for position in range(begin, len(expression)):
        depth += {"(": 1, ")": -1}.get(expression[position], 0)
        if depth == 0:
            return expression[begin + 1:position]
    raise ValueError(f"unbalanced: {expression}")


def metrics_in(expression):
    """(name, labels of its selector), without the lists of by() and on()."""
    for match in METRIC.finditer(GROUPED.sub(" ", expression)):
        yield match[1], set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", match[2] or ""))


class Named:
    """One expression and the labels that the text beside it prints."""

    def __init__(self, place, expression, printed):
        self.place, self.expression, self.printed = place, expression, printed

    def wrong(self, exported):
        """Sentences; `exported` is {metric: its labels}. A metric that is not there is somebody else's finding."""
        def labels(name):
            return exported.get(name, set()) | OF_THE_TARGET

        for name, selected in metrics_in(self.expression):
            for label in sorted(selected - labels(name)) if name in exported else []:
                yield f"{self.place} selects {name} by {label}, which it has not"
        grouped = set()
        for match in GROUPED.finditer(self.expression):
            wanted = label_list(match[1])
            grouped |= wanted
            inside = body_of(self.expression, match.end()) if match[0].startswith("by") else self.expression
            for name, _ in metrics_in(inside):
                for label in sorted(wanted - labels(name)) if name in exported else []:
                    yield f"{self.place} groups {name} by {label}, which it has not"
        aggregated = re.search(r"\b(?:sum|max|min|count|avg)\b", self.expression)
        for label in sorted(self.printed):
            there = label in grouped if aggregated else all(label in labels(name) for name, _ in metrics_in(self.expression))
            if not there:
                yield f"{self.place} prints {label}, which its result has not"


def all_alerts():
    return [rule for group in yaml.safe_load(RULES.read_text())["spec"]["groups"] for rule in group["rules"]]


def check_alerts(check):
    found = all_alerts()
    for alert in found:
        page = RUNBOOKS / f"{alert['alert']}.md"
        check(alert["annotations"]["runbook_url"] == str(page.relative_to(ROOT)) and page.is_file(), f"{alert['alert']} has no runbook")
        check(page.is_file() and all(f"## {part}" in page.read_text() for part in ("What it means", "Look", "Mend")), f"{page.name} lacks a part")
        check(alert["labels"]["severity"] in ("critical", "warning", "info"), f"{alert['alert']} has no severity")
        check(alert["annotations"].get("summary") and alert["annotations"].get("description"), f"{alert['alert']} says too little")
        text = " ".join(alert["annotations"].values())
        yield Named(f"alert {alert['alert']}", alert["expr"], set(re.findall(r"\$labels\.([a-z_]+)", text)))
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    for page in RUNBOOKS.glob("*.md"):
        for command in re.findall(r"`(kubectl [^`]* logs -l [^`]*)`", page.read_text()):
            check("--tail" in command, f"{page.name}: by label kubectl shows the last 10 lines of a log only; say --tail: {command}")
    check(pages == {alert["alert"] for alert in found}, f"runbooks without an alert: {pages - {a['alert'] for a in found}}")
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (\w+) \| (.*) \|$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    wanted = [(a["alert"], a["alert"], a["labels"]["severity"], a["for"], a["annotations"]["summary"].strip()) for a in found]
    check(rows == wanted, f"docs/runbooks/README.md has not one row an alert, in their order: {sorted(set(rows) ^ set(wanted))}")


def check_dashboards(check):
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        check(board["title"] and board["uid"] and len(board["panels"]) > 5, f"{path.name} is no dashboard")
        kinds = {variable["type"] for variable in board["templating"]["list"]}
        check("datasource" in kinds, f"{path.name} has no data source variable")
        check("namespace" in {variable["name"] for variable in board["templating"]["list"]}, f"{path.name} has no namespace variable")
        for panel in board["panels"]:
            for target in panel["targets"]:
                printed = set(re.findall(r"\{\{\s*([a-z_]+)\s*\}\}", target["legendFormat"]))
                one_of_many = 'job="$job",namespace=~"$namespace"'
                check(target["expr"].count(one_of_many) == len(list(metrics_in(target["expr"]))),
                      f"{path.name} panel {panel['title']} does not select by {one_of_many}")
                yield Named(f"{path.name} panel {panel['title']}", target["expr"], printed)


def scrape(check, url, ca):
    """{metric: the labels of its series}."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    with urllib.request.urlopen(url + "/metrics", timeout=10, context=context) as answer:
        text = answer.read().decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    grave = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower() and "while linting" in line]
    check(not grave, f"promtool check metrics of {url}: {grave}")
    found = {}
    for name, labels in re.findall(r"^([a-z_0-9]+)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"([a-z_]+)=\"", labels))
    return found


WORKSPACE = """
apiVersion: molecule.ai/v1alpha1
kind: Workspace
metadata: {{name: scraped, namespace: default}}
spec:
  runtime: sample
  box: {{type: Directory, directory: {{path: {box}, run: Operator}}}}
  plugins: [{{name: greeter, source: "local://greeter"}}]
"""


class Processes:
    """Two real ones: one with work (the embedded one), one as in a cluster."""

    def __init__(self, folder):
        self.started, self.folder = [], folder

    def up(self, program, kubectl, settings):
        """`settings` are those of the one as in a cluster: a text that it must take."""
        folder = self.folder
        (folder / "box/configs").mkdir(parents=True)
        plugins = ROOT / "manifests/samples/quickstart/plugins"
        (folder / "settings.yaml").write_text(
            f"sources: {{localRoot: {plugins}, allowUnpinned: true}}\nruntimes: {{sample: {{command: [/bin/sleep, '1000']}}}}\n")
        self.start("dev", [program, "dev", "--data-dir", folder / "api", "--settings", folder / "settings.yaml"])
        self.wait("dev", "ready in")
        self.embedded = re.search(r"operator: (\S+)", self.text("dev"))[1]
        kubeconfig = re.search(r"KUBECONFIG=(\S+)", self.text("dev"))[1]
        subprocess.run([kubectl, "--kubeconfig", kubeconfig, "apply", "-f", "-"], input=WORKSPACE.format(box=folder / "box"), text=True, check=True,
                       capture_output=True)
        (folder / "cluster.yaml").write_text(settings)
        self.start("run", [program, "run", "--kubeconfig", kubeconfig, "--namespace", "nobody", "--data-dir", folder / "run", "--tls", "--http-port", "0",
                           "--settings", folder / "cluster.yaml"])
        self.cluster = self.wait("run", r"url=\"?(https://[\d.:]+)")[1]
        self.ca = str(folder / "run/ca.crt")

    def start(self, name, arguments):
        with open(self.folder / f"{name}.log", "w") as log:
            self.started.append(subprocess.Popen([str(a) for a in arguments], stdout=log, stderr=log))

    def text(self, name):
        return (self.folder / f"{name}.log").read_text()

    def wait(self, name, pattern, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, self.text(name)):
                return found
            if self.started[-1].poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"check: {name} did not say {pattern}:\n{self.text(name)}")

    def scrape(self, check):
        found = scrape(check, self.embedded, None)
        for name, labels in scrape(check, self.cluster, self.ca).items():
            found.setdefault(name, set()).update(labels)
        return found

    def stop(self):
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(20)


def exported_by(check, start, wanted):
    """What the two processes export, once that is all of `wanted`, or after a minute."""
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(pathlib.Path(folder))
        try:
            processes.up(*start)
            end = time.monotonic() + 60
            while True:
                exported = processes.scrape(check)
                if not wanted - set(exported) or time.monotonic() > end:
                    return exported
                time.sleep(0.2)
        finally:
            processes.stop()


def check_reference(check, exported):
    """docs/reference/metrics.md has every metric that is exported, by its name or as one of a family, and of our own no other. (A retry of a
    request has its first series when it happens.)"""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE)
    said = {name for row in rows for name in re.findall(r"`([a-z_]+\*?)`", row)}
    families = tuple(name[:-1] for name in said if name.endswith("*"))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    for name in sorted(bare - said):
        check(name.startswith(families), f"docs/reference/metrics.md does not name {name}")
    for name in sorted(said - bare):
        check(not name.startswith(("workspace_operator_", "leader_election_")), f"docs/reference/metrics.md names {name}, which is in no scrape")


def check_monitoring(check, *start):
    """`start` is what Processes.up needs: program, kubectl, settings."""
    named = [*check_alerts(check), *check_dashboards(check)]
    wanted = {}
    for one in named:
        for name, _ in metrics_in(one.expression):
            wanted.setdefault(name, one.place)
    exported = exported_by(check, start, set(wanted))
    for name in sorted(set(wanted) - set(exported)):
        check(False, f"{wanted[name]} names {name}, which is in no scrape")
    check_reference(check, exported)
    for one in named:
        for sentence in one.wrong(exported):
            check(False, sentence)
    # The series that the alerts are tried with, too.
    for text in alerts.HEALTHY:
        for name, labels in metrics_in(text):
            foreign = labels - exported.get(name, set()) - OF_THE_TARGET
            check(not foreign, f"alerts.py makes up the labels {sorted(foreign)} of {name}")
    return wanted
