import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../control/control-client.js';
import type { Pause, SideReport } from '../control/side-report.js';
import { type ErrorCode, LockstepError } from '../errors.js';
import { aligned, bytes } from './report.js';

interface Flags {
  json?: boolean;
  /** Seconds; true without a number. */
  watch?: number | true;
}

/** A side that answers, or why it does not. */
type Answer = { control: string } & ({ report: SideReport } | { error: string });

async function look(control: string): Promise<Answer> {
  try {
    const reply = await ask(control, { op: 'status' });
    if ('report' in reply) return { control, report: reply.report };
    const { code, message } = reply.ok ? { code: 'ERR_LOCKSTEP_STATE', message: 'no side of a pair' } : reply;
    throw new LockstepError(code as ErrorCode, message);
  } catch (error) {
    return { control, error: error instanceof Error ? error.message : String(error) };
  }
}

function age(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function describePause({ endedAt, totalMs, claimMs, catchUpMs, generation, as, cause }: Pause): string {
  const parts = [
    `claim ${claimMs.toFixed(1)}`,
    ...(as === 'shadow' ? [`catch-up ${catchUpMs.toFixed(1)}`] : []),
  ];
  const what = as === 'shadow' ? 'took over' : 'went on alone';
  return `    ${endedAt}  ${what}, generation ${generation}, ${totalMs.toFixed(1)} ms (${parts.join(', ')}): ${cause}`;
}

const COLUMNS: [string, (control: string, report: SideReport) => string][] = [
  ['side', (control) => control],
  ['role', (_, { role }) => role],
  ['protected', (_, report) => (report.protected ? 'yes' : 'NO')],
  ['generation', (_, { generation }) => String(generation)],
  ['events', (_, { events }) => events.toLocaleString('en-US')],
  ['lag', (_, { lagEvents }) => lagEvents.toLocaleString('en-US')],
  ['log', (_, { logBytes }) => bytes(logBytes)],
  ['log rate', (_, report) => `${bytes(Math.round(report.logBytesPerSecond))}/s`],
  ['held', (_, { outputBytesHeld }) => bytes(outputBytesHeld)],
  ['round trip', (_, { linkRoundTripUs: us }) => (us ? `${us.toFixed(0)} us` : '-')],
  ['up', (_, { upSeconds }) => age(upSeconds)],
];

function table(answers: Answer[]): string {
  const rows = [COLUMNS.map(([title]) => title)];
  const below: string[] = [];
  for (const answer of answers) {
    if ('error' in answer) {
      rows.push([answer.control, 'gone', ...COLUMNS.slice(2).map(() => '-')]);
      continue;
    }
    rows.push(COLUMNS.map(([, cell]) => cell(answer.control, answer.report)));
    if (answer.report.pauses.length > 0)
      below.push(`  ${answer.control}, pauses:`, ...answer.report.pauses.map(describePause));
  }
  return [...aligned(rows), ...below].join('\n');
}

/** `lockstep status`: 0 when the machine is protected, 1 when it runs unprotected, 2 when nobody answers for it. */
export default async function status(flags: Flags, controls: string[]): Promise<number> {
  for (;;) {
    const answers = await Promise.all(controls.map(look));
    const text = flags.json ? JSON.stringify({ version: 1, sides: answers }) : table(answers);
    process.stdout.write(`${text}\n`);
    if (flags.watch === undefined) {
      const live = answers.flatMap((answer) => ('report' in answer ? [answer.report] : []));
      const primary = live.find(({ role }) => role === 'primary');
      return primary ? Number(!primary.protected) : live.some((side) => side.protected) ? 0 : 2;
    }
    await sleep((flags.watch === true ? 1 : flags.watch) * 1000);
  }
}
