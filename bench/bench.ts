/**
 * `npm run bench`: measures what the budgets are about, prints one table and writes bench/RESULTS.md.
 * Nothing here asserts a time. RESULTS.md is left alone by --only and --quick. A machine that others use meanwhile shows in the notes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { boot } from './cases/boot.js';
import { cpu } from './cases/cpu.js';
import { digestCost } from './cases/digest-cost.js';
import { exitBound } from './cases/exit-bound.js';
import { exitCost } from './cases/exit-cost.js';
import { failoverConsole } from './cases/failover-console.js';
import { failoverTime } from './cases/failover-time.js';
import { idle } from './cases/idle.js';
import { logVolume } from './cases/log-volume.js';
import { micro } from './cases/micro.js';
import { outputLatency } from './cases/output-latency.js';
import { pairThroughput } from './cases/pair-throughput.js';
import { qemu } from './cases/qemu.js';
import { redis } from './cases/redis.js';
import { reprotect } from './cases/reprotect.js';
import { snapshot } from './cases/snapshot.js';
import { stream } from './cases/stream.js';
import { tcpRelay } from './cases/tcp-relay.js';
import { thinLink } from './cases/thin-link.js';
import type { Case, Outcome, Settings } from './lib/case.js';
import { hostFacts, watchOthers } from './lib/host.js';
import { Progress } from './lib/progress.js';
import { allNotes, summaryLine, textTable } from './lib/report.js';
import { writeResults } from './lib/results-file.js';

const CASES: Case[] = [
  cpu,
  exitBound,
  logVolume,
  idle,
  boot,
  failoverConsole,
  failoverTime,
  reprotect,
  snapshot,
  stream,
  outputLatency,
  pairThroughput,
  thinLink,
  redis,
  exitCost,
  digestCost,
  micro,
  qemu,
  tcpRelay,
];
/** Of the time that a case may take, with --quick. */
const QUICK_SHARE = 0.1;
const RESULTS = fileURLToPath(new URL('RESULTS.md', import.meta.url));

interface Options {
  only?: Case[];
  without: Case[];
  pairs: number;
  quick?: boolean;
}

function parse(argv: string[]): Options {
  const whole = (text: string) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InvalidArgumentError('Not a whole number from 1 on.');
    return value;
  };
  const some = (text: string) =>
    text.split(',').map((name) => {
      const found = CASES.find((one) => one.name === name);
      if (!found) throw new InvalidArgumentError(`There is no '${name}'.`);
      return found;
    });
  return new Command('npm run bench --')
    .option('--only <names>', `of ${CASES.map(({ name }) => name).join(',')}`, some)
    .option('--without <names>', 'all but these; RESULTS.md then says what was left out', some, [])
    .option('--pairs <n>', 'rounds of runs in turn', whole, 5)
    .option('--quick', 'everything once, in about two minutes: for trying the suite, not for numbers')
    .addHelpText('after', `\n${CASES.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`).join('\n')}`)
    .parse(argv)
    .opts<Options>();
}

/** A case that fails says so in the table; the others still run. */
async function runCase(one: Case, settings: Omit<Settings, 'timer'>): Promise<Outcome> {
  const others = watchOthers();
  const limitMs = one.minutes * 60_000 * (settings.quick ? QUICK_SHARE : 1);
  const timer = (parts: number) => {
    const end = performance.now() + limitMs / parts;
    return () => performance.now() > end;
  };
  try {
    const outcome = await one.run({ ...settings, timer });
    const { others: cores, stolen } = others();
    if (cores + stolen < 0.1) return outcome;
    const note = `Not quiet: during \`${one.name}\` other processes used ${cores.toFixed(2)} cores, and ${stolen.toFixed(2)} were stolen.`;
    return { ...outcome, notes: [...(outcome.notes ?? []), note] };
  } catch (error) {
    process.exitCode = 1;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return {
      rows: [{ budget: one.name, what: one.about, skipped: 'FAILED, see the notes' }],
      notes: [`\`${one.name}\` failed: ${why.replaceAll(/\s*\n\s*/g, ' ')}`],
    };
  }
}

const { only = CASES, without, pairs, quick = false } = parse(process.argv);
const progress = new Progress();
const begun = performance.now();
const directory = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    rmSync(directory, { recursive: true, force: true });
    process.exit(status);
  });
}
const settings: Omit<Settings, 'timer'> = {
  pairs: quick ? Math.min(pairs, 2) : pairs,
  quick,
  runMs: quick ? 600 : 5000,
  directory,
  progress: (text) => progress.say(text),
};
const outcomes: Outcome[] = [];
try {
  for (const one of CASES.filter((known) => only.includes(known) && !without.includes(known)))
    outcomes.push(await runCase(one, settings));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
progress.clear();
const rows = outcomes.flatMap((outcome) => outcome.rows);
const notes = allNotes(outcomes);
for (const { budget, what, ratio } of rows) {
  if (typeof ratio === 'object' && ratio.count < settings.pairs)
    notes.push(
      `Only ${ratio.count} rounds for "${budget}" (${what}): this machine was too busy for more in time.`,
    );
}
if (without.length > 0) notes.unshift(`Left out: ${without.map(({ name }) => name).join(', ')}.`);
if (quick) notes.unshift('A quick run: the suite works; its numbers are too short to count.');
const minutes = (performance.now() - begun) / 60_000;
const command = ['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])].join(
  ' ',
);
console.log(textTable(rows));
console.log(`\n${notes.map((note) => `- ${note}`).join('\n')}`);
console.log(`\n${summaryLine(rows)}, ${minutes.toFixed(1)} minutes.`);
if (quick || only !== CASES) console.log('bench/RESULTS.md is left as it is: it holds whole runs only.');
else writeResults(RESULTS, { command, host: await hostFacts(), rows, notes, minutes });
