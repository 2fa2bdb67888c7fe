/** redis-benchmark, as Debian ships it, and what it says. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface Load {
  clients: number;
  /** Of SET, and again of GET. */
  requests: number;
}

/** Microseconds for a request, all clients together. */
export interface Speed {
  SET: number;
  GET: number;
}

const COMMANDS = ['SET', 'GET'] as const;

/** @param inside what puts a command line into the client's network namespace, where it is not this process's. */
export async function benchmark(
  host: string,
  { clients, requests }: Load,
  inside = (argv: string[]) => argv,
): Promise<Speed> {
  const argv = [
    'redis-benchmark',
    '-h',
    host,
    '-c',
    `${clients}`,
    '-n',
    `${requests}`,
    '-t',
    'set,get',
    '--csv',
  ];
  const [file, ...args] = inside(argv) as [string, ...string[]];
  const { stdout } = await promisify(execFile)(file, args);
  const speed = (command: string) => {
    const found = new RegExp(`^"${command}","([0-9.]+)"`, 'm').exec(stdout);
    if (!found) throw new Error(`redis-benchmark says nothing of ${command}: ${stdout}`);
    return 1e6 / Number(found[1]);
  };
  return Object.fromEntries(COMMANDS.map((command) => [command, speed(command)])) as unknown as Speed;
}
