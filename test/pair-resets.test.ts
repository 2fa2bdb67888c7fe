import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { printedRandom, run, scratch } from './helpers/command.js';
import { RESETS } from './helpers/pair-resets.js';
import { testFaults } from './helpers/pair-slice.js';
import { Chain } from './helpers/rejoin.js';
import { TcpRelay } from './helpers/tcp-relay.js';

testFaults(test, RESETS, 2);

test.serial('a link that is reset while a shadow joins comes back, and the shadow takes over', async (t) => {
  const random = printedRandom(t);
  const directory = scratch(t);
  const options = ['--link', 'tcp:127.0.0.1:0', '--grace', '10000', '--silence', '15000'];
  const chain = new Chain(directory, options);
  let relay: TcpRelay | undefined;
  try {
    const fill = 'BEGIN { for (i = 0; i < 100000; i++) a[i] = i * 7919 "x" } { print NR, a[NR]; fflush() }';
    await chain.start(['--', 'busybox', 'awk', fill]);
    const link = /tcp:\S+(?=\.$)/.exec((await chain.live.notice('listening')).detail ?? '')?.[0] ?? '';
    const firewall = await TcpRelay.before(link);
    relay = firewall;
    // Before a shadow has the whole header it simply begins anew; then it resumes, which is what this is for.
    let left = random.between(200_000, 3_000_000);
    firewall.heard = (bytes) => {
      left -= bytes.length;
      const enough = firewall.resets >= 8 && chain.live.first.has('resumed');
      if (left > 0 || enough || firewall.resets >= 100) return;
      left = random.between(20_000, 3_000_000);
      setImmediate(() => firewall.reset());
    };
    await chain.join(['--link', firewall.address]);
    t.log(`${firewall.resets} resets`);
    t.true(firewall.resets > 0);
    t.true(chain.live.first.has('resumed'));
    await chain.takeOver();
    chain.kill();
    for (const log of [chain.log(0), chain.log(1)]) {
      t.true(existsSync(log));
      t.is((await run(['replay', '--quiet', log])).status, 0, join(directory, log));
    }
  } finally {
    t.log(chain.sides[0]?.first.get('join-lost')?.detail ?? 'the join was never lost');
    chain.kill();
    relay?.close();
  }
});
