import { existsSync, readFileSync } from 'node:fs';

/**
 * The package's directory: the nearest above this module that has a package.json. Modules stand in dist/, but
 * the command line's are bundled into a directory of their own.
 */
export const packageRoot = findRoot(new URL('.', import.meta.url));

function findRoot(directory: URL): URL {
  const above = new URL('..', directory);
  if (existsSync(new URL('package.json', directory)) || above.href === directory.href) return directory;
  return findRoot(above);
}

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8'));
  return version;
}
