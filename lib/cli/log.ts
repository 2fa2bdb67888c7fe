import { once } from 'node:events';
import { describePacket } from '../packet.js';
import { Recording, type RecordingEvent, type RecordingInfo } from '../recording.js';
import { bytes, count, say } from './report.js';

interface Flags {
  json?: boolean;
  quiet?: boolean;
}

async function print(text: string): Promise<void> {
  if (!process.stdout.write(`${text}\n`)) await once(process.stdout, 'drain');
}

function describe(info: RecordingInfo): string {
  const { firstTimeUs, lastTimeUs, events, checkpoints } = info;
  const ending =
    info.ending === 'cut'
      ? 'cut off: no end was recorded'
      : info.endReason === 'failed'
        ? 'failed: the log could not be written any further'
        : `${info.endReason}, status ${info.endStatus}`;
  const perEvent =
    events > checkpoints
      ? `, ${(info.eventBytes / (events - checkpoints)).toFixed(1)} bytes each before compression`
      : '';
  const options = Object.entries(info.options)
    .filter(([key]) => key !== 'seed') // a secret: --json has it
    .map(([key, value]) => `  ${key.padEnd(16)} ${value}`);
  return [
    `version       ${info.version}`,
    ...(info.startEvent > 0
      ? [
          `starts        behind event ${info.startEvent.toLocaleString('en-US')}, from the state of a running machine`,
        ]
      : []),
    `events        ${events.toLocaleString('en-US')}${perEvent}`,
    `digests       ${info.digests.toLocaleString('en-US')} (${bytes(info.digestBytes)})`,
    ...(info.checkpoints > 0
      ? [`forced stops  ${info.checkpoints.toLocaleString('en-US')} (${bytes(info.checkpointBytes)})`]
      : []),
    `takeovers     ${info.takeovers}`,
    `input         ${bytes(info.inputBytes)}`,
    `virtual time  ${firstTimeUs ? new Date(firstTimeUs / 1000).toISOString() : '-'}, ${((lastTimeUs - firstTimeUs) / 1e6).toFixed(3)} s`,
    `ended         ${ending}`,
    `file          ${bytes(info.fileBytes)}, whole frames up to byte ${info.wholeBytes}`,
    `image         ${bytes(info.imageBytes)}, sha256 ${info.imageSha256}`,
    'machine',
    ...options,
  ].join('\n');
}

/** `lockstep log info`. */
export async function info(flags: Flags, path: string): Promise<number> {
  const { info } = await Recording.open(path);
  await print(flags.json ? JSON.stringify({ ...info }) : describe(info));
  return 0;
}

function shown(content: Uint8Array): string {
  const text = JSON.stringify(Buffer.from(content).toString('latin1'));
  return text.length <= 80 ? text : `${text.slice(0, 76)}..." (${bytes(content.length)})`;
}

function line({ type, ...rest }: RecordingEvent): string {
  if (type === 'event') {
    const inputs = rest.inputs as { kind: string; channel: number; bytes: Uint8Array }[];
    const time = rest.timeUs === undefined ? '' : ` ${new Date(Number(rest.timeUs) / 1000).toISOString()}`;
    const what = inputs.map(({ kind, channel, bytes }) => {
      if (kind === 'packet') return ` packet[${describePacket(bytes)}]`;
      return ` ${kind}[${channel}]${bytes.length > 0 ? ` ${shown(bytes)}` : ''}`;
    });
    return `${String(rest.lsn).padStart(8)} +${rest.accesses}${time}${what.join('')}`;
  }
  const fields = Object.entries(rest).filter(([, value]) => typeof value !== 'object');
  return `${' '.repeat(9)}${type} ${fields.map(([key, value]) => `${key}=${value}`).join(' ')}`;
}

/** Bytes as base64, the rest as it is. */
function json(record: RecordingEvent): string {
  return JSON.stringify(record, (_key, value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value,
  );
}

/** `lockstep log events`: one line each. */
export async function events(flags: Flags, path: string): Promise<number> {
  const recording = await Recording.open(path);
  for await (const record of recording.events()) await print(flags.json ? json(record) : line(record));
  return 0;
}

/** `lockstep log verify`. */
export async function verify(flags: Flags, path: string): Promise<number> {
  const { info } = await Recording.open(path);
  const whole = info.ending === 'ended';
  if (flags.json) {
    const { events, digests, fileBytes, wholeBytes } = info;
    await print(JSON.stringify({ version: 1, whole, events, digests, fileBytes, wholeBytes }));
  }
  const tail = info.fileBytes - info.wholeBytes;
  const verdict = whole
    ? 'whole'
    : `cut off after byte ${info.wholeBytes}${tail > 0 ? `, ${bytes(tail)} of a torn frame behind it` : ''}`;
  say(flags, `${path}: ${count(info.events, 'event')}, every checksum right, ${verdict}`);
  return whole ? 0 : 1;
}

/** `lockstep log repair`. */
export async function repair(flags: Flags, path: string): Promise<number> {
  const result = await Recording.repair(path);
  if (flags.json) await print(JSON.stringify({ version: 1, ...result }));
  say(
    flags,
    `${path}: kept ${bytes(result.keptBytes)} (${count(result.events, 'event')}), cut ${bytes(result.droppedBytes)}`,
  );
  return 0;
}
