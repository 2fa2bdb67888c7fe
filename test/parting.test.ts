/** How a server's end looks to its clients: as on a host. */
import { join } from 'node:path';
import test from 'ava';
import { command, lockstep, printedRandom, root, scratch } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { replayKicked } from './helpers/replays.js';

const BYTES = 400_000;

/** Sends to its first client what fills that client's window and more, and is gone; the second hears nothing. */
const SERVER = `
import os, socket, sys
listener = socket.create_server(("", 80), backlog=2)
print("ready", flush=True)
first, second = listener.accept()[0], listener.accept()[0]
first.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ${BYTES})
first.sendall(b"x" * ${BYTES})
os._exit(3)`;

/** Reads late, and through a small window. */
const CLIENT = `
import socket, time
sockets = [socket.socket(), socket.socket()]
sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
for one in sockets:
    for _ in range(600):
        try:
            one.connect(("10.0.2.15", 80))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
time.sleep(0.5)
total = 0
while chunk := sockets[0].recv(4096):
    total += len(chunk)
print(total, len(sockets[1].recv(1)))`;

test('what a server sent before it ended arrives, and all its connections are closed', async (t) => {
  const random = printedRandom(t);
  const log = join(scratch(t), 'x.log');
  const script = `
    "$1" "$2" record --quiet --net tap --log "$3" -- /usr/bin/python3 -c "$4" > "$3.out" 2>&1 &
    machine=$!
    until grep -qs ready "$3.out"; do kill -0 $machine || exit 1; sleep 0.05; done
    timeout 100 /usr/bin/python3 -c "$5"
    wait $machine
    echo "status $?"`;
  const argv = [
    'unshare',
    '--net',
    'sh',
    '-c',
    script,
    'sh',
    process.execPath,
    lockstep,
    log,
    SERVER,
    CLIENT,
  ];
  const { stdout, stderr } = await command(argv, { cwd: root });
  t.is(stdout.toString(), `${BYTES} 0\nstatus 3\n`, stderr.toString());
  for (const report of await replayKicked(log, times(4), random)) t.is(report.divergence, null);
});
