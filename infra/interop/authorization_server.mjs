// Owns a real OAuth 2 authorization server (npm oidc-provider): `node authorization_server.mjs PORT RESOURCE CLIENTS_JSON LIFE_S`.
// It gives client credentials, for RESOURCE alone, as JWTs that live LIFE_S; each one is told of on stdout, a JSON line each.
// Invariant: it knows the clients of CLIENTS_JSON and no others.

import { generateKeyPairSync } from "node:crypto";
import Provider, { errors } from "oidc-provider";

const [port, resource, clients, life] = process.argv.slice(2);
const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: JSON.parse(clients).map((client) => ({
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    scope: "tools:call",
    ...client,
  })),
  scopes: ["tools:call"],
  jwks: { keys: [{ ...key, kid: "interop", use: "sig", alg: "RS256" }] },
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_, wanted) {
        if (wanted !== resource) throw new errors.InvalidTarget();
        const jwt = { sign: { alg: "RS256" } };
        return { scope: "tools:call", audience: resource, accessTokenTTL: Number(life), accessTokenFormat: "jwt", jwt };
      },
    },
  },
  ttl: { ClientCredentials: (_, token) => token.resourceServer?.accessTokenTTL ?? Number(life) },
});

const told = (what, ctx) => {
  const { client, params } = ctx.oidc;
  console.log(JSON.stringify({ what, client: client?.clientId, scope: params?.scope, resource: params?.resource }));
};
provider.on("grant.success", (ctx) => told("granted", ctx));
provider.on("grant.error", (ctx, error) => told(error.error, ctx));
provider.listen(Number(port), "127.0.0.1");
