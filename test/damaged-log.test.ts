import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Image, Recording, record } from '../lib/index.js';
import { drain, printedRandom, run, scratch } from './helpers/command.js';
import { headerBytes, withHeader } from './helpers/log-bytes.js';
import { type Damage, type MangledReport, mangle } from './helpers/mangled.js';
import { times } from './helpers/pace.js';
import { tinyProgram } from './helpers/tiny-programs.js';

const LINES = Array.from({ length: 24 }, (_, index) => `line ${index} ${'x'.repeat(index * 7)}\n`);
const OUTPUT = LINES.join('');

/** A log with many small frames: every line is an event of its own. */
async function recordLines(t: ExecutionContext): Promise<{ log: string; bytes: Buffer }> {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const image = await Image.fromProgram({ argv: [tinyProgram(directory, 'cat')], memoryMiB: 16 });
  await using machine = await record(image, { log, digestEvery: 4 });
  const output = drain(machine.stdout);
  for (const line of LINES) {
    machine.stdin.write(line);
    await sleep(2);
  }
  machine.stdin.end();
  t.is((await output).toString(), OUTPUT);
  t.is((await machine.ended).status, 7);
  return { log, bytes: readFileSync(log) };
}

test.serial('a log cut at any byte replays to its last whole frame', async (t) => {
  const random = printedRandom(t);
  const { log, bytes } = await recordLines(t);
  const header = headerBytes(bytes);
  const tail = Math.max(header, bytes.length - 220);
  const cuts = [0, 1, 7, 8, 12, 67, 68, header - 1, header];
  for (let index = 0; index < times(20); index++) cuts.push(random.between(0, header - 1));
  for (let index = 0; index < times(50); index++) cuts.push(random.between(header, bytes.length - 1));
  for (let cut = tail; cut <= bytes.length; cut++) cuts.push(cut);
  const reports = await mangle(
    log,
    cuts.sort((a, b) => a - b).map((cut) => ({ cut })),
  );

  t.is(reports.length, cuts.length);
  let before = { wholeBytes: header, events: 0 };
  for (const { damage, info, replayed, stdout, repaired, again, stdoutAgain } of reports) {
    const cut = (damage as { cut: number }).cut;
    if (cut < header) {
      t.true('code' in info && /^ERR_LOCKSTEP_(NOT_A_LOG|LOG_DAMAGED)$/.test(info.code), `cut ${cut}`);
      t.deepEqual(replayed, info, `cut ${cut}`);
      continue;
    }
    if ('code' in info || 'code' in replayed || 'code' in again || 'code' in repaired) {
      t.fail(`cut ${cut}: ${JSON.stringify({ info, replayed, again, repaired })}`);
      continue;
    }
    const ended = cut === bytes.length;
    t.is(info.ending, ended ? 'ended' : 'cut', `cut ${cut}`);
    // Whole frames only, and as many as there are.
    t.true(info.wholeBytes <= cut && info.wholeBytes >= before.wholeBytes && info.events >= before.events);
    t.deepEqual(replayed, { events: info.events, diverged: false, ended }, `cut ${cut}`);
    t.true(OUTPUT.startsWith(stdout), `cut ${cut}`);
    t.deepEqual(repaired, {
      keptBytes: info.wholeBytes,
      droppedBytes: cut - info.wholeBytes,
      events: info.events,
    });
    t.deepEqual(again, replayed, `cut ${cut}`);
    t.is(stdoutAgain, stdout, `cut ${cut}`);
    before = info;
  }
  const last = reports.at(-1);
  t.is(last?.stdout, OUTPUT);
});

/** What must hold when bytes are not what was written: a refusal that says where, never a replay. */
function checkRefused(t: ExecutionContext, report: MangledReport): void {
  const { damage, info, replayed, repaired, again, stdoutAgain } = report;
  const which = JSON.stringify(damage);
  if (!('code' in info)) {
    t.fail(`${which}: read as a whole log`);
    return;
  }
  t.regex(info.code, /^ERR_LOCKSTEP_(NOT_A_LOG|LOG_VERSION|LOG_DAMAGED)$/, which);
  if (info.code === 'ERR_LOCKSTEP_LOG_DAMAGED') t.regex(info.message, /byte \d+|header/, which);
  t.deepEqual(replayed, info, which);
  if ('code' in repaired) return;
  // What a repair leaves is a true beginning.
  if ('code' in again) {
    t.fail(`${which}: repaired, and then ${again.message}`);
    return;
  }
  t.deepEqual(again, { events: repaired.events, diverged: false, ended: false }, which);
  t.true(OUTPUT.startsWith(stdoutAgain), which);
}

test.serial('flipped bits and overwritten bytes are found, and said where', async (t) => {
  const random = printedRandom(t);
  const { log, bytes } = await recordLines(t);
  const header = headerBytes(bytes);
  const damages: Damage[] = [];
  const byte = () => random.between(random.pick([0, header, header]), bytes.length - 1);
  for (let index = 0; index < times(250); index++) damages.push({ flip: 8 * byte() + random.between(0, 7) });
  for (let index = 0; index < times(50); index++) {
    const at = byte();
    const length = Math.min(random.between(1, 12), bytes.length - at);
    // Never what is there already.
    const wrong = Array.from(
      { length },
      (_, offset) => (bytes[at + offset] as number) ^ random.between(1, 255),
    );
    damages.push({ at, bytes: wrong });
  }
  const reports = await mangle(log, damages);
  t.is(reports.length, damages.length);
  for (const report of reports) checkRefused(t, report);
});

