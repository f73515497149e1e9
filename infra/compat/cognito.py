"""Checks Cognito with a second implementation: a user pool of ministack, a server that verifies its tokens, calls through SQS and a worker.

The agent comes from the IDP accelerator's secret; a second server names the same user with an app client that has a secret.
Workers reach Cognito through a proxy here, which forwards requests unchanged and changes the lifetime of tokens to SHORT_S: real
tokens are valid for five minutes at least.
Invariant: every token that a tool saw was signed by the pool and verified against its published keys.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ministack as product
import targets

SHORT_S = 3
FIRST, SECOND = "First-password-1", "Second-password-2"
USER = "mcp-service-user"


def main():
    checks = []

    def check(name, holds, detail=""):
        checks.append(name)
        print(f"{'ok  ' if holds else 'FAIL'}  cognito: {name}" + ("" if holds else f": {detail}"), flush=True)
        if not holds:
            sys.exit(1)

    with contextlib.ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        run(running, Path(folder), check)
    print(f"cognito: {len(checks)} passed, 0 failed")


class Gate:
    """Passes requests on to Cognito and remembers which flows were asked for, and how they ended."""

    def __init__(self, endpoint):
        flows = self.flows = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: self.headers[name] for name in ("Content-Type", "X-Amz-Target")}
                try:
                    with urllib.request.urlopen(urllib.request.Request(endpoint, body, headers), timeout=30) as answer:
                        status, said = answer.status, json.load(answer)
                        said["AuthenticationResult"]["ExpiresIn"] = SHORT_S
                        said = json.dumps(said).encode()
                except urllib.error.HTTPError as refusal:
                    status, said = refusal.code, refusal.read()
                asked = json.loads(body)
                flows.append((asked["ClientId"], asked["AuthFlow"], status))
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, client, status=200):
        return [flow for asked, flow, ended in self.flows if asked == client and ended == status]


def pool_in(cognito):
    pool = cognito.create_user_pool(PoolName="agents")["UserPool"]["Id"]
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    plain, secret = (
        cognito.create_user_pool_client(UserPoolId=pool, ClientName=name, GenerateSecret=with_secret, ExplicitAuthFlows=flows)["UserPoolClient"]
        for name, with_secret in (("plain", False), ("secret", True))
    )
    cognito.admin_create_user(UserPoolId=pool, Username=USER, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=USER, Password=FIRST, Permanent=True)
    return pool, plain["ClientId"], secret["ClientId"], secret["ClientSecret"]


def run(running, folder, check):
    port, mcp_port = targets.free_port(), targets.free_port()
    running.enter_context(targets.ministack(port))
    endpoint = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "", **{f"AWS_ENDPOINT_URL_{service}": endpoint for service in ("SQS", "DYNAMODB", "SECRETS_MANAGER")},
    }
    outputs = product.deploy(env, endpoint, "data.yaml", product.STACK)
    cognito, secrets = product.client(env, "cognito-idp"), product.client(env, "secretsmanager")
    pool, plain, with_secret, client_secret = pool_in(cognito)
    gate = Gate(endpoint)
    running.callback(gate.server.shutdown)

    url = f"http://127.0.0.1:{mcp_port}/mcp"
    python = product.INTEROP / ".interop" / "venv" / "bin" / "python"
    issuer = f"https://cognito-idp.us-east-1.amazonaws.com/{pool}"
    guard = [product.INTEROP / "guarded_server.py", mcp_port, issuer, f"{endpoint}/{pool}/.well-known/jwks.json", f"client:{plain},{with_secret}"]
    running.enter_context(targets.process("guarded", [python, *guard], mcp_port))

    agent = lambda password: json.dumps([{
        "mcp_url": url, "cognito_user_pool_id": pool, "cognito_client_id": plain, "cognito_username": USER,
        "cognito_password": password, "agent_name": "Agent",
    }])
    login = lambda password: json.dumps({"password": password, "client_secret": client_secret})
    secrets.create_secret(Name="agents", SecretString=agent(FIRST))
    secrets.create_secret(Name="login", SecretString=login(FIRST))
    auth = {"type": "cognito", "user_pool_id": pool, "client_id": with_secret, "client_secret": "secret://login#client_secret",
            "username": USER, "password": "secret://login#password"}
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({
        "servers": [{"id": "own", "url": url, "discover": True, "auth": auth}], "idp": "secret://agents", "tenants": {"queue": ["acme"]},
    }))
    worker = running.enter_context(product.start_worker(folder, env | {
        "TOOLFLEET_QUEUE_URL": outputs["CallsQueueUrl"], "TOOLFLEET_TABLE_PREFIX": product.PREFIX, "TOOLFLEET_CATALOG": str(catalog),
        "TOOLFLEET_LEASE_MS": "5000", "TOOLFLEET_CLOCK_SKEW_MS": "500", "TOOLFLEET_COGNITO_ENDPOINT": gate.url,
        "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8", "TOOLFLEET_ALLOW_HTTP": "true",
    }))
    fleet = product.Fleet(env | {"TOOLFLEET_QUEUE_URL": outputs["CallsQueueUrl"], "TOOLFLEET_TABLE_PREFIX": product.PREFIX})
    both = (("agent", plain), ("own", with_secret))
    tokens(fleet, gate, both, check)
    rotation(fleet, gate, both, check, cognito=cognito, pool=pool, worker=worker, store=lambda: (
        secrets.put_secret_value(SecretId="agents", SecretString=agent(SECOND)),
        secrets.put_secret_value(SecretId="login", SecretString=login(SECOND)),
    ))
    told = worker.log_path.read_text() + json.dumps(fleet.history("--limit", "100"))
    leaks = [word for word in (FIRST, SECOND, client_secret, "eyJ") if word in told]
    check("no password, secret or token stands in the log or the history", not leaks, leaks)
    check("the worker still runs", worker.poll() is None, worker.log_path.read_text()[-2000:])


def who(fleet, server):
    """The claims that the tool received, and the outcome of the call."""
    seen = fleet.call("who", {}, server)
    if seen["outcome"] != "succeeded":
        return {}, seen
    return json.loads(seen["content"]["content"][0]["text"]), seen


def tokens(fleet, gate, both, check):
    for server, client in both:
        told, seen = who(fleet, server)
        check(f"`{server}` is called as its user", (told.get("client"), told.get("user")) == (client, USER), seen)
        check(f"by a login with a password ({server})", gate.of(client) == ["USER_PASSWORD_AUTH"], gate.flows)
        ids = {told["token"]}
        product.until(f"three tokens of `{server}`", lambda: ids.add(who(fleet, server)[0].get("token")) or len(ids) >= 3)
        flows = gate.of(client)
        check(f"later tokens come by the refresh token, and no call fails ({server})",
              None not in ids and set(flows[1:]) == {"REFRESH_TOKEN_AUTH"} and not gate.of(client, 400), gate.flows)


def rotation(fleet, gate, both, check, cognito, pool, worker, store):
    """A new password, and an end to all tokens given for the old one."""
    cognito.admin_set_user_password(UserPoolId=pool, Username=USER, Password=SECOND, Permanent=True)
    cognito.admin_user_global_sign_out(UserPoolId=pool, Username=USER)
    store()
    os.kill(worker.pid, signal.SIGHUP)
    for server, client in both:
        logins = lambda: gate.of(client).count("USER_PASSWORD_AUTH")
        product.until(f"a login of `{server}` with the new password", lambda: who(fleet, server) and logins() > 1)
        told, seen = who(fleet, server)
        check(f"a rotated password is taken up without a restart ({server})", told.get("user") == USER, seen)


if __name__ == "__main__":
    main()
