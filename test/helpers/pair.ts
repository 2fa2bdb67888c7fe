// A pair of `lockstep primary` and `lockstep shadow` in processes of their own, fed through a ConsoleClient,
// with everything that leaves either side written down. Tests break it; judge() says whether that was seen.
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ConsoleClient } from '../../lib/console-client.js';
import { patience } from './pace.js';
import { SideChild } from './pair-child.js';
import { makePieces, onHost, type PairLoad, type Piece } from './pair-loads.js';
import { ConsoleTap, Relay } from './pair-relay.js';
import type { Random } from './random.js';
import { TcpRelay } from './tcp-relay.js';

export const lockstep = fileURLToPath(new URL('../../bin/lockstep.js', import.meta.url));
const apiSide = fileURLToPath(new URL('./pair-side.ts', import.meta.url));

/** Far more than anything here takes: only what hangs runs into it. */
const HANG_MS = patience(90_000);

export interface PairSettings {
  load: PairLoad;
  random: Random;
  /** LOCKSTEP_FAULT of either side. */
  primaryFault?: string;
  shadowFault?: string;
  silenceMs?: number;
  heartbeatMs?: number;
  digestEvery?: number;
  /** A side that is out of the pair starts over as a shadow; without this it ends. */
  rejoins?: boolean;
  /** Sides made through the API, by a script that blocks its event loop when told to. */
  api?: boolean;
  /** What both sides ask; a directory of the pair's own when not given. */
  arbiter?: string;
  /** Where the primary listens for its shadow; a Unix socket, with a relay before it, when not given. */
  link?: string;
  /** The link is TCP, with something between the sides that may reset it. */
  firewall?: boolean;
  /** More options of both sides. */
  options?: string[];
  /** Puts the command line of either side on a host of its own. */
  inside?: Record<'primary' | 'shadow', (argv: string[]) => string[]>;
}

export interface Verdict {
  load: string;
  /** The output is the host's, or (where nobody was left to go on) a beginning of it. */
  output: 'whole' | 'beginning';
  outputBytes: number;
  repeatedBytes: number;
  /** Events in each log, and digests that matched. */
  events: { primary: number; shadow: number };
  logBytes: { primary: number; shadow: number };
  digests: number;
  primary: string;
  shadow: string;
}

const images = new Map<string, Promise<string>>();
const imageDirectory = mkdtempSync(join(tmpdir(), 'lockstep-images-'));
process.once('exit', () => rmSync(imageDirectory, { recursive: true, force: true }));

/** The load's image, packed once. */
function imageOf({ name, argv }: PairLoad): Promise<string> {
  let image = images.get(name);
  if (!image) {
    const path = join(imageDirectory, `${name}.image`);
    image = run(['image', 'pack', '--quiet', '-o', path, '--', ...argv]).then(({ status, stderr }) => {
      if (status !== 0) throw new Error(`packing ${name} failed: ${stderr}`);
      return path;
    });
    images.set(name, image);
  }
  return image;
}

