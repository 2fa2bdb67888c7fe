import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { SideReport, SideWatch } from '../control/side-report.js';
import { LockstepError } from '../errors.js';
import { invalid } from '../options.js';
import type { PairSide } from '../pair-side.js';

/** Of a pause, in seconds: from what nobody sees to what clients give up at. */
const PAUSE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

const GAUGES: [name: string, help: string, value: (report: SideReport) => number][] = [
  ['up_seconds', 'How long this side runs', (r) => r.upSeconds],
  ['live', '1 while this side faces the world', (r) => Number(r.role === 'primary')],
  ['protected', '1 while a shadow stands by', (r) => Number(r.protected)],
  ['fenced', '1 when the other side went on without this one', (r) => Number(r.role === 'fenced')],
  ['generation', 'How often the fence has decided', (r) => r.generation],
  ['events', 'Events in the log', (r) => r.events],
  ['lag_events', 'Events that the shadow has not executed yet', (r) => r.lagEvents],
  ['unacknowledged_events', 'Events that the shadow has not acknowledged yet', (r) => r.unacknowledgedEvents],
  ['log_bytes', 'Bytes of the log', (r) => r.logBytes],
  ['output_held_bytes', 'Output that waits for the shadow or for its reader', (r) => r.outputBytesHeld],
  ['output_forgotten_bytes', 'Console output that nobody read in time', (r) => r.outputBytesForgotten],
  ['link_round_trip_seconds', 'Round trip of the link', (r) => r.linkRoundTripUs / 1e6],
];

/** `HOST:PORT`, `[HOST]:PORT` or `PORT`, which is the loopback's. */
function parseListen(text: string): { host: string; port: number } {
  const [, host = '127.0.0.1', port = ''] = /^(?:\[?([^\]]+?)\]?:)?(\d+)$/.exec(text) ?? [];
  if (!port || Number(port) > 65_535)
    throw invalid(`--metrics ${text} is no address`, 'Write HOST:PORT, or a port of the loopback.');
  return { host, port: Number(port) };
}

/** Serves a side's numbers to Prometheus at /metrics. */
export async function serveMetrics(
  listen: string,
  side: PairSide,
  watch: SideWatch,
): Promise<{ address: string; close(): Promise<void> }> {
  const registry = new Registry();
  const gauges = GAUGES.map(([name, help, value]) => ({
    gauge: new Gauge({ name: `lockstep_${name}`, help, registers: [registry] }),
    value,
  }));
  const notices = new Counter({
    name: 'lockstep_notices_total',
    help: 'What happened to the pair, by kind',
    labelNames: ['notice'],
    registers: [registry],
  });
  const pauses = new Histogram({
    name: 'lockstep_pause_seconds',
    help: 'Times in which nothing left the machine, because the other side was lost',
    buckets: PAUSE_BUCKETS,
    registers: [registry],
  });
  for (const name of [
    'suspected',
    'live',
    'alone',
    'armed',
    'slowed',
    'dropped',
    'diverged',
    'join-lost',
  ] as const) {
    notices.inc({ notice: name }, 0);
    side.on(name, () => notices.inc({ notice: name }));
  }
  watch.onPause = ({ totalMs }) => pauses.observe(totalMs / 1000);

  const server = createServer(async (request, response) => {
    if (new URL(request.url ?? '/', 'http://x').pathname !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('the metrics are at /metrics\n');
      return;
    }
    const report = watch.report();
    for (const { gauge, value } of gauges) gauge.set(value(report));
    response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
  });
  const { host, port } = parseListen(listen);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new LockstepError('ERR_LOCKSTEP_SYSTEM', `--metrics ${listen}: ${cause.message}`, {
          cause,
          errno: cause.errno,
          syscall: cause.syscall,
        }),
      ),
    );
    server.listen(port, host, resolve);
  });
  server.unref();
  const { address, port: chosen } = server.address() as AddressInfo;
  return {
    address: `http://${address.includes(':') ? `[${address}]` : address}:${chosen}/metrics`,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
