"""Security groups and endpoints: nothing connects to a worker, and a worker connects by TLS."""

ANYWHERE = ("0.0.0.0/0", "::/0")
INTERFACE = {"sqs", "secretsmanager", "logs", "ecr.api", "ecr.dkr", "sts", "monitoring", "kms"}
GATEWAY = {"s3", "dynamodb"}


def security_groups(project):
    for template in project.templates.values():
        ingress = [(name, rule) for name, rule in template.of_type("AWS::EC2::SecurityGroupIngress").items()]
        for name, group in template.of_type("AWS::EC2::SecurityGroup").items():
            ingress += [(name, rule) for rule in template.each(group.get("SecurityGroupIngress"))]
            egress = list(template.each(group.get("SecurityGroupEgress")))
            if not egress:
                yield f"{template.name} {name}: without SecurityGroupEgress everything may be connected to"
            if name == "WorkerSecurityGroup" and not any((r.get("CidrIp"), r.get("ToPort")) == ("0.0.0.0/0", 443) for r in egress):
                yield f"{template.name} {name}: workers reach no MCP server and no AWS"
            inward = [(r.get("IpProtocol"), r.get("FromPort"), r.get("ToPort")) for r in template.each(group.get("SecurityGroupIngress"))]
            if name == "EndpointSecurityGroup" and inward != [("tcp", 443, 443)]:
                yield f"{template.name} {name}: workers do not reach the endpoints, or by more than port 443"
            for rule in egress:
                open_to_all = rule.get("CidrIp") in ANYWHERE or rule.get("CidrIpv6") in ANYWHERE
                if str(rule.get("IpProtocol")) == "-1" or (open_to_all and (rule.get("FromPort"), rule.get("ToPort")) != (443, 443)):
                    yield f"{template.name} {name}: egress to everywhere on more than port 443"
        for name, rule in ingress:
            named = name == "LoadBalancerSecurityGroup" and rule.get("CidrIp") == {"Ref": "ClientCidr"}
            if "SourceSecurityGroupId" not in rule and not named:
                yield f"{template.name} {name}: ingress that does not name a security group as its source"


def endpoints(project):
    for template in project.templates.values():
        for name, endpoint in template.of_type("AWS::EC2::VPCEndpoint").items():
            at = f"{template.name} {name}"
            service = endpoint["ServiceName"].get("Fn::Sub", "") if isinstance(endpoint["ServiceName"], dict) else ""
            short = service.removeprefix("com.amazonaws.${AWS::Region}.")
            if short == service or short not in INTERFACE | GATEWAY:
                yield f"{at}: ServiceName {endpoint['ServiceName']} is none of {sorted(INTERFACE | GATEWAY)} in this region"
                continue
            kind = "Gateway" if short in GATEWAY else "Interface"
            if endpoint.get("VpcEndpointType") != kind:
                yield f"{at}: the endpoint of {short} is of the type {kind}"
            if kind == "Gateway" and "RouteTableIds" not in endpoint:
                yield f"{at}: a gateway endpoint needs RouteTableIds"
            complete = endpoint.get("PrivateDnsEnabled") is True and endpoint.get("SecurityGroupIds") and endpoint.get("SubnetIds")
            services = str(template.of_type("AWS::ECS::Service"))
            if f"{{'Ref': '{name}'}}" not in services:
                yield f"{at}: the service does not wait for it, so that its first tasks fail"
            if kind == "Interface" and not complete:
                yield f"{at}: an interface endpoint needs PrivateDnsEnabled, SecurityGroupIds and SubnetIds"
