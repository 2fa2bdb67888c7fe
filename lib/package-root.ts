import { existsSync } from 'node:fs';

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
