/**
 * The etcd client of an {@link Arbiter}, on a thread of its own: a claim must go through although the process's
 * event loop is blocked.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Etcd3 } from 'etcd3';
import { native } from './addon.js';
import type { EtcdWorkerData, EtcdWorkerNotice } from './arbiter-etcd.js';
import { Endpoint } from './etcd-endpoint.js';

/** How often each endpoint is looked at, so that a claim finds a connection that works. */
const LOOK_MS = 1000;

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

/** The key is made by exactly one, and never removed. Who lost reads whose it is: maybe its own, asked before. */
async function claim(client: Etcd3, key: string, claimId: string): Promise<Answer> {
  const { succeeded, responses } = await client
    .if(key, 'Create', '==', 0)
    .then(client.put(key).value(claimId))
    .else(client.get(key))
    .commit();
  if (succeeded) return 'won';
  const winner = responses[0]?.response_range?.kvs[0]?.value.toString();
  if (winner === undefined) throw new Error(`etcd says neither that ${key} is new nor what it is`);
  return winner === claimId ? 'won' : 'lost';
}

async function serve(
  request: number,
  kind: 'claim' | 'arm',
  pairId: string,
  generation: number,
  asker: string,
): Promise<void> {
  const pair = `${prefix}pairs/${pairId}/`;
  const answer = await askAll(async (client): Promise<Answer> => {
    if (kind === 'claim') return await claim(client, `${pair}g${generation}`, asker);
    await client.put(`${pair}armed${generation}`).value(asker);
    return 'won';
  }).catch(() => 'unreachable' as const);
  native().answerArbiter(name, request, answer);
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
for (const server of servers) void look(server);
