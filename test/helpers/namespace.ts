// Network namespaces: hosts of their own as far as the network knows.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** A program, to its end. */
export async function run(argv: string[]): Promise<void> {
  const child = spawn(argv[0] as string, argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`${argv.join(' ')} ended with ${status}: ${said}`);
}

/** A network namespace that a sleeping process holds; it ends with its standard input. */
export class Namespace {
  readonly #holder: ChildProcess;
  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async make(): Promise<Namespace> {
    const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo made; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await Promise.race([
      once(holder.stdout, 'data'),
      once(holder, 'close').then(() => {
        throw new Error('no network namespace can be made: this needs root');
      }),
    ]);
    const made = new Namespace(holder);
    const quiet = 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up';
    await run(made.inside(['sh', '-c', quiet]));
    return made;
  }

  get path(): string {
    return `/proc/${this.#holder.pid}/ns/net`;
  }

  /** The command line, run in here. */
  inside(argv: string[]): string[] {
    return ['nsenter', `--net=${this.path}`, ...argv];
  }

  async remove(): Promise<void> {
    const ended = once(this.#holder, 'close');
    this.#holder.stdin?.end();
    await ended;
  }
}
