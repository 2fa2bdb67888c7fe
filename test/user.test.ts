/** `--user`: root opens, and somebody else goes on. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { command, lockstep, printedRandom, root, run, scratch } from './helpers/command.js';
import { patience } from './helpers/pace.js';
import { redisServer } from './helpers/redis-server.js';
import type { RejoinJob } from './helpers/rejoin-child.js';
import { rejoinOnce } from './helpers/rejoin-once.js';
import { replayKicked } from './helpers/replays.js';
import { rightsOnceChanged } from './helpers/threads-of.js';
import type { UserJob, UserReport } from './helpers/user-child.js';

const USER = 'nobody';
const [UID, GID] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, USER]))) as [number, number];
const NONE = '0'.repeat(16);
const RIGHTS = `${UID} ${GID} [] ${NONE} ${NONE}`;

test.serial('a recorded machine goes on as another user, with all its threads', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const argv = [lockstep, 'record', '--user', USER, '--log', at('log'), '--control', at('control')];
  const child = spawn(process.execPath, [...argv, '--net', 'tap', '--', 'busybox', 'cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    const answered = new Promise((resolve) => child.stdout.once('data', resolve));
    child.stdin.write('it runs\n');
    t.is(String(await answered), 'it runs\n');
    t.is(await rightsOnceChanged(child.pid as number), RIGHTS);
    for (const name of ['log', 'control']) {
      const { uid, gid, mode } = statSync(at(name));
      t.deepEqual([uid, gid, mode & 0o777], [UID, GID, 0o600], name);
    }
    const copied = await run(['cp', '--control', at('control'), '/etc/hostname', '-']);
    t.is(copied.stdout.toString(), 'lockstep\n', copied.stderr);
    child.stdin.end();
    t.is(await ended, 0);
  } finally {
    child.kill('SIGKILL');
  }
  t.is((await run(['replay', at('log')])).status, 0);
});

test.serial('a pair of another user takes over, is protected again, and takes over again', async (t) => {
  const random = printedRandom(t);
  const directory = scratch(t);
  const argv = redisServer(directory);
  mkdirSync(join(directory, 'arbiter'));
  for (const name of ['', 'arbiter']) chownSync(join(directory, name), UID, GID);
  const betweenMs = patience(random.between(50, 300));
  const job: RejoinJob = { argv, directory, kills: 2, clients: 20, betweenMs, user: USER };
  const report = await rejoinOnce(job);
  t.log(`${report.acknowledged} writes; ${report.states.join(' ')}`);
  t.deepEqual(report.rights, [RIGHTS]);
  t.deepEqual(report.troubles, []);
  t.is(report.missing, 0);
  t.is(report.survivor, 'status 0');
  for (const one of await replayKicked(join(directory, `${job.kills}.log`), 1, random))
    t.is(one.divergence, null, JSON.stringify(one));
});

test.serial('what the user could not do later is refused at the start', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const program = ['--', 'busybox', 'echo', 'hello'];
  const pair = ['--link', `unix:${at('link')}`, '--console', `unix:${at('console')}`];
  const arbiter = ['--arbiter', `file:${at('arbiter')}`];
  const cases: [string[], RegExp][] = [
    [['run', '--user', 'no-such-user', ...program], /there is no such user/],
    [['run', '--user', USER, '--net', 'unix:/tmp/nic', ...program], /does not go with --net unix/],
    [
      ['primary', '--alone', '--user', USER, ...pair, ...arbiter, ...program],
      /cannot write to .*arbiter, and claims go there/,
    ],
    [
      ['shadow', '--user', USER, ...pair, ...arbiter, '--relink', 'tcp:127.0.0.1:7'],
      /--relink .*could not listen there/,
    ],
    [
      ['shadow', '--user', USER, '--link', 'unix:l', '--console', 'tcp:127.0.0.1:7', ...arbiter],
      /--console .*could not listen there/,
    ],
  ];
  for (const [argv, sentence] of cases) {
    const { status, stderr, stdout } = await run(argv);
    t.is(status, 125, stderr);
    t.regex(stderr, sentence);
    t.is(stdout.toString(), '');
  }
});

test.serial('a shadow whose user could not listen for the next one is refused', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  chmodSync(directory, 0o711);
  mkdirSync(at('arbiter'));
  chownSync(at('arbiter'), UID, GID);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--user', USER];
  const own = (name: string) => ['--console', `unix:${at(name)}`];
  const argv = ['primary', ...shared, ...own('p'), '--', 'busybox', 'cat'];
  const primary = spawn(process.execPath, [lockstep, ...argv], { stdio: 'ignore' });
  try {
    const { status, stderr } = await run(['shadow', ...shared, ...own('s')]);
    t.is(status, 125);
    t.regex(stderr, /cannot write to .*, and the next shadow is waited for there/);
  } finally {
    primary.kill('SIGKILL');
  }
});

test.serial('both sides of another user start over by themselves, and take over again', async (t) => {
  const directory = scratch(t);
  const argv = redisServer(directory);
  mkdirSync(join(directory, 'arbiter'));
  for (const name of ['', 'arbiter']) chownSync(join(directory, name), UID, GID);
  const job: UserJob = { argv, directory, user: USER, clients: 10 };
  const child = [process.execPath, '--import=tsx', join(root, 'test/helpers/user-child.ts')];
  const limited = ['unshare', '--net', 'timeout', `${patience(90)}`, ...child, JSON.stringify(job)];
  const { stdout, stderr, status } = await command(limited, { cwd: root });
  t.is(status, 0, stderr);
  const report = JSON.parse(stdout.toString()) as UserReport;
  t.log(`${report.acknowledged} writes, the longest wait ${report.longestWaitMs.toFixed(0)} ms`);
  t.deepEqual(report.rights, [RIGHTS]);
  t.deepEqual(report.troubles, []);
  t.is(report.missing, 0);
  t.is(report.survivor, 'status 0');
  const logs = readdirSync(directory).filter((name) => /\.log/.test(name));
  t.deepEqual(logs.sort(), ['a.log', 'a.log.1', 'b.log', 'b.log.1']);
  for (const log of logs)
    t.is((await run(['log', 'verify', join(directory, log)])).status, log === 'a.log' ? 1 : 0, log);
});
