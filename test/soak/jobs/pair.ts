// Takeovers: every fault of test/helpers/pair-faults.ts, as often as the issue asks for.
import {
  ARBITER,
  BOTH_ALIVE,
  blocks,
  CORRUPTIONS,
  type Fault,
  KILLS,
  RACE_FAULTS,
  TAKEOVER_FAULTS,
  WORK_FAULTS,
} from '../../helpers/pair-fault-list.js';
import { Random } from '../../helpers/random.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'Pair under faults';

const FAULTS: readonly Fault[] = [
  ...KILLS,
  ...WORK_FAULTS,
  ...TAKEOVER_FAULTS,
  ...RACE_FAULTS,
  ...BOTH_ALIVE,
  ...ARBITER,
  ...blocks(10_000),
  ...CORRUPTIONS,
];
/** A fault that keeps coming too late is tried again, but not for ever. */
const TRIES = 3;

/** What is known of one fault so far. */
interface Tally {
  tried: number;
  struck: number;
  whole: number;
  beginning: number;
  digests: number;
  failures: { seed: number; message: string }[];
}

function seedOf(seed: number, fault: number, attempt: number): number {
  return (seed + fault * 100_003 + attempt * 7919) >>> 0;
}

async function once(fault: Fault, seed: number, tally: Tally, context: SoakContext): Promise<void> {
  try {
    const seen = await fault.scenario(new Random(seed));
    if (seen.struck) tally.struck++;
    tally[seen.output]++;
    tally.digests += seen.digests;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    tally.failures.push({ seed, message });
    context.say(`FAILED with seed ${seed}: ${fault.name}\n${message}`);
  }
  context.save();
}

async function soakFault(fault: Fault, index: number, tally: Tally, context: SoakContext): Promise<void> {
  const wanted = Math.max(1, Math.round(fault.times * context.scale));
  let running = 0;
  const worker = async () => {
    while (tally.struck + tally.failures.length + running < wanted && tally.tried < wanted * TRIES) {
      running++;
      await once(fault, seedOf(context.seed, index, tally.tried++), tally, context);
      running--;
    }
  };
  await Promise.all(Array.from({ length: context.parallel }, worker));
  context.say(`${tally.failures.length === 0 ? 'ok' : 'BAD'} ${tally.struck} of ${wanted}: ${fault.name}`);
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const tallies = context.state as Record<string, Tally>;
  for (const [index, fault] of FAULTS.entries()) {
    tallies[fault.name] ??= { tried: 0, struck: 0, whole: 0, beginning: 0, digests: 0, failures: [] };
    await soakFault(fault, index, tallies[fault.name] as Tally, context);
  }
  const rows = FAULTS.map(({ name }) => {
    const { tried, struck, whole, beginning, digests, failures } = tallies[name] as Tally;
    return `| ${name} | ${tried} | ${struck} | ${whole} | ${beginning} | ${digests} | ${failures.length} |`;
  });
  const all = FAULTS.flatMap((fault) => (tallies[fault.name] as Tally).failures);
  const text = [
    'Output *whole*: byte for byte the host program’s. *A beginning* of it: both sides were lost, and what',
    'came was right. Every byte that left either side was compared, and every digest of both logs.',
    '',
    '| fault | runs | fault met | output whole | a beginning | digests equal | failed |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    '',
    ...all.map(({ seed, message }) => `- seed ${seed}: ${message.split('\n')[0]}`),
  ].join('\n');
  return { text, failed: all.length };
}
