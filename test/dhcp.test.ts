/** A machine that asks for its address: busybox's DHCP server on the other side of a TAP, and nobody there. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Image, LockstepError, Machine, Recording, record } from '../lib/index.js';
import { command, lockstep, printedRandom, root, scratch } from './helpers/command.js';
import { patience, times } from './helpers/pace.js';
import { replayKicked } from './helpers/replays.js';

const PYTHON = '/usr/bin/python3';

const serverConfiguration = (here: string) => `interface card
start 10.9.0.50
end 10.9.0.50
max_leases 1
min_lease 10
lease_file ${here}/leases
pidfile ${here}/pid
option lease 12
option subnet 255.255.255.0
option router 10.9.0.1
option dns 10.9.0.7 10.9.0.8
option domain lab.example
`;

// In a network namespace of its own: a TAP with a server behind it, the machine, and a client of what it serves.
const script = (here: string, log: string, files: string) => `
  ip tuntap add dev card mode tap && ip address add 10.9.0.1/24 dev card && ip link set card up
  echo 1 > /proc/sys/net/ipv6/conf/card/disable_ipv6
  touch ${here}/leases
  busybox udhcpd -f ${here}/udhcpd.conf 2> ${here}/udhcpd.err & server=$!
  ${process.execPath} ${lockstep} record --quiet --net tap:card --ip dhcp --log ${log} ${files} -- \\
    ${PYTHON} -m http.server 8000 --directory /etc > ${log}.out 2>&1 & machine=$!
  get() { curl -sf --max-time 5 http://10.9.0.50:8000/resolv.conf; }
  for i in $(seq 300); do get > ${here}/resolv.conf && break; sleep 0.1; done
  cat ${here}/resolv.conf
  acks() { grep -ci 'sending ack' ${here}/udhcpd.err; }
  for i in $(seq 600); do [ "$(acks)" -ge 3 ] && break; sleep 0.1; done
  echo "leased $(acks) times"
  get > /dev/null && echo there
  kill $server; wait $server
  for i in $(seq 300); do get > /dev/null || break; sleep 0.1; done
  get > /dev/null || echo gone
  kill -TERM $machine; wait $machine; echo "status $?"`;

test('an address comes by DHCP, is renewed, and is given up when nobody renews it', async (t) => {
  const random = printedRandom(t);
  const here = scratch(t);
  const log = join(here, 'x.log');
  writeFileSync(join(here, 'udhcpd.conf'), serverConfiguration(here));
  const { stdout, stderr } = await command(['unshare', '--net', 'sh', '-c', script(here, log, '')], {
    cwd: root,
  });
  const said = stdout.toString();
  const why = `${said}\n${stderr}\n${readFileSync(join(here, 'udhcpd.err'), 'utf8')}\n${existsSync(`${log}.out`) ? readFileSync(`${log}.out`, 'utf8') : ''}`;
  t.true(said.startsWith('nameserver 10.9.0.7\nnameserver 10.9.0.8\nsearch lab.example\nleased '), why);
  t.regex(said, /\nthere\ngone\nstatus 143\n$/, why);
  t.is((await Recording.open(log)).info.options.net_dhcp, '1');
  for (const report of await replayKicked(log, times(4), random))
    t.is(report.divergence, null, JSON.stringify(report));
});

test('a machine that no DHCP server answers says so, and its recording replays', async (t) => {
  t.timeout(patience(60_000));
  const random = printedRandom(t);
  const here = scratch(t);
  const log = join(here, 'x.log');
  const image = await Image.fromProgram({ argv: ['busybox', 'echo', 'hello'] });
  const net = { unix: join(here, 'card'), ip: 'dhcp' };
  const machine = await record(image, { log, net, stdout: 'ignore', stderr: 'ignore', stdin: 'ignore' });
  const { reason, detail } = await machine.ended;
  await machine.close();
  t.is(reason, 'panic', detail);
  t.regex(detail, /no DHCP server gave the network card an address within 30 s/);
  for (const report of await replayKicked(log, 2, random))
    t.is(report.divergence, null, JSON.stringify(report));
});

test('what contradicts an address by DHCP is refused', async (t) => {
  const image = await Image.fromProgram({ argv: ['busybox', 'echo', 'hello'] });
  for (const [options, message] of [
    [{ net: { ip: 'dhcp', gateway: '10.0.2.2' } }, /gateway/],
    [{ net: { ip: 'dhcp' }, time: new Date() }, /time is fixed/],
  ] as const) {
    const error = await t.throwsAsync(Machine.create(image, options));
    t.true(error instanceof LockstepError && message.test(error.message), error?.message);
  }
});
