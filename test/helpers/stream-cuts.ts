/** A program that is streamed while connections are cut, the server is killed, and the client too. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockstep } from './command.js';
import type { Made } from './published.js';
import type { Random } from './random.js';
import { ThinLine } from './thin-line.js';

export interface Cuts {
  connections: number;
  servers: number;
  clients: number;
  /** What is wrong in the end; empty: nothing. */
  wrong: string[];
}

const HUNG_MS = 60_000;

/** Cuts until there were so many and the image is whole, however often it starts over. */
export async function streamWithCuts(
  made: Made,
  directory: string,
  random: Random,
  cuts: number,
): Promise<Cuts> {
  const done: Cuts = { connections: 0, servers: 0, clients: 0, wrong: [] };
  const port = await freePort();
  let server = await startServer(made.site, port);
  const line = await ThinLine.open(port, 1_000_000);
  const output = join(directory, 'streamed.lsm');
  let client = startClient(`${line.url}app.lsm`, output);
  const restart = async () => {
    client.child.kill('SIGKILL');
    await client.ended;
    client = startClient(`${line.url}app.lsm`, output);
  };
  try {
    for (let i = 0; i < cuts; i++) {
      await sleep(random.between(20, 250));
      if (client.child.exitCode !== null) {
        done.wrong.push(...(await judge(client, made, output)));
        rmSync(output);
        client = startClient(`${line.url}app.lsm`, output);
      }
      const what = random.pick(['connections', 'servers', 'clients'] as const);
      done[what]++;
      if (what === 'connections') line.cut();
      if (what === 'clients') await restart();
      if (what === 'servers') {
        server.kill('SIGKILL');
        await once(server, 'exit');
        await sleep(random.between(0, 300));
        server = await startServer(made.site, port);
      }
    }
    done.wrong.push(...(await judge(client, made, output)));
  } finally {
    client.child.kill('SIGKILL');
    server.kill('SIGKILL');
    await line.close();
  }
  return done;
}

interface Client {
  child: ChildProcess;
  ended: Promise<unknown>;
  said: { stdout: string; stderr: string };
}

function startClient(url: string, output: string): Client {
  const child = spawn(process.execPath, [lockstep, 'stream', url, '-o', output, '--json'], {
    timeout: HUNG_MS,
    killSignal: 'SIGKILL',
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    said.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said.stderr += text;
  });
  child.stdin.on('error', () => {});
  child.stdin.end('go\n');
  return { child, ended: once(child, 'close'), said };
}

/** The program has read every byte of its files, and the image is the one that was published. */
async function judge({ child, ended, said }: Client, made: Made, output: string): Promise<string[]> {
  await ended;
  const wrong: string[] = [];
  if (child.exitCode !== 0)
    wrong.push(`a client ends with ${child.exitCode ?? child.signalCode}: ${said.stderr}`);
  if (said.stdout !== `ready\n${made.answer}`) wrong.push(`the program says ${said.stdout}`);
  if (!existsSync(output) || !readFileSync(output).equals(readFileSync(made.path)))
    wrong.push('the image is another');
  return wrong;
}

async function startServer(site: string, port: number): Promise<ChildProcess> {
  const child = spawn(process.execPath, [lockstep, 'serve', site, '--port', String(port)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await once(child.stderr, 'data');
  return child;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}
