"""Our own rules: what cfn-lint and checkov do not see. Each yields a text that names the place and the remedy."""

from . import compute, front, functions, iam, instances, kubernetes, metrics, network, recorded, scaling, storage, wiring

ALL = [
    storage.queues, storage.tables, storage.buckets, storage.keys, storage.secrets, storage.batches, storage.logs, storage.kept, storage.again, storage.sizes,
    iam.wildcards, iam.trust, iam.history, iam.operations, iam.clients, iam.doctor, iam.leading_keys, recorded.recorded,
    metrics.expressions, metrics.alarms, metrics.present, metrics.throttled, metrics.full, metrics.dashboards, metrics.collector, metrics.grafana_dashboard,
    scaling.steps, scaling.targets, scaling.ages, scaling.fast,
    compute.services, compute.containers, compute.environment, compute.imports,
    front.services, front.containers, front.environment, front.balancer, front.network, front.scaling,
    network.security_groups, network.endpoints,
    functions.sources, functions.function, functions.full, functions.environment,
    instances.launch, instances.groups, instances.files,
    wiring.roles, wiring.encryption, wiring.resource_policies, wiring.service, wiring.alarm_parts, wiring.log_codes, wiring.pipe,
    wiring.resources, wiring.names, wiring.versions, wiring.values, wiring.unique,
    kubernetes.deployment, kubernetes.drain, kubernetes.disruption, kubernetes.alarms, kubernetes.network, kubernetes.scaler, kubernetes.priorities, kubernetes.asked, kubernetes.identity, kubernetes.front, kubernetes.front_reached,
]


def problems(project):
    """What all rules find. A rule that fails on a broken template has found something, too."""
    for rule in ALL:
        try:
            yield from rule(project)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            yield f"{rule.__module__}.{rule.__name__}: cannot read the template: {error!r}"
