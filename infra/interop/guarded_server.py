"""A server on the reference package (PyPI mcp) that requires a token: `python guarded_server.py PORT ISSUER JWKS_URL AUDIENCE`.

It verifies RS256 tokens against the issuer's keys and publishes its protected-resource metadata (RFC 9728). AUDIENCE is the
`aud` that tokens must have; `client:ID` instead is for Cognito, whose access tokens have none.
Invariant: a request without a valid token never reaches a tool.
"""

import sys

import jwt
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer

PORT, ISSUER, JWKS_URL, AUDIENCE = sys.argv[1:5]
RESOURCE = f"http://127.0.0.1:{PORT}/mcp"
CLIENTS = AUDIENCE.removeprefix("client:").split(",") if AUDIENCE.startswith("client:") else None
SCOPE = "tools:call"


class Verifier:
    """Tokens of one issuer, for this server."""

    keys = jwt.PyJWKClient(JWKS_URL)

    async def verify_token(self, token):
        try:
            key = self.keys.get_signing_key_from_jwt(token)
            checks = {"options": {"verify_aud": False}} if CLIENTS else {"audience": AUDIENCE}
            claims = jwt.decode(token, key, algorithms=["RS256"], issuer=ISSUER, **checks)
        except jwt.PyJWTError as problem:
            print("refused:", problem, file=sys.stderr, flush=True)
            return None
        if CLIENTS and (claims.get("token_use") != "access" or claims.get("client_id") not in CLIENTS):
            return None
        scopes = [SCOPE] if CLIENTS else claims.get("scope", "").split()
        resource = RESOURCE if CLIENTS else claims["aud"]
        return AccessToken(token=token, client_id=claims["client_id"], scopes=scopes, expires_at=claims["exp"], resource=resource, claims=claims)


server = MCPServer(
    "interop-guarded",
    token_verifier=Verifier(),
    auth=AuthSettings(issuer_url=ISSUER, resource_server_url=RESOURCE, required_scopes=[SCOPE], validate_token_resource=True),
)


@server.tool()
def who() -> dict:
    """Tells who calls, and by which token."""
    claims = get_access_token().claims
    return {"client": claims["client_id"], "token": claims["jti"], "user": claims.get("username")}


if __name__ == "__main__":
    server.run(transport="streamable-http", host="127.0.0.1", port=int(PORT))
