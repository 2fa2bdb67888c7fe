/** From the start of `lockstep run` to the program's first output, and where the time goes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Image } from '../../lib/index.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, summarise, within } from '../lib/measure.js';
import { BUSYBOX } from '../lib/programs.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const LOCKSTEP = join(root, 'bin/lockstep.js');
const LIMIT_MS = 20_000;

/** Milliseconds from spawn to the first byte on its stdout, and all it wrote there. */
async function firstByte(args: string[], cache: string): Promise<{ ms: number; text: string }> {
  // The packer remembers a program's sites: in a cache of ours, not in the user's.
  const env = { ...process.env, XDG_CACHE_HOME: cache };
  const begun = performance.now();
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], cwd: root, env });
  let ms = Number.NaN;
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    if (text === '') ms = performance.now() - begun;
    text += chunk.toString();
  });
  const [status] = await within(LIMIT_MS, args.join(' '), once(child, 'close'), () => child.kill('SIGKILL'));
  if (status !== 0 || text === '') throw new Error(`${args.join(' ')} ended with ${status}`);
  return { ms, text };
}

/** The same steps in one process, each with the time since that process began. */
const STEPS = ['node', 'library', 'addon', 'image', 'machine', 'running', 'output'] as const;
type Step = (typeof STEPS)[number];

const WHAT: Record<Step, string> = {
  node: 'Node itself, up to the first line of JavaScript',
  library: 'loading dist/',
  addon: 'loading the addon',
  image: 'the image',
  machine: 'making the machine',
  running: 'starting its thread',
  output: 'the guest: kernel, program, first output',
};

/** Plain JavaScript on dist/, as the CLI is: tsx would be measured otherwise. */
function stepsProgram(image: string | null): string {
  const make =
    image === null
      ? `lockstep.Image.fromProgram({ argv: ['${BUSYBOX}', 'echo', 'x'] })`
      : `lockstep.Image.open(${JSON.stringify(image)})`;
  return `
const at = { node: performance.now() };
const lockstep = await import(${JSON.stringify(join(root, 'dist/index.js'))});
at.library = performance.now();
const { native } = await import(${JSON.stringify(join(root, 'dist/addon.js'))});
native();
at.addon = performance.now();
const image = await ${make};
at.image = performance.now();
const machine = await lockstep.Machine.create(image, { stdin: 'ignore', stderr: 'ignore' });
at.machine = performance.now();
const output = new Promise((resolve) => {
  machine.stdout.once('data', () => resolve(performance.now()));
});
await machine.start();
at.running = performance.now();
at.output = await output;
await machine.ended;
await machine.close();
process.stdout.write(JSON.stringify(at));
`;
}

export const boot: Case = {
  name: 'boot',
  about: 'from the start of `lockstep run` to the first output of the program',
  minutes: 0.6,
  run: async ({ directory, pairs, progress, quick, timer }) => {
    const timeUp = timer(1);
    const packed = join(directory, 'echo.image');
    await (await Image.fromProgram({ argv: [BUSYBOX, 'echo', 'x'] })).write(packed, { force: true });
    const scripts = { packed: join(directory, 'boot-packed.mjs'), path: join(directory, 'boot-path.mjs') };
    writeFileSync(scripts.packed, stepsProgram(packed));
    writeFileSync(scripts.path, stepsProgram(null));
    const steps: Record<'packed' | 'path', Record<Step, number[]>> = {
      packed: Object.fromEntries(STEPS.map((step) => [step, []])) as never,
      path: Object.fromEntries(STEPS.map((step) => [step, []])) as never,
    };
    const warm = join(directory, 'cache');
    let colds = 0;
    const run = async (args: string[], cache = warm) =>
      (await firstByte([LOCKSTEP, 'run', '--quiet', ...args], cache)).ms;
    const byPath = ['--', BUSYBOX, 'echo', 'x'];
    await run(byPath);
    const split = (kind: 'packed' | 'path') => async () => {
      const { text } = await firstByte([scripts[kind]], warm);
      const at = JSON.parse(text) as Record<Step, number>;
      let before = 0;
      for (const step of STEPS) {
        steps[kind][step].push(at[step] - before);
        before = at[step];
      }
      return at.output;
    };
    const rounds = quick ? 3 : 3 * pairs;
    const taken = await inTurn(
      {
        packed: () => run(['--image', packed]),
        path: () => run(byPath),
        first: () => run(byPath, join(directory, `cold-${colds++}`)),
        node: async () => (await firstByte(['-e', 'process.stdout.write("x")'], warm)).ms,
        splitPacked: split('packed'),
        splitPath: split('path'),
      },
      {
        rounds,
        timeUp,
        progress: (done, of) => progress(`boot: start ${done} of ${of}`),
      },
    );
    const row = (what: string, samples: number[], limit?: number): Row => ({
      budget: 'boot, first output',
      what,
      ours: { unit: 'ms', value: summarise(samples) },
      limit,
    });
    const tell = (kind: 'packed' | 'path') =>
      STEPS.map((step) => `${WHAT[step]} ${summarise(steps[kind][step]).median.toFixed(1)}`).join(', ');
    return {
      rows: [
        row('lockstep run --image FILE', taken.packed, 100),
        row('lockstep run -- /bin/busybox echo x', taken.path, 100),
        row('the same for the first time: the packer scans the program', taken.first),
        row('for comparison: node -e, its first output', taken.node),
      ],
      notes: [
        `Boot of a packed image by step, median ms: ${tell('packed')}.`,
        `Boot of a program by its path, median ms: ${tell('path')}.`,
      ],
    };
  },
};
