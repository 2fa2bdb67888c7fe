// `npm run soak -- [--directory DIR] [--scale X] [--parallel N] [--only REGEXP] [--fresh]`: the full figures.
// Stopped and started again with the same directory, it goes on where it was. Its results go into
// bench/RESULTS.md, between its own marks.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { SoakJob, SoakResult } from './job.js';

const BEGIN = '<!-- soak -->';
const END = '<!-- /soak -->';
const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');

interface State {
  seed: number;
  jobs: Record<string, { state: Record<string, unknown>; result?: SoakResult; minutes: number; at?: string }>;
}

function readState(path: string): State {
  if (!existsSync(path)) return { seed: Math.floor(Math.random() * 2 ** 32), jobs: {} };
  return JSON.parse(readFileSync(path, 'utf8')) as State;
}

/** By rename, so that being killed in the middle loses nothing. */
function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { cwd: root, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

function section(state: State): string {
  const jobs = Object.entries(state.jobs).flatMap(([name, { result, minutes, at }]) =>
    result
      ? [`### ${name}\n\n${result.text.trim()}\n\nFinished ${at} UTC after ${minutes.toFixed(1)} minutes.`]
      : [],
  );
  const host = `${cpus().length} x ${cpus()[0]?.model ?? 'CPU'}, Linux ${release()}, Node ${process.version}`;
  return [
    `## Soak\n\nBy \`npm run soak\`, seed ${state.seed}, commit ${commit()}, on ${host}.`,
    ...jobs,
  ].join('\n\n');
}

function writeResults(state: State): void {
  const path = join(root, 'bench/RESULTS.md');
  mkdirSync(dirname(path), { recursive: true });
  const before = existsSync(path) ? readFileSync(path, 'utf8') : `# Results\n\n${BEGIN}\n${END}\n`;
  const begin = before.indexOf(BEGIN);
  const end = before.indexOf(END, begin);
  const body = `${BEGIN}\n${section(state)}\n${END}`;
  if (begin < 0 || end < 0) replaceFile(path, `${before.trimEnd()}\n\n${body}\n`);
  else replaceFile(path, before.slice(0, begin) + body + before.slice(end + END.length));
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      directory: { type: 'string', default: join(tmpdir(), 'lockstep-soak') },
      scale: { type: 'string', default: '1' },
      parallel: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      fresh: { type: 'boolean', default: false },
    },
  });
  const { directory } = values;
  if (values.fresh) rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const statePath = join(directory, 'state.json');
  const state = readState(statePath);
  const only = new RegExp(values.only);
  let failed = 0;
  for (const file of readdirSync(join(here, 'jobs')).sort()) {
    if (!/\.ts$/.test(file)) continue;
    const job = (await import(join(here, 'jobs', file))) as SoakJob;
    if (!only.test(job.name)) continue;
    state.jobs[job.name] ??= { state: {}, minutes: 0 };
    const mine = state.jobs[job.name] as State['jobs'][string];
    const own = join(directory, file.replace(/\.ts$/, ''));
    mkdirSync(own, { recursive: true });
    console.log(`== ${job.name}`);
    let begin = performance.now();
    const save = () => {
      mine.minutes += (performance.now() - begin) / 60_000;
      begin = performance.now();
      replaceFile(statePath, JSON.stringify(state));
    };
    mine.result = await job.run({
      directory: own,
      seed: state.seed,
      scale: Number(values.scale),
      parallel: Number(values.parallel),
      state: mine.state,
      save,
      say: (text) => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`),
    });
    mine.at = new Date().toISOString().slice(0, 16).replace('T', ' ');
    save();
    failed += mine.result.failed;
    writeResults(state);
    console.log(mine.result.text);
  }
  console.log(failed === 0 ? 'All held.' : `${failed} failed.`);
  return failed === 0 ? 0 : 1;
}

process.exit(await main());
