"""Reads the templates and manifests, and answers questions about them: parameters by their defaults, both branches of Fn::If."""

import functools
import json
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLOUDFORMATION = "infra/cloudformation"
KUBERNETES = "infra/kubernetes"
GRAFANA = "infra/grafana/toolfleet.json"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML in which a key that is written twice is an error, and dates stay texts."""


def _mapping(loader, node, deep=False):
    keys = [key.value for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {sorted(twice)[0]} is written twice")
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


@functools.lru_cache(maxsize=64)
def parse(text):
    """The document of a text. Nobody may change it: of 300 seeded mistakes each changes one text, and the others are read once."""
    return yaml.load(text, Loader=Loader)


@functools.lru_cache(maxsize=64)
def parse_all(text):
    return [document for document in yaml.load_all(text, Loader=Loader) if document]


class Template:
    """One CloudFormation template."""

    def __init__(self, name, text):
        self.name, self.text = name, text
        document = parse(text)
        self.parameters = document.get("Parameters", {})
        self.conditions = document.get("Conditions", {})
        self.resources = document.get("Resources", {})
        self.outputs = document.get("Outputs", {})

    def of_type(self, kind):
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r.get("Type") == kind}

    def default(self, name):
        return self.parameters.get(name, {}).get("Default")

    def value(self, value):
        """A scalar with parameters replaced by their defaults; other references stay recognisable."""
        if isinstance(value, dict) and len(value) == 1:
            (function, argument), = value.items()
            if function == "Ref":
                return self.default(argument) if argument in self.parameters else f"<{argument}>"
            if function == "Fn::GetAtt":
                return f"<{'.'.join(argument) if isinstance(argument, list) else argument}>"
            if function == "Fn::Sub":
                return self.substituted(argument)
            if function == "Fn::ImportValue":
                return f"<import {self.value(argument)}>"
        return value

    def substituted(self, argument):
        text, names = (argument, {}) if isinstance(argument, str) else argument
        def one(match):
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in names:
                return str(self.value(names[name]))
            if name in self.parameters:
                return str(self.default(name) if self.default(name) is not None else f"<{name}>")
            return f"<{name}>"
        return re.sub(r"\$\{([^}]+)\}", one, text)

    def each(self, value):
        """The members of a list, or of one value, with both branches of Fn::If, and without AWS::NoValue."""
        if isinstance(value, list):
            for item in value:
                yield from self.each(item)
        elif isinstance(value, dict) and set(value) == {"Fn::If"}:
            for branch in value["Fn::If"][1:]:
                yield from self.each(branch)
        elif value not in (None, {"Ref": "AWS::NoValue"}):
            yield value

    def statements(self):
        """Every statement of an identity policy: where it stands, the statement."""
        for name, resource in self.resources.items():
            properties, kind = resource.get("Properties", {}), resource.get("Type")
            documents = []
            if kind in ("AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::IAM::Policy"):
                documents.append(properties.get("PolicyDocument", {}))
            if kind == "AWS::IAM::Role":
                documents += [p.get("PolicyDocument", {}) for p in self.each(properties.get("Policies"))]
            for document in documents:
                for statement in self.each(document.get("Statement", [])):
                    yield f"{self.name} {name} {statement.get('Sid', '(no Sid)')}", name, statement


class Project:
    """All templates and manifests, some of them perhaps changed."""

    def __init__(self, changed=None):
        changed = changed or {}
        self.texts = {}
        for folder, ending in ((CLOUDFORMATION, "*.yaml"), (KUBERNETES, "**/*.yaml"), (KUBERNETES, "**/*.env"), ("infra/systemd", "*"), ("infra/grafana", "*.json")):
            for path in sorted((ROOT / folder).glob(ending)):
                name = str(path.relative_to(ROOT))
                self.texts[name] = changed.get(name) or path.read_text()
        self.templates = {
            pathlib.Path(name).stem: Template(pathlib.Path(name).name, text)
            for name, text in self.texts.items() if name.startswith(CLOUDFORMATION)
        }
        self.manifests = {
            name: parse_all(text)
            for name, text in self.texts.items() if name.startswith(KUBERNETES) and name.endswith(".yaml")
        }

    def manifest(self, kind, part=""):
        """The first manifest of that kind, of the folder `part` if one is named."""
        for name, documents in self.manifests.items():
            for document in documents if name.startswith(f"{KUBERNETES}/{part}") else []:
                if document.get("kind") == kind:
                    return name, document
        return None, {}

    def env(self, file="base/worker.env"):
        lines = self.texts.get(f"{KUBERNETES}/{file}", "").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


# The settings that gateways and consoles share.
ENDPOINT = "shared/web/src/endpoint.rs"


@functools.cache
def settings():
    """The variables that a worker reads."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    return set(re.findall(r"^\| `([A-Z_]+)`", text, re.M))


