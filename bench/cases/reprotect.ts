/**
 * A machine that uses 256 MiB, and goes on writing into them, gets a shadow: how long until it stands by, and what the guest
 * and who asks it feel.
 */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SideProcess } from '../../lib/control/side-process.js';
import { monotonicUs } from '../../lib/events.js';
import { ConsoleClient } from '../../lib/index.js';
import type { Case } from '../lib/case.js';
import { summarise, within } from '../lib/measure.js';
import { BUSYBOX } from '../lib/programs.js';
import { vmwareReprotect } from '../lib/vmware-ft.js';

const LIMIT_MS = 120_000;
const MEMORY_MIB = 352;
/** Fills some 256 MiB with random numbers, as text and as numbers, then answers every line, and writes to 20 places for each. */
const PROGRAM = `
  BEGIN { srand(1); for (i = 0; i < 2570000; i++) a[i] = rand() ""; print "full"; fflush() }
  { for (i = 0; i < 20; i++) a[int(rand() * 2570000)] = rand() ""; print; fflush() }`;
/** Between an answer and the next line. */
const LINE_MS = 3;

interface Join {
  totalMs: number;
  pauseMs: number;
  /** The longest wait for an answer meanwhile. */
  waitMs: number;
  pages: number;
}

/** Line after line; `stop` says how long the slowest answer took. */
function askOn(client: ConsoleClient): { stop(): Promise<number> } {
  let stopping = false;
  const loop = async () => {
    for (let slowestMs = 0; ; await sleep(LINE_MS)) {
      if (stopping) return slowestMs;
      const begun = performance.now();
      client.stdin.write('a line\n');
      await once(client.stdout, 'data');
      slowestMs = Math.max(slowestMs, performance.now() - begun);
    }
  };
  const done = loop();
  return {
    stop: () => {
      stopping = true;
      return within(LIMIT_MS, 'an answer', done, () => {});
    },
  };
}

async function joinOnce(directory: string): Promise<Join> {
  mkdirSync(directory, { recursive: true });
  const at = (name: string) => join(directory, name);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--force'];
  const own = (name: string) => ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
  const program = [BUSYBOX, 'awk', PROGRAM];
  const sides = [
    new SideProcess('primary', [
      ...shared,
      ...own('primary'),
      '--alone',
      '--memory',
      `${MEMORY_MIB}`,
      '--',
      ...program,
    ]),
  ];
  let client: ConsoleClient | undefined;
  try {
    const primary = sides[0] as SideProcess;
    await primary.notice('listening');
    client = await ConsoleClient.connect({ addresses: [`unix:${at('primary.console')}`] });
    client.ended.catch(() => {});
    await within(LIMIT_MS, 'filling memory', once(client.stdout, 'data'), () => {});
    const asked = askOn(client);
    const beganUs = monotonicUs();
    sides.push(new SideProcess('shadow', [...shared, ...own('shadow')]));
    const armed = await within(LIMIT_MS, 'a join', primary.notice('armed'), () => {});
    const waitMs = await asked.stop();
    const detail = (await primary.notice('state-sent')).detail ?? '';
    const [pages, pauseMs] = [/^(\d+) pages/, /stood still for (\d+) ms/].map((part) =>
      Number(part.exec(detail)?.[1]),
    );
    return {
      totalMs: ((armed.timeUs ?? Number.NaN) - beganUs) / 1000,
      pauseMs: pauseMs as number,
      waitMs,
      pages: pages as number,
    };
  } finally {
    await client?.close();
    for (const side of sides) {
      if (side.exited === undefined) side.kill();
      await side.end();
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

export const reprotect: Case = {
  name: 'reprotect',
  about: 'a new shadow joins a running machine that uses 256 MiB',
  minutes: 2,
  run: async ({ directory, progress, quick, timer }) => {
    const timeUp = timer(1);
    const joins: Join[] = [];
    for (let i = 0; i < (quick ? 2 : 7) && !(i >= 2 && timeUp()); i++) {
      progress(`reprotect: join ${i + 1}`);
      joins.push(await joinOnce(join(directory, `join-${i}`)));
    }
    const pages = summarise(joins.map((one) => one.pages)).median;
    const what = `${joins.length} joins, ${Math.round((pages * 4) / 1024)} MiB sent, busybox awk writing meanwhile`;
    const value = (pick: (one: Join) => number) => ({
      unit: 'ms' as const,
      value: summarise(joins.map(pick)),
    });
    return {
      rows: [
        {
          budget: 'start of the new shadow to protected',
          what,
          ours: value((one) => one.totalMs),
          limit: 10_000,
        },
        { budget: "the guest's pause for it", what, ours: value((one) => one.pauseMs), limit: 200 },
        { budget: 'the slowest answer meanwhile', what, ours: value((one) => one.waitMs) },
      ],
      notes: [vmwareReprotect],
    };
  },
};
