/** What `lockstep primary` and `lockstep shadow` are told on a host, and the files with the keys they need for that. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EtcdOptions } from '../arbiter-etcd.js';
import type { CableOptions } from '../net-options.js';
import type { SecurityOptions } from '../tls.js';
import type { MachineSpec, WantedSide } from './records.js';

function where({ tap, bridge, unix }: CableOptions): string {
  if (unix !== undefined) return `unix:${unix}`;
  const name = typeof tap === 'string' ? tap : '';
  if (bridge !== undefined) return name ? `bridge:${bridge},${name}` : `bridge:${bridge}`;
  return name ? `tap:${name}` : 'tap';
}

export class SideCommand {
  /** A password on the command line would be seen by everybody. */
  readonly env: NodeJS.ProcessEnv;
  readonly #shared: string[];
  readonly #net: string | undefined;

  constructor(directory: string, options: SecurityOptions & { etcd: EtcdOptions; net?: CableOptions }) {
    const { tls, insecure, etcd, net } = options;
    const keys = join(directory, 'keys');
    mkdirSync(keys, { recursive: true, mode: 0o700 });
    const file = (name: string, text: string) => {
      writeFileSync(join(keys, name), text, { mode: 0o600 });
      return join(keys, name);
    };
    const given = (flags: Record<string, string | undefined>, kind: string) =>
      Object.entries(flags).flatMap(([name, text]) =>
        text === undefined ? [] : [`--${kind}-${name}`, file(`${kind}-${name}.pem`, text)],
      );
    this.#shared = [
      ...['--arbiter', `etcd:${etcd.endpoints.join(',')}`],
      ...given({ ca: etcd.tls?.ca, cert: etcd.tls?.cert, key: etcd.tls?.key }, 'etcd'),
      ...given({ ca: tls?.ca, cert: tls?.cert, key: tls?.key }, 'tls'),
      ...(insecure ? ['--insecure'] : []),
      // What its host cannot keep of what a program prints must not stop it.
      ...['--unread', 'forget'],
    ];
    this.#net = net && where(net);
    const { auth } = etcd;
    this.env = auth
      ? { ...process.env, ETCDCTL_USER: auth.username, ETCDCTL_PASSWORD: auth.password }
      : process.env;
  }

  args(spec: MachineSpec, wanted: WantedSide, listensAt: string, image: string | undefined): string[] {
    const net = spec.net && this.#net !== undefined ? ['--net', this.#net] : [];
    const { join: link = '', pair } = wanted;
    const whose = pair === undefined ? [] : ['--pair', pair];
    if (wanted.role === 'shadow') {
      // What comes after its end is the keeper's to say, and who answers at that address may be another machine by now.
      return ['--once', '--link', link, ...whose, '--relink', listensAt, ...this.#shared, ...net];
    }
    const primary = ['--link', listensAt, ...whose, ...this.#shared, ...net, '--image', image ?? ''];
    if (spec.isSnapshot) return primary;
    const { ip, gateway, mac } = spec.net ?? {};
    const card = Object.entries({ ip, gateway, mac }).flatMap(([name, value]) =>
      value === undefined ? [] : [`--${name}`, value],
    );
    return [...primary, ...card, '--memory', String(spec.memoryMiB), '--cpu', spec.cpuModel];
  }
}
