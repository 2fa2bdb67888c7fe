import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's server under its own name. It is one file with redis-check-rdb, whose package starts no service. */
export function redisServer(directory: string): string[] {
  const path = join(directory, 'redis', 'redis-server');
  mkdirSync(join(directory, 'redis'), { recursive: true });
  symlinkSync('/usr/bin/redis-check-rdb', path);
  return [path, '--save', '', '--appendonly', 'no', '--protected-mode', 'no'];
}
