"""Checks OAuth 2 client credentials: npm oidc-provider issues tokens, a server on PyPI mcp verifies them.

Each client authenticates differently: basic with discovered metadata, post with a token URL, a signed assertion with an issuer.
Invariant: the answers of calls come from claims that the server verified.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

HERE = Path(__file__).resolve().parent
SECRET = "interop-client-secret-0123456789abcdef"
LIFE_S = 4


class Guarded:
    """Starts an authorization server and a server that trusts it; `servers` are the entries for the catalog."""

    def __init__(self, processes, python, node, free_port):
        port, mcp_port = free_port(), free_port()
        self.issuer, self.resource = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mcp_port}/mcp"
        key = ec.generate_private_key(ec.SECP256R1())
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k1", "use": "sig", "alg": "ES256"}
        by_secret = lambda way: {"client_id": way, "client_secret": SECRET, "token_endpoint_auth_method": f"client_secret_{way}"}
        by_key = {
            "client_id": "jwt", "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [public]},
            "token_endpoint_auth_signing_alg": "ES256",
        }
        clients = json.dumps([by_secret("basic"), by_secret("post"), by_key])
        self.provider = processes.start(
            "authorization_server", [node, HERE / "authorization_server.mjs", port, self.resource, clients, LIFE_S], port=port
        )
        processes.start(
            "guarded", [python, HERE / "guarded_server.py", mcp_port, self.issuer, f"{self.issuer}/jwks", self.resource], port=mcp_port
        )
        auth = {
            "basic": {"client_id": "basic", "client_secret": "secret://oauth#secret"},
            "post": {"client_id": "post", "client_secret": "secret://oauth#secret", "client_auth": "post",
                     "token_url": f"{self.issuer}/token", "scopes": ["tools:call"]},
            "jwt": {"client_id": "jwt", "private_key": "secret://oauth#key", "key_id": "k1", "issuer": self.issuer, "scopes": ["tools:call"]},
            "rotated": {"client_id": "basic", "client_secret": "secret://rotated", "issuer": self.issuer, "scopes": ["tools:call"]},
        }
        self.servers = [
            {"id": f"oauth-{name}", "url": self.resource, "discover": True, "auth": {"type": "oauth2_client_credentials", **fields}}
            for name, fields in auth.items()
        ]

    def store(self, secrets):
        self.secrets = secrets
        secrets.create_secret(Name="oauth", SecretString=json.dumps({"secret": SECRET, "key": self.pem}))
        secrets.create_secret(Name="rotated", SecretString="not-yet-the-right-secret")

    def granted(self, client):
        told = [json.loads(line) for line in self.provider.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in told if line["what"] == "granted" and line["client"] == client]

    def check(self, call, text, check, until):
        def who(server):
            item = call(f"oauth-{server}", "who", {})
            return item, (json.loads(text(item)) if item["outcome"]["S"] == "succeeded" else {})

        for way in ("basic", "post", "jwt"):
            item, told = who(way)
            check(f"oauth: a client that proves itself by {way} calls a guarded server", told.get("client") == way, item)
            asked = self.granted(way)[0]
            check(f"oauth: its token is for that server and scope ({way})",
                  (asked["resource"], asked["scope"]) == (self.resource, "tools:call"), asked)

        tokens = {who("post")[1]["token"] for _ in range(5)}
        given = len(self.granted("post"))
        check("oauth: calls share a token as long as it lives", len(tokens) <= 2 and given <= 3, (tokens, given))

        # The token lives a few seconds: calls go on through its end, none is refused.
        seen = []
        until("three tokens, one after the other", lambda: seen.append(who("jwt")[1].get("token")) or len(set(seen)) >= 3)
        check("oauth: tokens are renewed under running calls, none of which fails", None not in seen, seen)

        item, _ = who("rotated")
        message = item["message"]["S"]
        check("oauth: a wrong secret ends a call by name and without its value",
              item["code"]["S"] == "credential_unavailable" and "invalid_client" in message and "not-yet" not in message, item)
        self.secrets.put_secret_value(SecretId="rotated", SecretString=SECRET)
        told = until("the rotated secret at work", lambda: who("rotated")[1])
        check("oauth: the right secret is read without a restart", told["client"] == "basic", told)
