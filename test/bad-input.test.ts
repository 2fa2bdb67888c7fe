import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Image, LockstepError, Machine, Recording, record, replay } from '../lib/index.js';
import { command, lockstep, type Outcome, printedRandom, run, scratch, shell } from './helpers/command.js';
import { tinyProgram } from './helpers/tiny-programs.js';
import { makeElf } from './image-fixtures.js';

/** Lockstep's own failure: one sentence on stderr, no stack, nothing on stdout. */
function checkFailed(t: ExecutionContext, outcome: Outcome, status: number, sentence: RegExp): void {
  t.is(outcome.status, status, outcome.stderr);
  t.is(outcome.stdout.toString(), '');
  t.regex(outcome.stderr, sentence);
  t.notRegex(outcome.stderr, /\n {4}at /);
}

/** In a mount namespace of its own, where `setUp` has been at work; root or not. */
function elsewhere(setUp: string, line: string): Promise<Outcome> {
  const unshare = process.getuid?.() === 0 ? ['unshare', '-m'] : ['unshare', '-r', '-m'];
  return command([...unshare, 'sh', '-ec', `${setUp}\n${line}`, process.execPath, lockstep]);
}

const RUN = 'exec "$0" "$1" run -- busybox true';

test.serial('no /dev/kvm, or something else in its place', async (t) => {
  const directory = scratch(t);
  const noKvm = `
    mount -t tmpfs none '${directory}'; mkdir '${directory}/dev'
    for name in null zero urandom; do : > '${directory}/dev/'$name; mount --bind /dev/$name '${directory}/dev/'$name; done
    mount --rbind '${directory}/dev' /dev`;
  checkFailed(t, await elsewhere(noKvm, RUN), 125, /\/dev\/kvm/);
  const doctor = await elsewhere(noKvm, 'exec "$0" "$1" doctor');
  t.is(doctor.status, 1);
  t.regex(doctor.stdout.toString(), /BAD {3}\/dev\/kvm/);
  checkFailed(t, await elsewhere('mount --bind /dev/null /dev/kvm', RUN), 125, /KVM/);
});

test.serial('/dev/kvm that may not be opened', async (t) => {
  const nodev = 'mount --bind /dev/kvm /dev/kvm; mount -o remount,bind,nodev /dev/kvm';
  const outcome = await elsewhere(nodev, RUN);
  checkFailed(t, outcome, 125, /\/dev\/kvm/);
  t.regex(outcome.stderr, /permission|not permitted|may not/i);
  t.is((await elsewhere(nodev, 'exec "$0" "$1" doctor')).status, 1);
});

test.serial('programs that cannot run: 126, and those that are not there: 127', async (t) => {
  const directory = scratch(t);
  const file = (name: string, bytes: Uint8Array | string, mode = 0o755) => {
    const path = join(directory, name);
    writeFileSync(path, bytes);
    chmodSync(path, mode);
    return path;
  };
  const elf = makeElf(0x400078, [{ vaddr: 0x400078, flags: 5, bytes: Uint8Array.of(0x0f, 0x0b) }]);
  const with32 = Buffer.from(elf);
  with32[4] = 1;
  const arm = Buffer.from(elf);
  arm.writeUInt16LE(183, 18);
  const cases: [string, number, RegExp][] = [
    ['no-such-program', 127, /no program 'no-such-program' on PATH/],
    [join(directory, 'missing'), 127, /There is no .*missing/],
    [file('plain', elf, 0o644), 126, /no execute permission/],
    [file('empty', ''), 126, /empty/],
    [file('text', 'just text\n'), 126, /not an ELF|no ELF/],
    [
      file('script', '#!/no/such/interpreter\n'),
      126,
      /\/no\/such\/interpreter, the interpreter of .*script, is not there/,
    ],
    [file('elf32', with32), 126, /32-bit/],
    [file('arm', arm), 126, /not x86-64|AArch64|x86-64/],
    [file('cut', elf.subarray(0, 90)), 126, /cut-off|damaged/],
    [directory, 126, /not a file/],
    [file('lacking', lackingLibrary()), 126, /libx\.so\.6 is not found, which .*lacking needs/],
  ];
  for (const [program, status, sentence] of cases) {
    const outcome = await run(['run', '--', program]);
    checkFailed(t, outcome, status, sentence);
  }
});

