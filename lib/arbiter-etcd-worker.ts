/**
 * The etcd client of an {@link Arbiter}, on a thread of its own: a claim must go through although the process's
 * event loop is blocked.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { ComparatorBuilder, Etcd3 } from 'etcd3';
import { native } from './addon.js';
import type { EtcdWorkerData, EtcdWorkerNotice, EtcdWorkerRequest } from './arbiter-etcd.js';
import { Endpoint } from './etcd-endpoint.js';

/** How often each endpoint is looked at, so that a claim finds a connection that works. */
const LOOK_MS = 1000;
const END_SECONDS = 30 * 86_400;

type Answer = 'won' | 'lost';

const { name, endpoints, prefix, timeoutMs, answerMsMax, credentials, auth }: EtcdWorkerData = workerData;

const servers = endpoints.map((address) => new Endpoint(address, { timeoutMs, credentials, auth }));

/** Asks all at once and takes the first answer: whoever asks twice is answered alike. */
function askAll<T>(request: (client: Etcd3) => Promise<T>): Promise<T> {
  return Promise.any(servers.map((server) => server.ask(request)));
}

/**
 * A claim that never holds, since no version is negative. The first one in a process takes some 25 ms of making and compiling
 * code, which nobody should have to wait for when a side is lost.
 */
async function rehearse(client: Etcd3): Promise<void> {
  const key = `${prefix}pairs/`;
  await client.if(key, 'Version', '<', 0).then(client.put(key).value('')).else(client.get(key)).commit();
}

/**
 * The key is made by exactly one, and stays for as long as the machine; who lost reads whose it is: maybe its own, asked
 * before. Each generation's needs the one before it. So when the keys of a machine that is over are removed, all at once,
 * no side of it that was forgotten somewhere can ever win again.
 */
async function claim(client: Etcd3, pair: string, generation: number, claimId: string): Promise<Answer> {
  const key = `${pair}g${generation}`;
  const free = client.if(key, 'Create', '==', 0).and(`${pair}end`, 'Create', '==', 0);
  const { succeeded, responses } = await follows(free, pair, generation)
    .then(client.put(key).value(claimId))
    .else(client.get(key))
    .commit();
  if (succeeded) return 'won';
  return responses[0]?.response_range?.kvs[0]?.value.toString() === claimId ? 'won' : 'lost';
}

function follows(condition: ComparatorBuilder, pair: string, generation: number): ComparatorBuilder {
  return generation > 1 ? condition.and(`${pair}g${generation - 1}`, 'Create', '!=', 0) : condition;
}

async function arm(client: Etcd3, pair: string, generation: number, shadowId: string): Promise<Answer> {
  const open = client.if(`${pair}end`, 'Create', '==', 0);
  const { succeeded } = await follows(open, pair, generation)
    .then(client.put(`${pair}armed${generation}`).value(shadowId))
    .commit();
  return succeeded ? 'won' : 'lost';
}

/** In place of all that was claimed; and for so long that whoever comes back will have done so. */
async function recordEnd(client: Etcd3, pair: string, end: string): Promise<undefined> {
  if ((await client.get(`${pair}end`).string()) !== null) return;
  const { ID } = await client.leaseClient.leaseGrant({ TTL: END_SECONDS });
  const { succeeded } = await client
    .if(`${pair}end`, 'Create', '==', 0)
    .then(
      client.put(`${pair}end`).value(end).lease(ID),
      client.delete().prefix(`${pair}g`),
      client.delete().prefix(`${pair}armed`),
    )
    .commit();
  if (!succeeded) await client.leaseClient.leaseRevoke({ ID });
}

async function serve(
  request: number,
  kind: 'claim' | 'arm',
  pairId: string,
  generation: number,
  asker: string,
): Promise<void> {
  const pair = `${prefix}pairs/${pairId}/`;
  const ask = kind === 'claim' ? claim : arm;
  const answer = await askAll((client) => ask(client, pair, generation, asker)).catch(
    () => 'unreachable' as const,
  );
  native().answerArbiter(name, request, answer);
}

async function serveEnds({ request, pairId, end }: EtcdWorkerRequest): Promise<void> {
  const pair = `${prefix}pairs/${pairId}/`;
  try {
    const found = await askAll(async (client) =>
      end === undefined
        ? ((await client.get(`${pair}end`).string()) ?? undefined)
        : await recordEnd(client, pair, end),
    );
    tell({ request, found });
  } catch (error) {
    tell({ request, failed: error instanceof Error ? error.message : String(error) });
  }
}

const tell = (notice: EtcdWorkerNotice) => parentPort?.postMessage(notice);

/** Says once that etcd answers, and until then why it does not. */
async function look(server: Endpoint, rehearsed = false): Promise<void> {
  let ready = rehearsed;
  try {
    await server.ask(async (client) => {
      if (ready) await client.get(`${prefix}pairs/`).string();
      else await rehearse(client);
    }, true);
    ready = true;
    tell({ answers: true });
  } catch (error) {
    tell({ answers: false, why: error instanceof Error ? error.message : String(error) });
  }
  setTimeout(look, LOOK_MS, server, ready);
}

// A library prints nothing, not even that a server's address is no name that TLS could check.
process.noDeprecation = true;
native().serveArbiter(name, answerMsMax, serve);
parentPort?.on('message', serveEnds);
for (const server of servers) void look(server);
