/** A pair in two processes of their own, as `lockstep demo` starts it, with a console client here. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SideProcess } from '../../lib/control/side-process.js';
import { ConsoleClient } from '../../lib/index.js';
import { within } from './measure.js';

const START_LIMIT_MS = 20_000;

export interface PairProcesses {
  primary: SideProcess;
  shadow: SideProcess;
  client: ConsoleClient;
  /** Kills what is left, and removes the logs. */
  end: () => Promise<void>;
}

/** `image` is an image file. `directory` is made. */
export async function startPair(directory: string, image: string): Promise<PairProcesses> {
  mkdirSync(directory, { recursive: true });
  const at = (name: string) => join(directory, name);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--force'];
  const own = (name: string) => ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
  const sides: SideProcess[] = [];
  let client: ConsoleClient | undefined;
  const end = async () => {
    await client?.close();
    for (const side of sides) {
      if (side.exited === undefined) side.kill();
      await side.end();
    }
    rmSync(directory, { recursive: true, force: true });
  };
  const start = async () => {
    const primary = new SideProcess('primary', [...shared, ...own('primary'), '--image', image]);
    sides.push(primary);
    await primary.notice('listening');
    const shadow = new SideProcess('shadow', [...shared, ...own('shadow')]);
    sides.push(shadow);
    await primary.notice('armed');
    client = await ConsoleClient.connect({
      addresses: ['primary', 'shadow'].map((name) => `unix:${at(`${name}.console`)}`),
    });
    // Whoever waits for the end asks for it; a bench that gives up must not end the process.
    client.ended.catch(() => {});
    return { primary, shadow, client, end };
  };
  try {
    return await within(START_LIMIT_MS, 'starting a pair', start(), () => {});
  } catch (error) {
    await end();
    throw error;
  }
}