/** The command line, to its end. */
export async function run(args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [lockstep, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = ['', ''];
  for (const [index, stream] of [child.stdout, child.stderr].entries()) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      texts[index] += text;
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  return { status: status ?? -1, stdout: texts[0] as string, stderr: texts[1] as string };
}

export class PairUnderTest {
  readonly settings: PairSettings;
  readonly directory: string;
  readonly pieces: Piece[];
  readonly primary: SideChild;
  shadow!: SideChild;
  client!: ConsoleClient;
  /** Between shadow and primary. */
  link!: Relay;
  firewall!: TcpRelay;
  readonly taps: { primary: ConsoleTap; shadow: ConsoleTap };
  /** Why the client gave up, when it did. */
  lost: unknown;
  readonly #input: string;
  readonly #host: Promise<{ stdout: Buffer; status: number }>;
  readonly #chunks: Buffer[] = [];
  #lines = 0;
  /** Of the primary's log: what stands before its first frame. */
  headerBytes = 0;
  #piecesFed = 0;
  #linesFed = 0;
  #more = new EventEmitter();
  #over = false;
  #status: number | undefined;
  #fed: Promise<void> | undefined;

  /** Starts both sides and waits until the pair is protected. */
  static async start(settings: PairSettings): Promise<PairUnderTest> {
    const pair = new PairUnderTest(settings, await imageOf(settings.load));
    try {
      await within(pair.#join(), () => `the pair did not start\n${pair.story()}`);
      return pair;
    } catch (error) {
      await pair.close();
      throw error;
    }
  }

  private constructor(settings: PairSettings, image: string) {
    this.settings = settings;
    this.directory = mkdtempSync(join(tmpdir(), 'lockstep-pair-'));
    this.pieces = makePieces(settings.load, settings.random);
    this.#input = this.pieces.map((piece) => piece.text).join('');
    this.#host = onHost(settings.load.argv, this.#input);
    this.#more.setMaxListeners(0);
    mkdirSync(this.at('arbiter'), { mode: 0o700 });
    this.taps = { primary: this.#tap('primary'), shadow: this.#tap('shadow') };
    this.primary = this.#spawn('primary', ['--image', image, ...this.#digestEvery()], settings.primaryFault);
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  log(side: 'primary' | 'shadow'): string {
    return this.at(`${side}.log`);
  }

  #digestEvery(): string[] {
    return ['--digest-every', String(this.settings.digestEvery ?? 5)];
  }

  #tap(side: string): ConsoleTap {
    return new ConsoleTap(this.at(`${side}.tap`), this.at(`${side}.console`));
  }

  #spawn(name: 'primary' | 'shadow', more: string[], fault: string | undefined): SideChild {
    const { silenceMs = patience(1000), heartbeatMs = 50, api, inside } = this.settings;
    const { arbiter = `file:${this.at('arbiter')}`, options: common = [] } = this.settings;
    const unix = `unix:${this.at(name === 'primary' ? 'link' : 'link.relay')}`;
    const tcp = name === 'primary' ? 'tcp:127.0.0.1:0' : this.firewall?.address;
    const link = this.settings.link ?? (this.settings.firewall ? tcp : unix) ?? unix;
    const options = [
      ...['--json', '--link', link, ...common],
      ...['--arbiter', arbiter, '--console', `unix:${this.at(`${name}.console`)}`],
      ...['--log', this.log(name), '--silence', String(silenceMs), '--heartbeat', String(heartbeatMs)],
    ];
    const relink = `unix:${this.at('relink')}`;
    if (this.settings.rejoins) options.push('--relink', relink, '--rejoin', relink);
    else if (name === 'shadow' && !api) options.push('--once');
    const script = api ? ['--import=tsx', apiSide] : [lockstep];
    return new SideChild(
      name,
      [...script, name, ...options, ...more],
      fault ? { LOCKSTEP_FAULT: fault } : {},
      inside?.[name],
    );
  }

  async #join(): Promise<void> {
    await this.primary.until('listening');
    this.headerBytes = this.logBytes('primary');
    if (this.settings.firewall) this.firewall = await TcpRelay.before(this.#listensAt());
    this.link = new Relay(this.at('link.relay'), this.at('link'));
    this.shadow = this.#spawn('shadow', [], this.settings.shadowFault);
    if (!(await this.#armed())) {
      // Its fault met it while it joined: a primary that is not protected yet takes another shadow.
      this.shadow = this.#spawn('shadow', ['--force'], undefined);
      if (!(await this.#armed())) throw new Error('the second shadow died as well');
    }
    const addresses = ['primary', 'shadow'].map((name) => `unix:${this.at(`${name}.tap`)}`);
    this.client = await ConsoleClient.connect({ addresses });
    this.client.stdin.on('error', () => {});
    this.client.stdout.on('error', () => {});
    this.client.stdout.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) this.#lines++;
      this.#more.emit('more');
    });
    const over = (error?: unknown) => {
      this.lost = error;
      this.#over = true;
      this.#more.emit('more');
    };
    const read = once(this.client.stdout, 'end').catch(() => {});
    this.client.ended.then(async ({ status }) => {
      await read;
      this.#status = status;
      over();
    }, over);
    // Nobody is left to go on: the client need not wait for its own limit.
    Promise.all([this.primary.end(), this.shadow.end()]).then(async () => {
      await sleep(300);
      if (!this.#over) await this.client.close();
    });
  }

  /** The link of a primary that chose a port. */
  #listensAt(): string {
    const { detail } = this.primary.notices.find(({ event }) => event === 'listening') ?? {};
    return /tcp:\S+(?=\.$)/.exec(String(detail))?.[0] ?? '';
  }

  /** False: the shadow died before it was armed. Either may be dead by its fault before it can tell. */
  async #armed(): Promise<boolean> {
    await Promise.any([this.primary.until('armed'), this.shadow.until('armed'), this.shadow.end()]);
    if (this.primary.has('armed') || this.shadow.has('armed')) return true;
    // Word of it may be on its way.
    await Promise.race([this.primary.until('armed'), sleep(1000)]);
    return this.primary.has('armed');
  }

  /** Lines of output so far. */
  get lines(): number {
    return this.#lines;
  }

  get output(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Resolves when `lines` lines of output are here, or the pair is over. */
  async untilLines(lines: number): Promise<void> {
    while (this.#lines < lines && !this.#over) await once(this.#more, 'more');
  }

  /** Feeds everything, or as much as the pair takes. */
  feed(): Promise<void> {
    this.#fed ??= this.#feed();
    return this.#fed;
  }

  /** Feeds that many pieces ahead of {@link feed}. */
  async feedPieces(count: number): Promise<void> {
    for (; count > 0; count--) {
      const piece = this.pieces[this.#piecesFed];
      if (!piece || this.#over) return;
      this.#piecesFed++;
      this.#linesFed += piece.lines;
      if (!this.client.stdin.write(piece.text)) {
        await Promise.race([once(this.client.stdin, 'drain'), this.#ended()]);
      }
      if (piece.after === 'answers') await this.untilLines(this.#linesFed * this.settings.load.answers);
      else if (piece.after !== 'nothing') await sleep(piece.after);
    }
  }

  async #feed(): Promise<void> {
    await this.feedPieces(this.pieces.length);
    if (!this.#over) this.client.stdin.end();
  }

  async #ended(): Promise<void> {
    while (!this.#over) await once(this.#more, 'more');
  }

  logBytes(side: 'primary' | 'shadow'): number {
    return statSync(this.log(side)).size;
  }

  /** Resolves when this side's log has grown by this many bytes of frames, or the pair is over. */
  async untilLogged(side: 'primary' | 'shadow', frameBytes: number): Promise<void> {
    while (!this.#over && this.logBytes(side) < this.headerBytes + frameBytes) await sleep(1);
  }

  /**
   * Waits for the end, and checks everything: the joined output, every byte that left either side, how the
   * sides ended, and both logs, every digest. `beginning`: nobody was left to go on, unless all was over before. Throws with the pair's story when anything is off.
   */
  async judge(expected: 'whole' | 'beginning' = 'whole'): Promise<Verdict> {
    try {
      return await this.#judge(expected);
    } finally {
      await this.close();
    }
  }

  async #judge(expected: 'whole' | 'beginning'): Promise<Verdict> {
    const { load } = this.settings;
    await within(Promise.all([this.feed(), this.#ended()]), () => `it hangs\n${this.story()}`);
    // A side that is done waits for its client to hang up.
    for (const tap of [this.taps.primary, this.taps.shadow]) tap.hangUp();
    const ends = Promise.all([this.primary.end(), this.shadow.end()]);
    await Promise.race([ends, sleep(2000)]);
    const wrong: string[] = [];
    for (const side of [this.primary, this.shadow]) {
      if (side.exited === undefined && this.#status !== undefined) await this.#askAgain(side, wrong);
    }
    await within(ends, () => `a side stays\n${this.story()}`);
    const host = await this.#host;
    const { output } = this;
    const whole = this.#status !== undefined && output.equals(host.stdout);
    if (!host.stdout.subarray(0, output.length).equals(output)) {
      wrong.push(`the output is not the host's: ${difference(host.stdout, output)}`);
    } else if (expected === 'whole' && !whole) {
      wrong.push(`${output.length} of ${host.stdout.length} bytes came; the client says: ${this.lost}`);
    } else if (this.#status !== undefined && !whole) {
      wrong.push(`the machine ended after ${output.length} of ${host.stdout.length} bytes`);
    }
    if (this.#status !== undefined && this.#status !== host.status) {
      wrong.push(`the program ended with status ${this.#status}, on the host ${host.status}`);
    }
    for (const side of ['primary', 'shadow'] as const) {
      for (const { channel, offset, bytes } of this.taps[side].left()) {
        const due = channel === 0 ? host.stdout.subarray(offset, offset + bytes.length) : Buffer.alloc(0);
        if (!due.equals(bytes)) {
          wrong.push(`what left the ${side} at byte ${offset} of channel ${channel} is not the host's`);
          break;
        }
      }
    }
    const [primary, shadow] = await Promise.all([
      this.#replay('primary', wrong),
      this.#replay('shadow', wrong),
    ]);
    const digests = primary.checked + shadow.checked;
    if (wrong.length > 0) throw new Error([...wrong, this.story(), `kept: ${this.#keep()}`].join('\n'));
    return {
      load: load.name,
      output: whole ? 'whole' : 'beginning',
      outputBytes: output.length,
      repeatedBytes: this.client.repeatedBytes,
      events: { primary: primary.events, shadow: shadow.events },
      logBytes: { primary: this.logBytes('primary'), shadow: this.logBytes('shadow') },
      digests,
      primary: this.primary.exited as string,
      shadow: this.shadow.exited as string,
    };
  }

  /**
   * A side that was killed may have told the client of the end, but not its shadow, which then takes over and
   * waits for somebody to tell. It has nothing new to say.
   */
  async #askAgain(side: SideChild, wrong: string[]): Promise<void> {
    const aborter = new AbortController();
    void side.end().then(() => aborter.abort());
    const addresses = [`unix:${this.at(`${side.name}.tap`)}`];
    const client = await ConsoleClient.connect({ addresses, signal: aborter.signal }).catch(() => {});
    if (!client) return; // it was about to end anyway
    client.stdout.resume();
    const ended = await Promise.race([client.ended, side.end()]).catch(String);
    if (typeof ended !== 'string' && ended.status !== this.#status) {
      wrong.push(`the ${side.name} says status ${ended.status} when asked again`);
    }
    await client.close();
  }

  async #replay(side: 'primary' | 'shadow', wrong: string[]): Promise<{ events: number; checked: number }> {
    const { status, stdout, stderr } = await run(['replay', this.log(side), '--json', '--quiet']);
    if (status === 0) {
      const { events, digests } = JSON.parse(stdout) as { events: number; digests: { checked: number } };
      if (digests.checked === 0 && events > 20) wrong.push(`${side}.log: no digest was checked`);
      return { events, checked: digests.checked };
    }
    wrong.push(`${side}.log does not replay (status ${status}): ${stdout} ${stderr}`);
    return { events: 0, checked: 0 };
  }

  #kept = false;
  #keep(): string {
    this.#kept = true;
    return this.directory;
  }

  story(): string {
    const sides = [this.primary, this.shadow].filter(Boolean).map((side) => side.story());
    const seed = `seed ${this.settings.random.seed}, ${this.settings.load.name}`;
    return [seed, `${this.#lines} lines of output`, ...sides].join('\n');
  }

  async close(): Promise<void> {
    for (const side of [this.primary, this.shadow]) {
      if (side && side.exited === undefined) {
        side.signal('SIGKILL');
        await side.end();
      }
    }
    await this.client?.close();
    this.firewall?.close();
    for (const relay of [this.link, this.taps.primary, this.taps.shadow]) relay?.cut();
    if (!this.#kept) rmSync(this.directory, { recursive: true, force: true });
  }
}

function difference(expected: Buffer, actual: Buffer): string {
  let at = 0;
  while (at < expected.length && expected[at] === actual[at]) at++;
  const show = (bytes: Buffer) => JSON.stringify(bytes.subarray(Math.max(0, at - 20), at + 40).toString());
  return `byte ${at}: ${show(actual)} instead of ${show(expected)} (${actual.length} and ${expected.length} bytes)`;
}

/** What `promise` brings, or an error when that hangs. */
export async function within<T>(promise: Promise<T>, story: () => string): Promise<T> {
  const aborter = new AbortController();
  const hang = sleep(HANG_MS, undefined, { signal: aborter.signal }).then(
    () => {
      throw new Error(story());
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([promise, hang]);
  } finally {
    aborter.abort();
  }
}
