/** Patterns of file names, as `--first` and `--last` take them. */

/**
 * `*` and `?` stand for what is within one name, `**` for any number of names. A pattern without a slash is
 * about the last name of a path alone; one that names a directory is about all below it.
 */
export function globMatcher(pattern: string): (path: string) => boolean {
  const anywhere = pattern.includes('/') ? '' : '(?:.*/)?';
  const trimmed = pattern.replace(/^\/+|\/+$/g, '');
  const body = trimmed.replace(/\*\*\/|\*\*|\*|\?|[\\^$.|+()[\]{}]/g, (token) => {
    if (token === '**/') return '(?:.*/)?';
    if (token === '**') return '.*';
    if (token === '*') return '[^/]*';
    return token === '?' ? '[^/]' : `\\${token}`;
  });
  const expression = new RegExp(`^/${anywhere}${body}(?:/.*)?$`, 's');
  return (path) => expression.test(path);
}
