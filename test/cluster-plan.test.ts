/** What a keeper decides, over a model of hosts to which anything may happen at any time. */
import test from 'ava';
import { chooseHost } from '../lib/cluster/plan.js';
import { World } from './helpers/cluster-world.js';
import { printedRandom } from './helpers/command.js';

test('of one machine there is never a second, and one that is not lost is protected in the end', (t) => {
  const random = printedRandom(t);
  let survived = 0;
  for (let round = 0; round < 3000; round++) {
    const world = new World(random, random.between(2, 5));
    for (let step = random.between(5, 120); step > 0 && !world.lost; step--) {
      if (random.between(0, 2) === 0) world.strike();
      else if (random.between(0, 1) === 0) world.beatSome();
      else world.keep();
      if (random.between(0, 2) === 0) for (const side of world.real.values()) world.join(side);
      if (world.running().length > 1 || world.begun.size > 1) t.fail(`round ${round}: ${world.tell()}`);
    }
    if (world.lost) {
      t.is(world.running().length, 0, `round ${round} gave up a machine that runs: ${world.tell()}`);
      continue;
    }
    const ran = world.begun.size > 0;
    const left = world.running().length;
    world.settle();
    if (left === 0 && ran) {
      t.true(world.lost, `round ${round}: all are gone, and nobody says so: ${world.tell()}`);
      continue;
    }
    // Nobody can say of two hosts that died at the start whether the machine had run.
    if (world.lost && !ran) continue;
    survived++;
    t.is(world.begun.size, 1, `round ${round}: ${world.tell()}`);
    t.is(world.running().length, 1, `round ${round}: ${world.tell()}`);
    const { protected: isProtected } = world.keep();
    t.true(isProtected, `round ${round} is not protected in the end: ${world.tell()}`);
    t.is(world.wanted.size, 2, `round ${round}: ${world.tell()}`);
  }
  t.true(survived > 100, `${survived} machines survived`);
});

test('the next side goes to the host with the most to spare, and says why others will not do', (t) => {
  const { machine, hosts } = new World(printedRandom(t), 5).view();
  const change = (name: string, fields: object) => Object.assign(hosts.get(name) as object, fields);
  change('host0', { memoryFreeMiB: 163 });
  change('host1', { vendor: 'w' });
  change('host2', { cpuModel: 'x86-64-v2' });
  change('host3', { sides: 1 });
  const { host, refused } = chooseHost(machine, hosts, new Set());
  t.is(host?.name, 'host4');
  t.deepEqual(refused, ['host0 has 163 MiB free of 164', 'host1 has a CPU of w', 'host2 has only x86-64-v2']);
  t.is(chooseHost(machine, hosts, new Set(), new Set(['host4'])).host?.name, 'host3');
  t.is(chooseHost(machine, hosts, new Set(['host4'])).host?.name, 'host3');
  change('host3', { leaving: true });
  t.is(chooseHost(machine, hosts, new Set(['host4'])).host, undefined);
});
