import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { Image, LockstepError, Machine, type NetOptions, Recording, record, replay } from '../lib/index.js';
import { describePacket } from '../lib/packet.js';

const program = () => Image.fromProgram({ argv: ['busybox', 'echo', 'hello'] });

async function refused(net: NetOptions): Promise<LockstepError> {
  try {
    await using _machine = await Machine.create(await program(), { net });
  } catch (error) {
    if (error instanceof LockstepError) return error;
    throw error;
  }
  throw new Error(`${JSON.stringify(net)} was accepted`);
}

test('malformed network options are refused with a sentence that names them', async (t) => {
  const cases: [NetOptions, RegExp][] = [
    [{ ip: '10.0.2.300/24' }, /10\.0\.2\.300\/24/],
    [{ ip: '10.0.2.15/33' }, /prefix/],
    [{ mac: '2:0:0:0:0:1' }, /hardware address/],
    [{ mac: '03:00:00:00:00:01' }, /group/],
    [{ gateway: '10.0.3.1' }, /not in the machine's network/],
    [{ gateway: '10.0.2.15' }, /both/],
    [{ mtu: 100 }, /mtu/],
    [{ tap: 'a-name-far-too-long' }, /interface's name/],
    [{ tap: 'x', unix: '/y' }, /both/],
    [{ unix: '' }, /PATH/],
  ];
  for (const [net, message] of cases) {
    const error = await refused(net);
    t.is(error.code, 'ERR_LOCKSTEP_INVALID_ARGUMENT');
    t.regex(error.message, message);
  }
});

test('an interface that is no TAP, and a socket nobody can make, are refused', async (t) => {
  t.regex((await refused({ tap: 'lo' })).code, /^ERR_LOCKSTEP_(NET|NET_PERMISSION|NO_TUN)$/);
  const error = await refused({ unix: '/no/such/directory/card' });
  t.is(error.code, 'ERR_LOCKSTEP_NET');
  t.is(error.syscall, 'bind');
});

test('a machine with a network card is recorded and replays to the same digests', async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'lockstep-net-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const log = path.join(directory, 'log');
  const machine = await record(await program(), {
    log,
    digestEvery: 1,
    stdout: 'ignore',
    stderr: 'ignore',
    stdin: 'ignore',
    net: { unix: path.join(directory, 'card'), ip: '10.1.0.2/16', mac: '02:00:00:00:00:09' },
  });
  t.is((await machine.ended).status, 0);
  await machine.close();
  const { options } = (await Recording.open(log)).info;
  t.is(options.net_ip, '10.1.0.2');
  t.is(options.net_netmask, '255.255.0.0');
  t.is(options.net_gateway, '10.1.0.1');
  t.is(options.net_mac, '02:00:00:00:00:09');
  await using again = await replay(log);
  const { divergence, digests } = await again.result;
  t.is(divergence, null);
  t.true(digests.checked >= 2);
});

test('packets are described in a line', (t) => {
  const frame = Buffer.alloc(60);
  frame.writeUInt16BE(0x0800, 12);
  frame.writeUInt8(0x45, 14);
  frame.writeUInt8(6, 23);
  frame.set([10, 0, 2, 2], 26);
  frame.set([10, 0, 2, 15], 30);
  frame.writeUInt16BE(51234, 34);
  frame.writeUInt16BE(6379, 36);
  frame.writeUInt8(0x12, 47);
  t.is(describePacket(frame), '60 bytes tcp 10.0.2.2:51234 > 10.0.2.15:6379 syn,ack');
  for (let length = 0; length <= frame.length; length++)
    t.notThrows(() => describePacket(frame.subarray(0, length)));
  frame.writeUInt16BE(0x86dd, 12);
  t.is(describePacket(frame), '60 bytes ethertype 0x86dd');
});
