import { DivergenceError } from '../errors.js';
import { Image } from '../image.js';
import { type Replay, type ReplayResult, replay } from '../replay.js';
import { bytes, count, reportError, say } from './report.js';

interface Flags {
  quiet?: boolean;
  json?: boolean;
  stdout?: boolean;
  event?: number;
  image?: string;
  sandbox?: boolean;
}

/** A bar on stderr, where somebody watches and the guest's output does not go through it. */
async function showProgress(replaying: Replay, flags: Flags): Promise<() => void> {
  if (flags.quiet || !process.stderr.isTTY || (flags.stdout && process.stdout.isTTY)) return () => {};
  const { default: progress } = await import('cli-progress');
  const bar = new progress.SingleBar({
    format: 'replay [{bar}] {percentage}% | {value}/{total} events | {digests} digests | ETA {eta_formatted}',
    hideCursor: true,
    clearOnComplete: true,
    stream: process.stderr,
  });
  replaying.on('progress', ({ events, eventsTotal, digestsChecked }) => {
    if (!bar.isActive) bar.start(eventsTotal, 0, { digests: 0 });
    bar.update(events, { digests: digestsChecked });
  });
  return () => bar.stop();
}

/** The fixed shape that scripts rely on. */
function resultJson({ events, digests, bytes, wallMs, divergence }: ReplayResult): string {
  return JSON.stringify({
    version: 1,
    events,
    digests: { checked: digests.checked, final: digests.final },
    bytes,
    wallMs: Math.round(wallMs * 1000) / 1000,
    divergence: divergence && {
      event: divergence.event,
      kind: divergence.kind,
      where: divergence.where,
      expected: divergence.expected,
      actual: divergence.actual,
    },
  });
}

async function showMachine(replaying: Replay, event: number): Promise<void> {
  const registers = replaying.machine.registers();
  const lines = Object.entries(registers).map(([name, value]) => `${name.padEnd(7)} 0x${value.toString(16)}`);
  const { registers: r, devices: d, memory: m } = await replaying.machine.digest();
  process.stdout.write(`event   ${event}\n${lines.join('\n')}\ndigest  ${r}-${d}-${m}\n`);
}

/** `lockstep replay`. */
export default async function replayCommand(flags: Flags, log: string): Promise<number> {
  const image = flags.image === undefined ? undefined : await Image.open(flags.image);
  const target = flags.stdout ? 'inherit' : 'ignore';
  await using replaying = await replay(log, {
    stopAtEvent: flags.event,
    image,
    stdout: target,
    sandbox: flags.sandbox,
  });
  const hideProgress = await showProgress(replaying, flags);
  if (flags.event !== undefined) {
    await replaying.stopped;
    if (replaying.machine.state === 'paused') {
      hideProgress();
      await showMachine(replaying, flags.event);
      return 0;
    }
  }
  const result = await replaying.result.finally(hideProgress);
  if (flags.json) process.stdout.write(`${resultJson(result)}\n`);
  if (result.divergence) {
    const error = await replaying.machine.ended.catch((cause: unknown) => cause);
    return error instanceof DivergenceError && !flags.quiet ? reportError(error) : 1;
  }
  const cut = !result.ended
    ? '; the log is cut off there, and the last output may never have left the machine'
    : result.ended.reason === 'failed'
      ? `; ${result.ended.detail}`
      : '';
  say(
    flags,
    `${count(result.events, 'event')} replayed from ${bytes(result.bytes)} in ${(result.wallMs / 1000).toFixed(2)} s, ` +
      `${count(result.digests.checked, 'digest')} checked, all equal${cut}`,
  );
  return 0;
}
