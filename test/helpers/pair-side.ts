// `node pair-side.ts primary|shadow --option value ...`: a side of a pair made through the API. Prints what
// `lockstep primary --json` prints, and blocks its event loop for N milliseconds when told "block N" on stdin.
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Arbiter, Image, type PairNoticeName, Primary, Shadow } from '../../lib/index.js';

const text = { type: 'string' } as const;
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean' },
    ...{ link: text, console: text, arbiter: text, log: text, image: text },
    ...{ silence: text, heartbeat: text, 'digest-every': text },
  },
});

const NOTICES: PairNoticeName[] = [
  ...(['listening', 'connected', 'armed', 'console-connected', 'console-lost', 'suspected'] as const),
  ...(['claiming', 'arbiter-unreachable', 'claim-won', 'claim-lost', 'alone', 'live'] as const),
  ...(['first-output', 'fenced', 'diverged', 'peer-ended', 'slowed'] as const),
];

const print = (event: string, fields: object) =>
  process.stderr.write(`${JSON.stringify({ event, ...fields })}\n`);

/** Nothing of JavaScript runs in this process meanwhile. */
function block(ms: number): void {
  const begin = performance.now();
  print('blocking', { ms });
  while (performance.now() - begin < ms);
  print('unblocked', { ms });
}

async function main(): Promise<number> {
  const required = (name: 'link' | 'console' | 'arbiter') => values[name] as string;
  const options = {
    link: required('link'),
    console: required('console'),
    arbiter: Arbiter.parse(required('arbiter')),
    log: values.log,
    silenceMs: Number(values.silence),
    heartbeatMs: Number(values.heartbeat),
  };
  const digestEvery = Number(values['digest-every'] ?? 5);
  const side =
    positionals[0] === 'primary'
      ? await Primary.create(await Image.open(values.image as string), { ...options, digestEvery })
      : await Shadow.create(options);
  for (const name of NOTICES) side.on(name as 'live', (notice) => print(name, notice));
  const commands = createInterface({ input: process.stdin });
  commands.on('line', (line) => {
    const [, ms] = /^block (\d+)$/.exec(line) ?? [];
    if (ms) block(Number(ms));
  });
  await side.start();
  const { status } = await side.ended;
  await side.close();
  return status;
}

process.exit(await main());