/** A dynamic program whose one library has a name that no host has. */
function lackingLibrary(): Buffer {
  const program = readFileSync('/bin/true');
  const at = program.indexOf('\0libc.so.6\0');
  program.write('libx', at + 1, 'latin1');
  return program;
}

test.serial('an image that is none, cut off, or changed', async (t) => {
  const directory = scratch(t);
  const image = join(directory, 'x.image');
  t.is((await run(['image', 'pack', '-o', image, '--', tinyProgram(directory, 'cat')])).status, 0);
  const bytes = readFileSync(image);
  const bad = join(directory, 'bad.image');
  const random = printedRandom(t);
  const cut = random.between(1, bytes.length - 1);
  const changed = Buffer.from(bytes);
  const at = random.between(0, bytes.length - 1);
  changed[at] = (changed[at] as number) ^ (1 << random.between(0, 7));
  for (const contents of [Buffer.alloc(0), Buffer.from('LSIMAGE1'), bytes.subarray(0, cut), changed]) {
    writeFileSync(bad, contents);
    checkFailed(t, await run(['run', '--image', bad]), 125, /image/);
    const error = await t.throwsAsync(Image.open(bad), { instanceOf: LockstepError });
    t.is((error as LockstepError).code, 'ERR_LOCKSTEP_NOT_AN_IMAGE');
  }
  checkFailed(t, await run(['run', '--image', join(directory, 'none')]), 125, /no such file/i);
  checkFailed(t, await run(['run', '--image', '/etc/passwd']), 125, /not a Lockstep image/);
});

test.serial('an existing log is kept, unless --force', async (t) => {
  const log = join(scratch(t), 'x.log');
  writeFileSync(log, 'precious');
  checkFailed(t, await run(['record', '--log', log, '--', 'busybox', 'true']), 125, /exists already/);
  t.is(readFileSync(log, 'utf8'), 'precious');
  t.is((await run(['record', '--force', '--log', log, '--', 'busybox', 'true'])).status, 0);
  t.is((await run(['replay', log])).status, 0);
});

/** A log that was ended by a full disk, and what had left the machine until then: to the byte. */
async function checkFull(t: ExecutionContext, outcome: Outcome, log: string): Promise<void> {
  t.is(outcome.status, 125, outcome.stderr);
  t.regex(outcome.stderr, /cannot write .*x\.log: (No space left on device|File too large)/);
  t.regex(outcome.stderr, /it ends cleanly/);
  t.notRegex(outcome.stderr, /\n {4}at /);
  const { info } = await Recording.open(log);
  t.like(info, { ending: 'ended', endReason: 'failed', wholeBytes: info.fileBytes });
  t.true(info.digests > 1);
  const said = await run(['log', 'info', log]);
  t.regex(said.stdout.toString(), /ended +failed: the log could not be written any further/);
  const replayed = await run(['replay', '--stdout', log]);
  t.is(replayed.status, 0, replayed.stderr);
  t.regex(replayed.stderr, /all equal; its log could not be written any further/);
  t.true(outcome.stdout.length > 100_000);
  t.true(replayed.stdout.equals(outcome.stdout));
  const { digests } = JSON.parse((await run(['replay', '--json', '--quiet', log])).stdout.toString());
  t.is(digests.checked, info.digests);
}

