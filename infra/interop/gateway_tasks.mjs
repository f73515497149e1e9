// A client of the TypeScript SDK v1, which has tasks of 2025-11-25, at the gateway: `node gateway_tasks.mjs URL`. Prints one JSON object for each
// thing it saw.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const say = (what, holds, seen) => console.log(JSON.stringify({ what, holds: Boolean(holds), seen }));
const client = new Client({ name: 'interop', version: '1' }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async ({ params }) => (params.message === 'For whom?' ? { action: 'accept', content: { name: 'Ann' } } : { action: 'decline' }));
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
const { tasks } = client.experimental;

const { tools } = await client.listTools();
const support = (name) => tools.find((one) => one.name === name)?.execution?.taskSupport;
say('tools say that they run as tasks', support('fastmcp__echo') === 'optional' && support('get_result') === undefined, tools.length);

async function messages(name, args) {
  const seen = [];
  for await (const message of tasks.callToolStream({ name, arguments: args }, CallToolResultSchema, { task: { ttl: 60_000 } })) seen.push(message);
  return seen;
}

const long = await messages('every__trigger-long-running-operation', { duration: 2, steps: 2 });
const kinds = long.map((one) => one.type);
say('a tool is called as a task, polled, and its result is read', kinds[0] === 'taskCreated' && kinds.includes('taskStatus') && kinds.at(-1) === 'result' && long.at(-1).result.content[0].text.includes('completed'), long);

const failed = (await messages('fastmcp__fail', { message: 'broken' })).at(-1);
say('an error of the tool is the result of its task', failed.type === 'result' && failed.result.isError && JSON.stringify(failed.result).includes('broken'), failed);

const asking = await messages('fastmcp__book', { city: 'Ulm' });
const isAsked = asking.some((one) => one.type === 'taskStatus' && one.task.status === 'input_required');
say('a task that asks its user goes on with the answer', isAsked && asking.at(-1).type === 'result' && asking.at(-1).result.content[0].text === 'Ulm for Ann, asked once', asking);
const booked = await client.callTool({ name: 'fastmcp__book', arguments: { city: 'Bonn' } });
say('a tool that asks its user goes on with the answer', booked.content[0].text === 'Bonn for Ann, asked once', booked);

const created = tasks.callToolStream({ name: 'every__trigger-long-running-operation', arguments: { duration: 30, steps: 3 } }, CallToolResultSchema, { task: { ttl: 60_000 } });
const { taskId } = (await created.next()).value.task;
await created.return();
const cancelled = await tasks.cancelTask(taskId);
const after = await tasks.getTask(taskId);
say('a task is cancelled', cancelled.status === 'cancelled' && after.status === 'cancelled', [cancelled, after]);

const error = await tasks.cancelTask(taskId).then(() => undefined, (error) => error);
say('a task is cancelled once', error?.code === -32602, String(error));
const unknown = await tasks.getTask('786512e2-9e0d-44bd-8f29-789f320fe840').then(() => undefined, (error) => error);
say('an id that was not given is unknown', unknown?.code === -32602, String(unknown));
const listed = await tasks.listTasks().then(() => undefined, (error) => error);
say('tasks are not listed', listed, String(listed));
await client.close();
