import { readFileSync } from 'node:fs';
import type { EtcdOptions } from '../arbiter-etcd.js';
import { invalid } from '../options.js';
import type { EtcdFlags, EtcdKeyFlags } from './options.js';

/** What --etcd and the options that go with it mean. Addresses may be written as URLs, as etcdctl wants them. */
export function etcdOptions(flags: EtcdFlags): EtcdOptions {
  const endpoints = flags.etcd.split(',').map((one) => one.trim().replace(/^https?:\/\/([^/]+)\/?$/, '$1'));
  const keys = etcdKeys(flags);
  if (/\bhttps:/.test(flags.etcd) && !keys.tls)
    throw invalid(`${flags.etcd} speaks TLS`, 'Say by --etcd-ca FILE whose certificate to trust.');
  return { ...keys, endpoints };
}

/** A password on the command line would be seen by everybody: it comes where etcdctl takes it from, too. */
export function etcdKeys({ etcdCa, etcdCert, etcdKey }: EtcdKeyFlags): Omit<EtcdOptions, 'endpoints'> {
  const { ETCDCTL_USER: user = '', ETCDCTL_PASSWORD: password } = process.env;
  const [, username = user, rest = ''] = /^([^:]*):(.*)$/s.exec(user) ?? [];
  const read = (path: string | undefined) => (path === undefined ? undefined : readText(path));
  const tls =
    etcdCa === undefined ? undefined : { ca: readText(etcdCa), cert: read(etcdCert), key: read(etcdKey) };
  if (!tls && (etcdCert ?? etcdKey) !== undefined)
    throw invalid('--etcd-cert and --etcd-key want --etcd-ca too');
  return { tls, auth: username ? { username, password: password ?? rest } : undefined };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw invalid(`${path} cannot be read: ${(cause as Error).message}`);
  }
}