test.serial('a full disk while recording ends the log cleanly', async (t) => {
  const directory = scratch(t);
  const disk = join(directory, 'disk');
  const saved = join(directory, 'saved.log');
  const program = tinyProgram(directory, 'cat');
  const outcome = await elsewhere(
    `mkdir '${disk}'; mount -t tmpfs -o size=1m none '${disk}'`,
    `set +e; head -c 4000000 /dev/urandom | "$0" "$1" record --digest-every 3 --log '${disk}/x.log' -- '${program}'
     status=$?; cp '${disk}/x.log' '${saved}'; exit $status`,
  );
  await checkFull(t, outcome, saved);
  checkFailed(
    t,
    await run(['record', '--force', '--log', '/dev/full', '--', 'busybox', 'true']),
    125,
    /No space/,
  );
});

test.serial('so does a limit on the size of files', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const program = tinyProgram(directory, 'cat');
  const limited = `head -c 4000000 /dev/urandom | prlimit --fsize=500000 "$0" "$1" record --digest-every 3 --log '${log}' -- '${program}'`;
  await checkFull(t, await shell(limited), log);
});

test.serial('a protected primary whose log finds no room says so and goes on', async (t) => {
  const directory = scratch(t);
  const outcome = await shell(`
    cd '${directory}'; head -c 600000 /dev/urandom > in
    "$0" "$1" shadow --link unix:link --arbiter file:arb --console unix:s --log s.log & shadow=$!
    prlimit --fsize=1250000 "$0" "$1" primary --link unix:link --arbiter file:arb --console unix:p --log p.log \\
      -- busybox cat & primary=$!
    while [ ! -S p ] || [ ! -S s ]; do sleep 0.05; done
    "$0" "$1" console unix:p unix:s < in > out; echo "console $?" >&2
    wait $primary; echo "primary $?" >&2; wait $shadow; echo "shadow $?" >&2`);
  for (const side of ['console', 'primary', 'shadow']) t.true(outcome.stderr.includes(`${side} 0\n`), side);
  t.regex(outcome.stderr, /cannot write p\.log: File too large/);
  t.true(readFileSync(join(directory, 'out')).equals(readFileSync(join(directory, 'in'))), outcome.stderr);
  for (const [log, endReason] of [
    ['p.log', 'failed'],
    ['s.log', 'exited'],
  ] as const) {
    const path = join(directory, log);
    t.like((await Recording.open(path)).info, { ending: 'ended', endReason });
    t.is((await run(['replay', '--quiet', path])).status, 0);
  }
});

test.serial('a guest that faults', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const segv = await run(['record', '--log', log, '--', tinyProgram(directory, 'segv')]);
  t.is(segv.status, 139);
  t.regex(segv.stderr, /signal 11|SIGSEGV|segment/i);
  t.regex(segv.stderr, /0x40007a|40007a/);
  t.is((await run(['replay', log])).status, 0);
  t.is((await run(['run', '--', tinyProgram(directory, 'ud2')])).status, 132);
});

test.serial('a guest that is ended by its own signal', async (t) => {
  const { status, stderr } = await run(['run', '--', 'bash-static', '-c', 'kill -KILL $$']);
  t.is(status, 137);
  t.regex(stderr, /killed/);
  t.is((await run(['run', '--', 'busybox', 'sh', '-c', 'kill -TERM $$'])).status, 143);
});

/** 20,000 random accesses of all sizes to all ports and to the first megabytes, by a long-mode guest. */
function garbage(seed: number): Buffer {
  const code = `
    48bb ${Buffer.from(BigUint64Array.of(BigInt(seed) | 1n).buffer).toString('hex')}
    b9 20 4e 00 00
    4889d8 48c1e00d 4831c3 4889d8 48c1e807 4831c3 4889d8 48c1e011 4831c3
    0fb7d3 4889d8 48c1e810
    f7c3 00001000 7403 ee eb12
    f7c3 00002000 7404 66ef eb06
    f7c3 00004000 7401 ef
    f7c3 00008000 7401 ec
    ffc9 75 b8
    f4`;
  return Buffer.from(code.replace(/\s/g, ''), 'hex');
}

