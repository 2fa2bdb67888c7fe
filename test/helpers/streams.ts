/** What tests of streams have in common. */
import type { ExecutionContext } from 'ava';
import { type Machine, type Stream, type StreamProgress, serve } from '../../lib/index.js';
import type { Made } from './published.js';
import { TEN_MBIT, ThinLine } from './thin-line.js';

/** Of machines that have to be alike. */
export const FIXED = { seed: 7, time: new Date('2026-01-31T12:00:00Z') };

export async function serveSite(t: ExecutionContext, { site }: Pick<Made, 'site'>) {
  const server = await serve(site);
  t.teardown(() => server.close());
  return server;
}

export async function thinLine(
  t: ExecutionContext,
  url: string,
  bytesPerSecond = TEN_MBIT,
): Promise<ThinLine> {
  const line = await ThinLine.open(Number(new URL(url).port), bytesPerSecond);
  t.teardown(() => line.close());
  return line;
}

export async function firstLine(machine: Pick<Machine, 'stdout'>): Promise<string> {
  for await (const chunk of machine.stdout.iterator({ destroyOnReturn: false })) return String(chunk);
  return '';
}

/** Until the stream is in a state that a test waits for. */
export async function until(
  stream: Stream,
  what: (status: StreamProgress) => boolean,
): Promise<StreamProgress> {
  for await (const status of stream.progress({ intervalMs: 5 })) if (what(status)) return status;
  return stream.status;
}
