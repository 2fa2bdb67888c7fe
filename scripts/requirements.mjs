// What must be on the machine before anything is built. Plain Node: runs with no node_modules.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';

const packages = JSON.parse(readFileSync(new URL('debian-packages.json', import.meta.url), 'utf8'));

function onPath(name) {
  return (process.env.PATH ?? '').split(':').some((directory) => {
    try {
      accessSync(join(directory || '.', name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The compiler that node-gyp will use, whatever it is called. */
const compiler = (process.env.CXX ?? 'g++').split(' ')[0];

function compiles(source) {
  const flags = ['-x', 'c++', '-std=c++20', '-fsyntax-only', '-'];
  return spawnSync(compiler, flags, { input: source, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}

function links(library) {
  const flags = ['-x', 'c++', '-', '-o', '/dev/null', `-l:${library}`];
  return (
    spawnSync(compiler, flags, { input: 'int main() {}', stdio: ['pipe', 'ignore', 'ignore'] }).status === 0
  );
}

/** Debian's names of the build packages that are missing. */
export function missingBuildPackages() {
  const missing = [];
  if (!onPath('make')) missing.push('make');
  if (!onPath('python3')) missing.push('python3');
  if (!onPath(compiler)) return [...missing, 'g++', 'libzstd-dev', 'libxxhash-dev', 'libgnutls28-dev'];
  if (!compiles('#include <string>\n')) missing.push('g++');
  if (!compiles('#include <zstd.h>\n') || !links('libzstd.a')) missing.push('libzstd-dev');
  if (!compiles('#include <xxhash.h>\n')) missing.push('libxxhash-dev');
  if (!compiles('#include <gnutls/gnutls.h>\n')) missing.push('libgnutls28-dev');
  return missing;
}

/** Those of the named groups (`demo`, `unplug`, `test`) that dpkg does not know as installed. */
export function missingDebianPackages(groups) {
  const wanted = groups.flatMap((group) => packages[group]);
  return wanted.filter((name) => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own format string
    const query = spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status}', name], { encoding: 'utf8' });
    return query.stdout?.trim() !== 'installed';
  });
}

/** Those of the groups whose files are wanted and whose services nobody wants. */
export function unpackedPackages(groups) {
  return groups.flatMap((group) => packages.unpacked[group] ?? []);
}

/** The one line that installs them. */
export function aptLine(names) {
  return `apt-get install -y --no-install-recommends ${names.join(' ')}`;
}