test.serial('a bare guest that writes garbage to every port, and one that triple-faults', async (t) => {
  const random = printedRandom(t);
  const log = join(scratch(t), 'x.log');
  const image = await Image.fromFlat({
    bytes: garbage(random.between(1, 2 ** 31)),
    mode: 'long',
    loadAddress: 0x10000,
    memoryMiB: 4,
  });
  await using machine = await record(image, {
    log,
    digestEvery: 100,
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
  });
  // However it ends: it does, and the same way again.
  const how = (one: Machine) => one.ended.catch((error: LockstepError) => error.code);
  const ended = await how(machine);
  t.true(machine.stats().accesses > 0);
  await machine.close();
  await using again = await replay(log);
  t.deepEqual(await how(again.machine), ended);
  t.is((await again.result).divergence, null);

  const triple = await Image.fromFlat({
    // lidt of an empty table, then int3.
    bytes: Buffer.from('0f011c2510000100cc9090909000000000000000000000000000000000000000', 'hex'),
    mode: 'long',
    loadAddress: 0x10000,
    memoryMiB: 4,
  });
  await using dying = await Machine.create(triple);
  await dying.start();
  const outcome = await dying.ended.then(
    ({ reason }) => reason,
    (error: LockstepError) => error.code,
  );
  t.true(['shutdown', 'ERR_LOCKSTEP_EMULATION', 'ERR_LOCKSTEP_KVM'].includes(outcome), outcome);
});

test.serial('a reader that goes away ends it quietly', async (t) => {
  const log = join(scratch(t), 'x.log');
  const line = `{ "$0" "$1" record --log '${log}' -- busybox yes; echo "status $?" >&2; } | head -1`;
  const { stdout, stderr } = await shell(line);
  t.is(stdout.toString(), 'y\n');
  t.regex(stderr, /status 141\n/);
  t.notRegex(stderr, /EPIPE|Error|\n {4}at /);
  t.is((await run(['replay', '--quiet', log])).status, 0);
  const events = await shell(`{ "$0" "$1" log events '${log}'; echo "status $?" >&2; } | head -1`);
  t.regex(events.stderr, /^status 0\n$/);
});

const READY = 'echo ready; while :; do read -r line || :; done';

/** Records, sends the signals once the program runs, and says how it ended. */
async function signalled(
  log: string,
  program: string[],
  signals: [NodeJS.Signals, string?][],
  input: string[] = [],
): Promise<{ status: number | null; stdout: string }> {
  const child = spawn(process.execPath, [lockstep, 'record', '--log', log, '--', ...program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', (bytes) => {
    stdout += bytes;
  });
  const closed = once(child, 'close');
  for (const piece of input) {
    child.stdin.write(piece);
    await once(child.stdout, 'data');
  }
  for (const [signal, after = 'ready\n'] of signals) {
    while (!stdout.endsWith(after)) await once(child.stdout, 'data');
    child.kill(signal);
  }
  const [status] = await closed;
  return { status, stdout };
}

async function checkWhole(t: ExecutionContext, log: string): Promise<void> {
  const { info } = await Recording.open(log);
  t.is(info.ending, 'ended');
  t.is((await run(['replay', '--quiet', log])).status, 0);
}

test.serial('SIGTERM closes the log cleanly, whatever the guest does: 143', async (t) => {
  const directory = scratch(t);
  for (const [index, script] of [READY, 'echo ready; while :; do :; done'].entries()) {
    const log = join(directory, `${index}.log`);
    const { status } = await signalled(log, ['busybox', 'sh', '-c', script], [['SIGTERM']]);
    t.is(status, 143);
    await checkWhole(t, log);
  }
});

