// Owns a server on the reference package (npm @modelcontextprotocol/server 2): `node npm_server.mjs PORT`.
// It speaks 2026-07-28, and older versions without sessions. Invariant: it has no state but its counter.

import { createServer } from "node:http";
import { McpServer, createMcpHandler } from "@modelcontextprotocol/server";
import * as z from "zod";

let runs = 0;

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "interop-npm", version: "1" });
  const text = (value) => ({ content: [{ type: "text", text: String(value) }] });
  server.registerTool(
    "echo",
    { description: "Returns its text.", inputSchema: z.object({ text: z.string() }), annotations: { readOnlyHint: true } },
    async ({ text: words }) => text(words),
  );
  server.registerTool("count", { description: "Counts its own runs.", inputSchema: z.object({}) }, async () => text(++runs));
  server.registerTool("fail", { description: "Fails.", inputSchema: z.object({ message: z.string() }) }, async ({ message }) => {
    throw new Error(message);
  });
  return server;
});

const listener = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const answer = await handler.fetch(
    new Request(`http://127.0.0.1${request.url}`, {
      method: request.method,
      headers: Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
      body: pieces.length > 0 ? Buffer.concat(pieces) : undefined,
      signal: gone.signal,
    }),
  );
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body) for await (const piece of answer.body) response.write(piece);
  response.end();
});
listener.on("connection", (socket) => socket.setNoDelay(true));
listener.listen(Number(process.argv[2]), "127.0.0.1");
