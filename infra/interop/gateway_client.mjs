// A client of the TypeScript SDK v2 at the gateway: `node gateway_client.mjs URL`. Prints one JSON object for each thing it saw.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const url = new URL(process.argv[2]);

async function run(mode) {
  const say = (what, holds, seen) => console.log(JSON.stringify({ mode, what, holds: Boolean(holds), seen }));
  const client = new Client({ name: 'interop', version: '1' }, { versionNegotiation: { mode }, capabilities: { elicitation: { form: {} } } });
  client.setRequestHandler('elicitation/create', async ({ params }) => (params.message === 'For whom?' ? { action: 'accept', content: { name: 'Ann' } } : { action: 'decline' }));
  await client.connect(new StreamableHTTPClientTransport(url));
  const { prompts } = await client.listPrompts();
  say('prompts of both servers are listed', prompts.some((one) => one.name === 'fastmcp__greet') && prompts.some((one) => one.name.startsWith('every__')), prompts);
  const prompt = await client.getPrompt({ name: 'fastmcp__greet', arguments: { who: 'Ann' } });
  say('a prompt is filled in', JSON.stringify(prompt.messages).includes('Greet Ann.'), prompt);
  const { resources } = await client.listResources();
  const note = resources.find((one) => one.uri.includes('fastmcp~'));
  const read = await client.readResource({ uri: note.uri });
  say('a resource is read by its published address', read.contents[0].text === 'a note to read' && read.contents[0].uri === note.uri, read);
  const { resourceTemplates } = await client.listResourceTemplates();
  const template = resourceTemplates.find((one) => one.uriTemplate.includes('every~'));
  say('templates are listed', template, resourceTemplates);
  const tool = await client.callTool({ name: 'fastmcp__echo', arguments: { text: 'hello' } });
  say('a tool is called', tool.content[0].text === 'hello', tool);
  const booked = await client.callTool({ name: 'fastmcp__book', arguments: { city: 'Ulm' } });
  say('a tool that asks its user goes on with the answer', booked.content[0].text === 'Ulm for Ann, asked once', booked);
  await client.close();
}

await run('auto');
await run('legacy');
