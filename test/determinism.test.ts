import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { run, scratch, shell } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { Random } from './helpers/random.js';
import { checkWorkload, ourProcessors, recordWorkload, replayOn, whatIsWrong } from './helpers/replays.js';
import { makeWorkloads } from './helpers/workloads.js';

const REPLAYS = times(5);

const directory = mkdtempSync(join(tmpdir(), 'lockstep-determinism-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

for (const workload of makeWorkloads(directory)) {
  test.serial(
    `${workload.name}: ${REPLAYS} replays on either core, kicked, are what was recorded`,
    async (t) => {
      await checkWorkload(t, workload, REPLAYS);
    },
  );
}

test.serial('kicks do arrive', async (t) => {
  const log = join(scratch(t), 'x.log');
  const argv = ['busybox', 'sh', '-c', 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i'];
  const recorded = await recordWorkload({ name: '', argv }, log, new Random(1));
  const [report] = await replayOn(ourProcessors()[0] as number, [
    { log, stdout: `${log}.out`, kicks: { perSecond: 5000, seed: 1 } },
  ]);
  t.truthy(report);
  if (!report) return;
  t.is(whatIsWrong(report, recorded), undefined);
  t.true(report.kicked > 0);
});

test.serial('with a seed, a time and input from a file, two recordings are identical files', async (t) => {
  const here = scratch(t);
  const input = join(here, 'input');
  writeFileSync(input, Array.from({ length: 3000 }, (_, index) => `${index} ${index * index}\n`).join(''));
  const program = 'NR % 7 == 0 { srand(); print rand() > 2, $2 } END { print systime(), NR }';
  const logs = ['a.log', 'b.log'].map((name) => join(here, name));
  const fixed = ['--seed', '7', '--time', '2026-01-31T12:00:00Z', '--digest-every', '1'];
  const record = (log: string) =>
    `exec "$0" "$1" record --log '${log}' ${fixed.join(' ')} -- busybox awk '${program}' < '${input}'`;
  const outputs: string[] = [];
  for (const log of logs) {
    const { status, stdout, stderr } = await shell(record(log));
    t.is(status, 0, stderr);
    outputs.push(stdout.toString());
  }
  t.is(outputs[0], outputs[1]);
  t.regex(outputs[0] as string, /^1769860800 3000$/m);
  t.true(readFileSync(logs[0] as string).equals(readFileSync(logs[1] as string)));
  const { status } = await run(['replay', logs[0] as string, '--quiet']);
  t.is(status, 0);
});
