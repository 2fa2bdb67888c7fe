/** What a process does that is out of its pair: when it starts over, where, and what becomes of its log. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type Life, Rejoin } from '../lib/cli/rejoin.js';
import { SideProcess } from '../lib/control/side-process.js';
import { LockstepError } from '../lib/errors.js';
import { Arbiter, ConsoleClient } from '../lib/index.js';
import { scratch } from './helpers/command.js';
import { withEtcd } from './helpers/etcd-server.js';

const FENCED: Life = {
  status: 125,
  ended: { reason: 'fenced', status: 0, detail: 'another side won' },
  asked: false,
  connected: true,
  logged: true,
};
const unreachable = new LockstepError('ERR_LOCKSTEP_LINK_UNREACHABLE', 'nobody answers');
const AWAY: Life = { status: 0, error: unreachable, asked: false, connected: false, logged: false };
const pair = { link: 'unix:a', console: 'unix:c', arbiter: Arbiter.inProcess() };
const flags = (log?: string) => ({ link: 'unix:a', console: 'unix:c', arbiter: 'file:arb', log });

test('it tries ever less often, at every place in turn', (t) => {
  const rejoin = new Rejoin(flags(), ['unix:b', 'unix:a'], pair);
  const tries = [FENCED, ...Array<Life>(8).fill(AWAY)].map((life) => rejoin.after(life));
  t.deepEqual(
    tries.map((next) => next?.delayMs),
    [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000],
  );
  t.deepEqual(
    tries.slice(0, 3).map((next) => next?.link),
    ['unix:b', 'unix:a', 'unix:b'],
  );
  const steady = { ...FENCED, armedAt: performance.now() - 61_000 };
  t.is(rejoin.after(steady)?.delayMs, 200);
});

test('it ends where there is nothing to come back to', (t) => {
  const ends: Life[] = [
    AWAY, // it never met anybody
    { ...FENCED, asked: true },
    { ...FENCED, ended: { reason: 'exited', status: 0, detail: '' } },
    { ...FENCED, ended: { reason: 'handed-over', status: 0, detail: '' } },
    { ...FENCED, ended: undefined, error: new LockstepError('ERR_LOCKSTEP_LINK_VERSION', 'another version') },
  ];
  for (const life of ends) t.is(new Rejoin(flags(), ['unix:a'], pair).after(life), undefined);
});

test('a log that may hold what no other does is kept under another name, and nothing is overwritten', (t) => {
  const log = join(scratch(t), 's.log');
  const rejoin = new Rejoin(flags(log), ['unix:a'], pair);
  writeFileSync(`${log}.1`, 'of somebody else');
  writeFileSync(log, 'first');
  const next = rejoin.after({ ...FENCED, armedAt: performance.now() });
  t.true(next?.detail.endsWith(`the log so far is ${log}.2`));
  t.is(readFileSync(`${log}.1`, 'utf8'), 'of somebody else');
  t.is(readFileSync(`${log}.2`, 'utf8'), 'first');
  t.false(existsSync(log));
  // Of a life that never could have gone on: the next one writes over it.
  writeFileSync(log, 'second');
  rejoin.after(FENCED);
  t.is(readFileSync(log, 'utf8'), 'second');
  t.false(existsSync(`${log}.3`));
});

for (const kind of ['file', 'etcd'])
  test.serial(`a shadow that wakes when its machine is over learns that and ends, by ${kind}`, async (t) => {
    const directory = scratch(t);
    const at = (name: string) => join(directory, name);
    const through = async (arbiter: string) => {
      const shared = ['--link', `unix:${at('link')}`, '--arbiter', arbiter];
      const console = `unix:${at('p.sock')}`;
      const primary = new SideProcess('primary', [
        ...shared,
        ...['--console', console, '--', 'busybox', 'awk', '{ last = $1 } END { exit last }'],
      ]);
      const shadow = new SideProcess('shadow', [...shared, '--console', `unix:${at('s.sock')}`]);
      const ends: string[] = [];
      shadow.on('line', ({ event, reason, detail }) => {
        if (event === 'ended')
          ends.push(/meanwhile/.test(detail ?? '') ? `${reason}: ${detail}` : `${reason}`);
      });
      try {
        await Promise.all([primary.notice('armed'), shadow.notice('armed')]);
        process.kill(shadow.pid, 'SIGSTOP');
        await primary.notice('alone');
        await using client = await ConsoleClient.connect({ addresses: [console] });
        client.stdin.end('7\n');
        t.is((await client.ended).status, 7);
        t.is(await primary.end(), 'status 7');
        process.kill(shadow.pid, 'SIGCONT');
        t.is(await shadow.end(), 'status 7');
        t.regex(shadow.first.get('rejoining')?.detail ?? '', /looking for the live side/);
        t.deepEqual(ends, ['fenced', 'exited: the machine has ended meanwhile (exited, status 7)']);
      } finally {
        primary.kill();
        shadow.kill();
      }
    };
    if (kind === 'file') await through(`file:${at('arbiter')}`);
    else await withEtcd([], ({ endpoint }) => through(`etcd:${endpoint}`));
  });
