/** What an operator asks of a pair: `lockstep status` and the metrics, before and after the primary is killed. */
import { join } from 'node:path';
import test from 'ava';
import { SideProcess } from '../lib/control/side-process.js';
import { ConsoleClient } from '../lib/index.js';
import { run, scratch } from './helpers/command.js';

interface Sample {
  name: string;
  labels: string;
  value: number;
}

/** Prometheus' text format, as far as these metrics need it. */
function parse(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => {
      const [, name = '', labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      return { name, labels, value: Number(value) };
    });
}

test.serial('status and metrics follow a pair through a takeover', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`];
  const own = (name: string) => ['--console', `unix:${at(name)}`, '--control', at(`${name}.control`)];
  const primary = new SideProcess('primary', [...shared, ...own('p'), '--', 'busybox', 'cat']);
  t.teardown(() => primary.kill());
  await primary.notice('listening');
  // The port is free, but for bad luck: nothing here has it yet.
  const port = 20_000 + (process.pid % 20_000);
  const shadow = new SideProcess('shadow', [...shared, ...own('s'), '--metrics', `127.0.0.1:${port}`]);
  t.teardown(() => shadow.kill());
  await primary.notice('armed');
  const client = await ConsoleClient.connect({ addresses: [`unix:${at('p')}`, `unix:${at('s')}`] });
  t.teardown(() => client.close());
  client.stdin.write('one\n');
  for await (const chunk of client.stdout) if (String(chunk).includes('one')) break;

  const controls = [at('p.control'), at('s.control')];
  const whole = await run(['status', ...controls]);
  t.is(whole.status, 0, whole.stderr);
  const [title, first, second] = whole.stdout.toString().split('\n');
  t.regex(
    title as string,
    /^side +role +protected +generation +events +lag +log +log rate +held +round trip +up/,
  );
  t.regex(first as string, /p\.control +primary +yes +1 /);
  t.regex(second as string, /s\.control +shadow +yes +1 /);

  const metrics = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    t.is(response.status, 200);
    return parse(await response.text());
  };
  const value = (samples: Sample[], name: string, labels = '') =>
    samples.find((sample) => sample.name === name && sample.labels === labels)?.value;
  const before = await metrics();
  t.is(value(before, 'lockstep_live'), 0);
  t.is(value(before, 'lockstep_protected'), 1);
  t.is(value(before, 'lockstep_pause_seconds_count'), 0);
  t.is((await fetch(`http://127.0.0.1:${port}/other`)).status, 404);

  primary.kill();
  await shadow.notice('live');
  client.stdin.write('two\n');
  await shadow.notice('first-output');
  const after = await metrics();
  t.is(value(after, 'lockstep_live'), 1);
  t.is(value(after, 'lockstep_protected'), 0);
  t.is(value(after, 'lockstep_generation'), 2);
  t.is(value(after, 'lockstep_notices_total', 'notice="live"'), 1);
  t.is(value(after, 'lockstep_pause_seconds_count'), 1);

  const alone = await run(['status', '--json', ...controls]);
  t.is(alone.status, 1, alone.stderr);
  const { sides } = JSON.parse(alone.stdout.toString());
  t.regex(sides[0].error, /no machine answers/);
  const { report } = sides[1];
  t.like(report, { role: 'primary', startedAs: 'shadow', generation: 2, protected: false });
  t.is(report.pauses.length, 1);
  t.like(report.pauses[0], { as: 'shadow', generation: 2 });
  t.true(report.pauses[0].totalMs >= report.pauses[0].claimMs + report.pauses[0].catchUpMs);

  shadow.kill();
  await shadow.end();
  t.is((await run(['status', ...controls])).status, 2);
});

test('a machine that is no side of a pair, and a bad address for metrics, are refused', async (t) => {
  const directory = scratch(t);
  const sides = ['--link', `unix:${directory}/l`, '--console', `unix:${directory}/c`];
  const bad = await run([
    'primary',
    ...sides,
    '--arbiter',
    `file:${directory}/a`,
    '--metrics',
    'x',
    '--',
    'busybox',
    'true',
  ]);
  t.is(bad.status, 125);
  t.regex(bad.stderr, /--metrics x is no address/);
});
