// Debian packages that are unpacked beside the system instead of being installed, because an installation would do
// more than is wanted: start a server, change what boots. Kept in the cache directory.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const unpackedRoot = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lockstep/debian');

function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (result.error) throw result.error;
  if (result.status === 0) return;
  throw new Error(`\`${command} ${args.join(' ')}\` failed:\n${result.stderr}`.trimEnd());
}

/** The directory with the package's files, which are fetched where they are not there yet. */
export function unpackDebian(name) {
  const directory = join(unpackedRoot, name);
  if (existsSync(directory)) return directory;
  console.error(`Fetching ${name}, to be unpacked, not installed ...`);
  mkdirSync(unpackedRoot, { recursive: true });
  const work = mkdtempSync(join(unpackedRoot, '.new-'));
  try {
    run('apt-get', ['download', '-qq', name], work);
    const archive = readdirSync(work).find((file) => file.endsWith('.deb'));
    run('dpkg-deb', ['-x', archive, 'unpacked'], work);
    renameSync(join(work, 'unpacked'), directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return directory;
}
