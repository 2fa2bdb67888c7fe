/** The bridge that a machine's card is joined to. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import { lockstep } from './helpers/command.js';
import { Namespace } from './helpers/namespace.js';

test('it keeps its address when a machine comes and goes, even where that of its card is a high one', async (t) => {
  const host = await Namespace.make();
  t.teardown(() => host.remove());
  const inside = (line: string): string => {
    const [program, ...rest] = host.inside(line.split(' ')) as [string, ...string[]];
    return execFileSync(program, rest, { encoding: 'utf8' });
  };
  const own = 'fe:ff:ff:ff:ff:fe';
  for (const line of [
    'ip link add plug type bridge',
    `ip link add card address ${own} type veth peer name cable`,
    'ip link set card master plug',
    'ip link set card up',
    'ip link set plug up',
  ])
    inside(line);
  const address = () => /link\/ether (\S+)/.exec(inside('ip -o link show dev plug'))?.[1];
  t.is(address(), own);
  const [program, ...rest] = host.inside([process.execPath, lockstep, 'run', '--net', 'bridge:plug']) as [
    string,
    ...string[],
  ];
  const machine = spawn(program, [...rest, '--', '/bin/busybox', 'sh', '-c', 'echo up; read -r line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const over = once(machine, 'close');
  const [said] = await once(machine.stdout, 'data');
  t.is(String(said), 'up\n');
  t.is(inside('ip -o link show master plug').trim().split('\n').length, 2);
  t.is(address(), own);
  machine.stdin.end('\n');
  t.deepEqual(await over, [0, null]);
  t.is(address(), own);
});
