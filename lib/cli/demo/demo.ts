import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type ConsoleFlags, consoleDemo } from './console-demo.js';
import { whyNoHosts } from './hosts.js';
import { findMail } from './mail.js';
import { Screen } from './screen.js';
import { type UnplugFlags, unplugDemo } from './unplug.js';

interface Flags extends ConsoleFlags, UnplugFlags {
  console?: boolean;
  directory?: string;
}

/** Resolves with the status to exit with when somebody asks this process to end. */
function interruption(): Promise<number> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve(130));
    process.once('SIGTERM', () => resolve(143));
  });
}

async function tell(flags: Flags, directory: string, screen: Screen, over: AbortSignal): Promise<string[]> {
  if (flags.console) return await consoleDemo(flags, directory, screen, over);
  const mail = findMail();
  const why = whyNoHosts() ?? (typeof mail === 'string' ? mail : undefined);
  if (why === undefined && typeof mail !== 'string')
    return await unplugDemo(flags, mail, directory, screen, over);
  screen.step(`No hosts to unplug here (${why}): the console demo instead`);
  return await consoleDemo(flags, directory, screen, over);
}

/** `lockstep demo`: exits 0 only when nothing at all was off. */
export default async function demo(flags: Flags): Promise<number> {
  const screen = new Screen(process.stdout);
  const directory = flags.directory
    ? resolve(flags.directory)
    : mkdtempSync(join(tmpdir(), 'lockstep-demo-'));
  mkdirSync(directory, { recursive: true });
  const over = new AbortController();
  const story = tell(flags, directory, screen, over.signal);
  const outcome = await Promise.race([story, interruption()]);
  if (typeof outcome === 'number') {
    over.abort();
    // What it started is ended before this process is; that it was cut short is no news.
    await story.catch(() => {});
    screen.clear();
    return outcome;
  }
  screen.line();
  for (const what of outcome) screen.step(`WRONG: ${what}`);
  screen.step(outcome.length === 0 ? 'All as it should be.' : 'The demo failed.');
  screen.line(`Recordings are in ${directory}`);
  return outcome.length === 0 ? 0 : 1;
}