test.serial('input that compresses well is recorded whole', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const image = await Image.fromProgram({ argv: [tinyProgram(directory, 'cat')], memoryMiB: 16 });
  await using machine = await record(image, { log });
  const output = drain(machine.stdout);
  for (let size = 15_000; size < 50_000; size += 2500) {
    machine.stdin.write(Buffer.alloc(size, 'x'));
    await sleep(5);
  }
  machine.stdin.end();
  await machine.ended;
  await machine.close();
  t.is((await Recording.open(log)).info.ending, 'ended');
  const replayed = await run(['replay', '--stdout', log]);
  t.is(replayed.status, 0, replayed.stderr);
  t.true(replayed.stdout.equals(await output));
});

test.serial('the command line says the same: replay, verify and repair', async (t) => {
  const { log, bytes } = await recordLines(t);
  const header = headerBytes(bytes);
  const flipped = `${log}.flipped`;
  const copy = Buffer.from(bytes);
  copy[header + 60] = (copy[header + 60] as number) ^ 0x10;
  writeFileSync(flipped, copy);
  for (const args of [
    ['replay', flipped],
    ['replay', '--json', flipped],
    ['log', 'verify', flipped],
    ['log', 'events', flipped],
  ]) {
    const { status, stdout, stderr } = await run(args);
    t.is(status, 125, args.join(' '));
    t.is(stdout.length, 0, args.join(' '));
    t.regex(stderr, /^lockstep: .*damaged at byte \d+/, args.join(' '));
    t.notRegex(stderr, /\n {4}at /);
  }
  const cut = `${log}.cut`;
  writeFileSync(cut, bytes.subarray(0, bytes.length - 1));
  const verify = await run(['log', 'verify', '--json', cut]);
  t.is(verify.status, 1, verify.stderr);
  t.like(JSON.parse(verify.stdout.toString()), { version: 1, whole: false, fileBytes: bytes.length - 1 });
  t.regex(verify.stderr, /cut off after byte \d+, .* of a torn frame behind it/);
  const replayed = await run(['replay', '--stdout', cut]);
  t.is(replayed.status, 0);
  t.true(OUTPUT.startsWith(replayed.stdout.toString()));
  t.regex(replayed.stderr, /the log is cut off there/);

  for (const file of [flipped, cut]) {
    const repair = await run(['log', 'repair', '--json', file]);
    t.is(repair.status, 0, repair.stderr);
    const { keptBytes, droppedBytes, events } = JSON.parse(repair.stdout.toString());
    t.is(keptBytes, readFileSync(file).length);
    t.true(droppedBytes > 0 && events >= 0);
    t.is((await run(['replay', '--quiet', file])).status, 0);
    const again = await run(['log', 'verify', file]);
    t.is(again.status, 1);
    t.regex(again.stderr, /every checksum right, cut off after byte \d+\n$/);
  }
  t.is((await run(['log', 'verify', log])).status, 0);
});

test.serial('a log of another version, processor or vendor is refused in a sentence', async (t) => {
  const { log, bytes } = await recordLines(t);
  t.deepEqual(withHeader(bytes, {}), bytes);
  const model = (change: (text: string) => string) => ({
    options: (text: string) => text.replace(/^cpu_model=.*$/m, change),
  });
  const amd = 'd,68747541,444d4163,69746e65';
  const intel = '16,756e6547,6c65746e,49656e69';
  const cases: [RegExp, Parameters<typeof withHeader>[1]][] = [
    [/version 4, this build reads version 3/, { version: 4 }],
    [/version 0, this build reads version 3/, { version: 0 }],
    [/CPU model 'x86-64-v9' is unknown/, model((text) => text.replace(/x86-64-v\d/, 'x86-64-v9'))],
    [/lacks features/, model((text) => text.replace(/;7\.0i:(\w+),\w+/, ';7.0i:$1,ffffffff'))],
    [
      /recorded on (GenuineIntel|AuthenticAMD), this is (AuthenticAMD|GenuineIntel)/,
      model((text) =>
        text.includes(amd) ? text.replace(amd, intel) : text.replace(/;0\.0:[^;]*/, `;0.0:${amd}`),
      ),
    ],
    [/CPU model is damaged/, model((text) => text.replace(/;0\.0:[^;]*/, ';nonsense'))],
    [/options are not readable/, { options: (text) => text.replace('memory_bytes', 'memory') }],
  ];
  for (const [sentence, change] of cases) {
    writeFileSync(log, withHeader(bytes, change));
    const { status, stderr, stdout } = await run(['replay', log]);
    t.is(status, 125, String(sentence));
    t.is(stdout.length, 0);
    t.regex(stderr, sentence);
    t.notRegex(stderr, /\n {4}at /);
  }
});

test.serial('what is no log at all', async (t) => {
  const directory = scratch(t);
  const empty = join(directory, 'empty');
  writeFileSync(empty, '');
  for (const [file, sentence] of [
    ['/etc/passwd', /not a Lockstep log/],
    [empty, /not a Lockstep log: it is empty/],
    [directory, /not a Lockstep log: it is not a file/],
    [join(directory, 'none'), /No such file or directory/],
    ['/dev/null', /not a Lockstep log/],
  ] as const) {
    for (const args of [
      ['replay'],
      ['log', 'info'],
      ['log', 'verify'],
      ['log', 'repair'],
      ['log', 'events'],
    ]) {
      const { status, stdout, stderr } = await run([...args, file]);
      t.is(status, 125, `${args} ${file}`);
      t.is(stdout.length, 0);
      t.regex(stderr, sentence);
      t.notRegex(stderr, /\n {4}at /);
    }
  }
});
