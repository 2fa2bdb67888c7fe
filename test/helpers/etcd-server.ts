/** One etcd server on this host, with the options that a test wants. */
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { unpackDebian } from '../../scripts/unpack-debian.mjs';
import { Etcd } from './etcd-hosts.js';

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export interface RunningEtcd {
  etcd: Etcd;
  endpoint: string;
  restart(): Promise<void>;
}

async function startEtcd(more: string[] = []): Promise<RunningEtcd> {
  const etcd = new Etcd(undefined, more);
  const endpoint = `127.0.0.1:${await freePort()}`;
  const peers = `127.0.0.1:${await freePort()}`;
  await etcd.start(endpoint, peers);
  return { etcd, endpoint, restart: () => etcd.start(endpoint, peers) };
}

export async function withEtcd(more: string[], body: (running: RunningEtcd) => Promise<void>): Promise<void> {
  const running = await startEtcd(more);
  try {
    await body(running);
  } finally {
    await running.etcd.remove();
  }
}

/**
 * An authority `ca`, a certificate `host` of it for server and clients, and `other`, which nobody knows. Returns
 * the options that make etcd demand them.
 */
export function certificates(directory: string): string[] {
  const openssl = (...argv: string[]) => execFileSync('openssl', argv, { cwd: directory, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const names = ['-addext', 'subjectAltName=IP:127.0.0.1'];
  for (const name of ['ca', 'other']) {
    openssl('req', '-x509', ...key, '-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`);
  }
  const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-keyout', 'host.key', '-out', 'host.pem'];
  openssl('req', '-x509', ...key, ...signed, '-subj', '/CN=host', ...names);
  const at = (name: string) => join(directory, name);
  const files = [
    '--cert-file',
    at('host.pem'),
    '--key-file',
    at('host.key'),
    '--trusted-ca-file',
    at('ca.pem'),
  ];
  return [...files, '--client-cert-auth'];
}

/** Debian's etcdctl, at a server that speaks plainly. */
export function etcdctl(endpoint: string, ...argv: string[]): void {
  const program = join(unpackDebian('etcd-client'), 'usr/bin/etcdctl');
  execFileSync(program, ['--endpoints', endpoint, ...argv], {
    env: { ...process.env, ETCDCTL_API: '3' },
    stdio: 'pipe',
  });
}
