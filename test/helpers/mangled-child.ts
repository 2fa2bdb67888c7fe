/** Reads, replays and repairs damaged copies of a log; one line of JSON for each. A crash ends the lines. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { LockstepError, Recording, replay } from '../../lib/index.js';
import { type Damage, damaged, type MangledReport } from './mangled.js';

const [log, jobs] = process.argv.slice(2) as [string, string];
const whole = readFileSync(log);
const copy = `${log}.mangled`;
const output = `${log}.output`;

async function attempt<T>(call: () => Promise<T>): Promise<T | { code: string; message: string }> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    return { code: error.code, message: error.message };
  }
}

async function relive() {
  const stdout = openSync(output, 'w');
  try {
    await using replaying = await replay(copy, { stdout });
    const { events, divergence, ended } = await replaying.result;
    return { events, diverged: divergence !== null, ended: ended !== null };
  } finally {
    closeSync(stdout);
  }
}

for (const damage of JSON.parse(readFileSync(jobs, 'utf8')) as Damage[]) {
  writeFileSync(copy, damaged(whole, damage));
  const info = await attempt(async () => {
    const { events, wholeBytes, ending } = (await Recording.open(copy)).info;
    return { events, wholeBytes, ending };
  });
  const replayed = await attempt(relive);
  const stdout = 'code' in replayed ? '' : readFileSync(output, 'latin1');
  const repaired = await attempt(() => Recording.repair(copy));
  const again = 'code' in repaired ? repaired : await attempt(relive);
  const stdoutAgain = 'code' in again ? '' : readFileSync(output, 'latin1');
  const report: MangledReport = { damage, info, replayed, stdout, repaired, again, stdoutAgain };
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
