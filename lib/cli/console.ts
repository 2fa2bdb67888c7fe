import { finished } from 'node:stream/promises';
import { ConsoleClient } from '../console-client.js';
import type { SecurityFlags } from './options.js';
import { say, sayEnd, statusOfEnd } from './report.js';
import { securityOptions } from './security.js';
import { attachTerminal } from './terminal.js';

/** `lockstep console`: this process's stdin, stdout and stderr become the program's. */
export default async function console(
  flags: SecurityFlags & { quiet?: boolean; timeout: number },
  addresses: string[],
): Promise<number> {
  await using client = await ConsoleClient.connect({
    addresses,
    unreachableMs: flags.timeout,
    ...securityOptions(flags, 'console'),
  });
  client.on('pause', ({ durationMs, address }) =>
    say(flags, `${address} took over after ${durationMs.toFixed(1)} ms`),
  );
  client.on('gone', ({ bytes }) =>
    say(flags, `${bytes} bytes of output are no longer kept; the log has them`),
  );
  const outputs = [client.stdout, client.stderr, client.serial];
  client.stdout.pipe(process.stdout, { end: false });
  client.stderr.pipe(process.stderr, { end: false });
  client.serial.pipe(process.stdout, { end: false });
  let asked: number | undefined;
  const terminal = attachTerminal(client, (status) => {
    asked = status;
    void client.close();
  });
  try {
    const ended = await client.ended;
    await Promise.all(outputs.map((stream) => finished(stream)));
    sayEnd(flags, ended);
    return statusOfEnd(ended);
  } catch (error) {
    if (asked !== undefined) return asked;
    throw error;
  } finally {
    terminal.release();
  }
}
