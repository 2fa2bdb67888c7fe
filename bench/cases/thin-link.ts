/**
 * What compressing the link is worth where the link is what holds the machine up: redis in a pair whose sides are
 * joined by 10 Mbit/s, filled with text by several `redis-cli --pipe`, with and
 * without.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SideProcess } from '../../lib/control/side-process.js';
import { BadCable, NEAR } from '../../test/helpers/bad-cable.js';
import { run } from '../../test/helpers/namespace.js';
import { redisServer } from '../../test/helpers/redis-server.js';
import type { Case } from '../lib/case.js';
import { inTurn, ratios, summarise, within } from '../lib/measure.js';

const LINE = { kbitS: 10_000, delayMs: 5, queueKb: 128 };
/** Of the machine; the cable has the network that machines usually have. */
const ADDRESS = '10.0.9.15';
const VALUE_BYTES = 1000;
const LIMIT_MS = 120_000;
/** Text that nobody made up for this: Python's own modules. */
const TEXT = '/usr/lib/python3.11';

/** Clients at once, each with a part of the text. One alone would mostly wait for answers. */
const CLIENTS = 8;

/** The commands for as many values as make so many bytes, for each client its own. */
function commands(bytes: number): Buffer[] {
  const text = Buffer.concat(
    readdirSync(TEXT)
      .filter((name) => name.endsWith('.py'))
      .sort()
      .map((name) => readFileSync(join(TEXT, name))),
  );
  const parts = Array.from({ length: CLIENTS }, () => [] as Buffer[]);
  const count = Math.floor(Math.min(bytes, text.length) / VALUE_BYTES);
  for (let i = 0; i < count; i++) {
    const key = `key:${i}`;
    parts[i % CLIENTS]?.push(
      Buffer.from(`*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${VALUE_BYTES}\r\n`),
      text.subarray(i * VALUE_BYTES, (i + 1) * VALUE_BYTES),
      Buffer.from('\r\n'),
    );
  }
  return parts.map((part) => Buffer.concat(part));
}

/** Resolves with how long it took until all was acknowledged; `carried` is told what went over the cable. */
async function fill(
  compress: string,
  argv: string[],
  files: string[],
  directory: string,
  carried: (bytes: number) => void,
): Promise<number> {
  const cable = await BadCable.lay('host', { seed: 1, ...LINE });
  const sides: SideProcess[] = [];
  try {
    const { near, far } = cable;
    for (const line of ['link add plug type bridge', 'address add 10.0.9.2/24 dev plug', 'link set plug up'])
      await run(near.inside(['ip', ...line.split(' ')]));
    const side = (name: 'primary' | 'shadow', prefix: string[], more: string[]) => {
      const at = (what: string) => join(directory, `${name}.${what}`);
      const shared = [
        '--link',
        `tcp:${NEAR}:7000`,
        '--insecure',
        '--arbiter',
        `file:${join(directory, 'arbiter')}`,
      ];
      const own = [
        '--console',
        `unix:${at('console')}`,
        '--log',
        at('log'),
        '--compress',
        compress,
        '--force',
      ];
      const made = new SideProcess(name, [...shared, ...own, ...more], prefix);
      sides.push(made);
      return made;
    };
    const net = ['--net', 'bridge:plug', '--ip', `${ADDRESS}/24`];
    const primary = side('primary', near.inside([]), [...net, '--', ...argv]);
    await primary.notice('listening');
    side('shadow', far.inside([]), ['--once']);
    await primary.notice('armed');
    const ask = (words: string[], input: 'ignore' | number) => {
      const [program, ...rest] = near.inside(['redis-cli', '-h', ADDRESS, ...words]) as [string, ...string[]];
      return spawn(program, rest, { stdio: [input, 'pipe', 'inherit'] });
    };
    for (let tries = 0, status = 1; status !== 0; tries++) {
      if (tries === 600) throw new Error('redis does not answer');
      [status] = (await once(ask(['ping'], 'ignore'), 'close')) as [number];
    }
    const begun = performance.now();
    const filled = files.map(async (file) => {
      const input = openSync(file, 'r');
      const client = ask(['--pipe'], input);
      closeSync(input);
      let said = '';
      client.stdout?.on('data', (chunk) => {
        said += chunk;
      });
      await within(LIMIT_MS, 'filling redis', once(client, 'close'), () => client.kill());
      if (!/errors: 0,/.test(said)) throw new Error(`redis-cli --pipe: ${said}`);
    });
    await Promise.all(filled);
    const ms = performance.now() - begun;
    return ms;
  } finally {
    for (const side of sides) side.kill();
    await Promise.all(sides.map((side) => side.end()));
    const [there] = await cable.cut();
    carried(there.bytes);
  }
}

export const thinLink: Case = {
  name: 'thin-link',
  about: 'a pair over a link of 10 Mbit/s, compressed and not',
  minutes: 2,
  run: async ({ directory, pairs, quick, progress, timer }) => {
    if (process.getuid?.() !== 0)
      return { rows: [{ budget: 'thin link', what: 'all of it', skipped: 'needs root' }] };
    const own = join(directory, 'thin-link');
    mkdirSync(own);
    const argv = redisServer(own);
    const inputs = commands((quick ? 1 : 6) << 20);
    const files = inputs.map((_, i) => join(own, `commands.${i}`));
    for (const [i, file] of files.entries()) writeFileSync(file, inputs[i] as Buffer);
    const bytes = inputs.reduce((sum, { length }) => sum + length, 0);
    const carried = { auto: 0, never: 0 };
    const arm = (compress: 'auto' | 'never') => async () => {
      const here = join(own, 'sides');
      mkdirSync(here);
      const ms = await fill(compress, argv, files, here, (bytes) => {
        carried[compress] = bytes;
      });
      rmSync(here, { recursive: true });
      return ms;
    };
    const ms = await inTurn(
      { auto: arm('auto'), never: arm('never') },
      {
        rounds: pairs,
        timeUp: timer(1),
        progress: (done, of) => progress(`thin-link: run ${done} of ${of}`),
      },
    );
    rmSync(own, { recursive: true });
    const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
    return {
      rows: [
        {
          budget: 'pair over 10 Mbit/s, --compress auto / never',
          what: `redis filled with ${mib(bytes)} MiB of text (Python's modules)`,
          ours: { unit: 'ms', value: summarise(ms.auto) },
          peer: { unit: 'ms', value: summarise(ms.never) },
          ratio: summarise(ratios(ms.auto, ms.never)),
          limit: 1,
        },
      ],
      notes: [
        `thin-link: over the link from the primary to its shadow went ${mib(carried.auto)} MiB, uncompressed ${mib(carried.never)} MiB, joining included.`,
      ],
    };
  },
};
