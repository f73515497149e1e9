"""Policies, compared with the requests that each role was seen to make: infra/interop/rights.py records them at the endpoints, in recorded.json.

A request that no statement allows fails, and so does a right that was never used. What is so on purpose is listed in unrecorded.toml, with the reason.
"""

import fnmatch
import functools
import json
import re
import tomllib

from model import ROOT

from .iam import _keys, _list

# Who was seen, and the role or policy that they have.
ROLES = {
    "worker": ("data", "WorkerPolicy"), "operator": ("data", "OperatorRole"), "gateway": ("data", "GatewayPolicy"), "console": ("data", "ConsolePolicy"),
    "fleet-auditor": ("data", "AuditorRole"), "producer": ("tenant", "ProducerRole"), "poller": ("tenant", "PollerRole"), "auditor": ("tenant", "AuditorRole"),
}
# The tenant of the recording.
TENANT = "acme"
NAMES = {
    "AWS::SQS::Queue": ("sqs", "QueueName"), "AWS::DynamoDB::Table": ("dynamodb", "TableName"), "AWS::S3::Bucket": ("s3", "BucketName"),
    "AWS::SecretsManager::Secret": ("secretsmanager", "Name"),
}


@functools.cache
def _recorded():
    return json.loads((ROOT / "infra/checks/recorded.json").read_text())


@functools.cache
def _unrecorded():
    return tomllib.loads((ROOT / "infra/checks/unrecorded.toml").read_text())


def _pattern(template, resource):
    """A resource of a statement as `service:name`, with wildcards."""
    text = str(template.value(resource)).replace("<Tenant>", TENANT)
    own = re.match(r"<([A-Za-z]+)(\.Arn)?>", text)
    if own:
        service, name = NAMES[template.resources[own.group(1)]["Type"]]
        named = template.resources[own.group(1)]["Properties"].get(name)
        # Secrets Manager adds a hyphen and six characters to a name.
        ending = "-??????" if service == "secretsmanager" else text[own.end():]
        text = f"{service}:{template.value(named)}{ending}".replace("<Tenant>", TENANT)
    else:
        text = re.sub(r"<[^>]*>", "*", text)
        _, _, service, _, _, name = text.split(":", 5)
        text = f"{service}:{re.sub('^(table/|secret:)', '', name)}"
    # A part of a name that is made of others.
    return re.sub(r"<[^>]*>|\{.*\}", "*", text)


class Grant:
    """What one statement allows."""

    def __init__(self, at, template, statement):
        self.at, self.actions = at, set(_list(statement["Action"]))
        self.resources = {_pattern(template, resource) for resource in template.each(statement["Resource"])}
        self.keys = {key.replace("<Tenant>", TENANT) for key in _keys(template, statement)}

    def of(self, resource):
        """The resources of the statement that this one is among."""
        name = f"{resource}-AbCdEf" if resource.startswith("secretsmanager:") else resource
        return {pattern for pattern in self.resources if fnmatch.fnmatchcase(name, pattern)}

    def key(self, key):
        return {pattern for pattern in self.keys if key is None or fnmatch.fnmatchcase(key, pattern)}

    def allows(self, resource, action, key):
        return action in self.actions and bool(self.of(resource)) and (not self.keys or bool(self.key(key)))


def recorded(project):
    """Each role is granted what it was seen to do, and nothing else."""
    for who in sorted(ROLES.keys() ^ _recorded().keys()):
        yield f"recorded.json {who}: is recorded and has no role in this rule, or has one and was not recorded"
    for who, (template, name) in ROLES.items():
        at = f"{template}.yaml {name}"
        statements = project.templates[template].statements()
        grants = [Grant(place, project.templates[template], one) for place, owner, one in statements if owner == name]
        used = set()
        for resource, action, key in _uses(_recorded().get(who, {})):
            of = [grant for grant in grants if grant.allows(resource, action, key)]
            refused = action in _unrecorded()["refused"].get(who, {}).get(resource, {})
            if of and refused:
                yield f"unrecorded.toml: {action} on {resource} is granted to {who}, and listed as refused"
            if not of and not refused:
                yield f"{at}: {who} was seen to do {action} on {resource}{f' ({key})' if key else ''}, which nothing allows"
            for grant in of:
                used |= {(grant, pattern, action) for pattern in grant.of(resource)} | {(grant, pattern) for pattern in grant.key(key)}
        yield from _too_much(at, grants, used, _unrecorded()["unseen"].get(who, {}))


def _uses(resources):
    for resource, actions in resources.items():
        for action, keys in actions.items():
            for key in keys or [None]:
                yield resource, action, key


def _too_much(at, grants, used, reasons):
    listed = {(resource, action) for resource, actions in reasons.items() for action in actions}
    needed = set()

    def has_reason(pattern, action):
        found = {one for one in listed if one[1] == action and (one[0] == pattern or fnmatch.fnmatchcase(pattern, one[0]))}
        needed.update(found)
        return bool(found)

    for grant in grants:
        for pattern in sorted(grant.resources):
            for action in sorted(grant.actions):
                if (grant, pattern, action) not in used and not has_reason(pattern, action):
                    yield f"{grant.at}: {action} on {pattern} is granted, was never seen, and has no reason in unrecorded.toml"
        for pattern in sorted(grant.keys):
            if (grant, pattern) not in used and not has_reason(pattern, "dynamodb:LeadingKeys"):
                yield f"{grant.at}: keys {pattern} are granted, were never seen, and have no reason in unrecorded.toml"
    for resource, action in sorted(listed - needed):
        yield f"unrecorded.toml: {action} on {resource} of {at} is not granted, or is recorded: it needs no reason"
