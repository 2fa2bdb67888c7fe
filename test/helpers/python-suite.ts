/** Python's own tests, as Debian packs them: what each answers on the host, and recorded in a machine. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_ENV } from '../../lib/image/program-image.js';
import { unpackDebian } from '../../scripts/unpack-debian.mjs';
import { command } from './command.js';
import { excluded } from './python-excluded.js';
import type { Random } from './random.js';
import { type Recorded, recordWorkload } from './replays.js';

const PYTHON = '/usr/bin/python3';
/** Where both have the tests: some start Python again, which then knows no other place. */
const TESTS = '/usr/lib/python3.11/test';
const PACKAGE = 'libpython3.11-testsuite';
/** Tests that other tests import. */
const IMPORTED = ['test_grammar'];

/** How often each test had each outcome ("passed test.test_json..."): doctests of two modules bear the same name. */
export type Outcomes = Map<string, number>;

/** Makes the package `test` in `directory`: what of it is installed with Python, and the tests of the modules. */
export function layOut(directory: string, modules: readonly string[]): void {
  mkdirSync(directory, { recursive: true });
  cpSync(TESTS, directory, { recursive: true, preserveTimestamps: true });
  const unpacked = join(unpackDebian(PACKAGE), TESTS);
  for (const name of readdirSync(unpacked)) {
    const module = /^(test_\w+)(\.py)?$/.exec(name)?.[1];
    if (module !== undefined && ![...modules, ...IMPORTED].includes(module)) continue;
    cpSync(join(unpacked, name), join(directory, name), { recursive: true, preserveTimestamps: true });
  }
}

function argvOf(module: string, report: string, only: readonly string[] = []): string[] {
  const ignore = excluded(module).flatMap((pattern) => ['--ignore', pattern]);
  const match = only.flatMap((name) => ['--match', name]);
  return [PYTHON, '-m', 'test', '-v', '--junit-xml', report, ...ignore, ...match, module];
}

/** The outcomes in a report as JUnit writes them. */
function outcomesOf(xml: string): Outcomes {
  const outcomes: Outcomes = new Map();
  for (const [, name, rest = ''] of xml.matchAll(
    /<testcase name="([^"]*)"(.*?)(?=<testcase |<\/testsuite>)/gs,
  )) {
    const [, what = 'passed'] = /<(failure|error|skipped)\b/.exec(rest) ?? [];
    const outcome = `${what} ${name}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

/** Runs a module on the host, where the tests lie over those installed, with a network of its own. */
export async function onHost(module: string, tests: string, scratch: string): Promise<Outcomes> {
  const report = join(scratch, `${module}.xml`);
  const variables = Object.entries(DEFAULT_ENV).map(([key, value]) => `${key}=${value}`);
  const prepare = `mount --bind ${tests} ${TESTS} && ip link set lo up && exec "$@"`;
  const python = [
    'env',
    '-i',
    '-C',
    '/',
    '--default-signal', // a shell's background jobs ignore SIGINT
    ...variables,
    'PYTHONDONTWRITEBYTECODE=1',
    ...argvOf(module, report),
  ];
  const argv = ['unshare', '--mount', '--net', '--uts', 'sh', '-c', prepare, 'sh', ...python];
  const { stdout, stderr, status } = await command(argv);
  const outcomes = outcomesOf(existsSync(report) ? readFileSync(report, 'utf8') : '');
  if (outcomes.size === 0)
    throw new Error(`${module} on the host ended with ${status}: ${stdout}\n${stderr}`);
  return outcomes;
}

/** Records a module in a machine; of its tests only those named, if any are. */
export async function inMachine(
  module: string,
  only: readonly string[],
  tests: string,
  log: string,
  random: Random,
): Promise<{ recorded: Recorded; outcomes: Outcomes }> {
  const files = [{ host: tests, guest: TESTS }];
  const argv = argvOf(module, '/dev/stdout', only);
  const recorded = await recordWorkload({ name: module, argv, files, memoryMiB: 512 }, log, random, 100);
  const said = recorded.stdout.toString();
  return { recorded, outcomes: outcomesOf(said.slice(said.lastIndexOf('<testsuites '))) };
}

/** What passed on the one side and did not on the other. */
export function lost(there: Outcomes, here: Outcomes): string[] {
  return [...there]
    .filter(([outcome, count]) => outcome.startsWith('passed ') && (here.get(outcome) ?? 0) < count)
    .map(([outcome]) => outcome.slice('passed '.length));
}