@functools.cache
def command_settings(command):
    """The variables that `toolfleet gateway` or `toolfleet console` reads, from its source."""
    files = ["workers/cli/src/connect.rs", f"workers/cli/src/commands/{command}.rs", f"workers/{command}/src/settings.rs", "shared/config/src/egress.rs"]
    own = {name for file in files for name in re.findall(r"env = \"([A-Z_]+)\"", (ROOT / file).read_text())}
    shared = re.findall(r"env = concat!\(\$prefix, \"([A-Z_]+)\"\)", (ROOT / ENDPOINT).read_text())
    return own | {f"TOOLFLEET_{command.upper()}{name}" for name in shared}


def kept_s():
    """How long `toolfleet gateway` and `toolfleet console` keep a connection without a request, in seconds."""
    text = (ROOT / ENDPOINT).read_text()
    return int(re.search(r"_IDLE_MS\"\).*?default_value = \"(\d+)s\"", text).group(1))


@functools.cache
def drain_s(command):
    """How long `toolfleet gateway` or `toolfleet console` takes to end, in seconds."""
    text = (ROOT / f"workers/{command}/src/settings.rs").read_text()
    return int(re.search(r"^const DRAIN: Duration = Duration::from_secs\((\d+)\);", text, re.M).group(1))


@functools.cache
def most_drain_s():
    """The longest TOOLFLEET_DRAIN_MS that a worker takes, in seconds. With more it does not start."""
    text = (ROOT / "workers/worker/src/config/limits.rs").read_text()
    most = re.search(r"TOOLFLEET_DRAIN_MS\".*?value_parser = milliseconds\(\d+, ([\d_]+)\)", text, re.S).group(1)
    return int(most) / 1000


@functools.cache
def metric_names():
    """The metrics that a worker emits."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    return set(re.findall(r"^\| `([a-z._]+)` \| (?:counter|gauge|histogram)", text, re.M))


@functools.cache
def metric_labels():
    """The labels of metrics, as Prometheus has them."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `[a-z._]+` \| (?:counter|gauge|histogram)[^|]*\|([^|]*)\|", text, re.M)
    return {label.replace(".", "_") for row in rows for label in re.findall(r"`([a-z._]+)`", row)}


@functools.cache
def prometheus_names():
    """The metrics as Prometheus has them: a unit and the kind are part of the name."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    names = set()
    for name, kind, unit in re.findall(r"^\| `([a-z._]+)` \| (counter|gauge|histogram)(, s)? \|", text, re.M):
        base = name.replace(".", "_") + ("_seconds" if unit else "")
        names |= {"counter": {f"{base}_total"}, "gauge": {base}, "histogram": {f"{base}_{part}" for part in ("bucket", "sum", "count")}}[kind]
    return names


def promql_selectors(expression):
    """The metrics that an expression of PromQL asks for, each with its labels. ValueError where it is none."""
    import promql_parser

    found = []

    def visit(part):
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return [(s.name, {m.name: m.value for m in s.matchers.matchers}) for s in found]


def grafana(project):
    return json.loads(project.texts[GRAFANA])


@functools.cache
def runbook_anchors():
    text = (ROOT / "docs/reference/runbook.md").read_text()
    names = re.findall(r"^#+ +(.*?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}