test.serial("the first SIGINT is the guest's, the second ours: 130", async (t) => {
  const log = join(scratch(t), 'x.log');
  const script = `trap 'echo caught' INT; ${READY}`;
  const { status, stdout } = await signalled(
    log,
    ['busybox', 'sh', '-c', script],
    [['SIGINT'], ['SIGINT', 'caught\n']],
  );
  t.is(status, 130);
  t.is(stdout, 'ready\ncaught\n');
  await checkWhole(t, log);
});

test.serial('kill -9 leaves a true log', async (t) => {
  const log = join(scratch(t), 'x.log');
  const script = 'while read -r line; do echo "got $line"; done';
  const input = ['one\n', 'two\n', 'three\n'];
  const { status, stdout } = await signalled(
    log,
    ['busybox', 'sh', '-c', script],
    [['SIGKILL', 'got three\n']],
    input,
  );
  t.is(status, null);
  t.is((await run(['log', 'verify', log])).status, 1);
  const replayed = await run(['replay', '--stdout', log]);
  t.is(replayed.status, 0, replayed.stderr);
  // All that had left the machine, although no event of the log lies behind the last line.
  t.is(replayed.stdout.toString(), stdout);
  t.regex(replayed.stderr, /the log is cut off there, and the last output may never have left/);
});

test.serial('what was printed without an event behind it is in the replay of a cut log, too', async (t) => {
  const log = join(scratch(t), 'x.log');
  const { stdout } = await signalled(log, ['busybox', 'yes'], [['SIGKILL', 'y\n'.repeat(20)]]);
  const started = (await Recording.open(log)).info;
  t.is(started.ending, 'cut');
  const replayed = await run(['replay', '--stdout', log]);
  t.is(replayed.status, 0, replayed.stderr);
  const again = replayed.stdout.toString();
  t.true(again.length >= stdout.length && again.startsWith(stdout), `${stdout.length}, ${again.length}`);
});

test.serial('a guest that was killed in an endless loop does not hang the replay of its log', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  // As many bytes as fill a frame, so that it is written with no output or waiting behind it.
  const child = spawn(
    process.execPath,
    [lockstep, 'record', '--log', log, '--', tinyProgram(directory, 'spin')],
    { stdio: ['pipe', 'ignore', 'inherit'] },
  );
  const closed = once(child, 'close');
  child.stdin.write(Buffer.alloc(65536, 'x'));
  for (;;) {
    const info = await Recording.open(log).then(
      (recording) => recording.info,
      () => undefined, // not there yet
    );
    if (info !== undefined && info.inputBytes === 65536) break;
    await sleep(20);
  }
  child.kill('SIGKILL');
  await closed;
  const replayed = await run(['replay', log]);
  t.is(replayed.status, 0, replayed.stderr);
  t.regex(replayed.stderr, /the log is cut off there/);
});

test.serial('wrong use: 125, and a word about what is right', async (t) => {
  const cases: [string[], RegExp][] = [
    [['run', '--no-such-option', '--', 'busybox'], /unknown option '--no-such-option'/],
    [['record', '--', 'busybox', 'true'], /required option '--log <file>'/],
    [['run'], /no program given/],
    [['replay'], /missing required argument 'log'/],
    [['run', '--memory', '3', '--', 'busybox', 'true'], /multiple of 2 MiB/],
    [['run', '--memory', 'lots', '--', 'busybox', 'true'], /Not a whole number/],
    [['run', '--time', 'noon', '--', 'busybox', 'true'], /Not a time like/],
    [['run', '--cwd', 'relative', '--', 'busybox', 'true'], /not absolute/],
    [['run', '--file', '/no/such/file', '--', 'busybox', 'true'], /does not exist/],
    [['run', '--cpu', 'i386', '--', 'busybox', 'true'], /i386/],
    [['record', '--log', '/no/such/x.log', '--', 'busybox', 'true'], /No such file or directory/],
    [['cp', '/etc/passwd', '-'], /say where the file is/],
  ];
  for (const [args, sentence] of cases) checkFailed(t, await run(args), 125, sentence);
});
