/** /etc/ld.so.cache: reads the host's, and writes one for libraries in directories that ld.so does not search by itself. */

const MAGIC = 'glibc-ld.so.cache1.1';
const HEADER_BYTES = 48;
const ENTRY_BYTES = 24;
/** ELF, libc6, x86-64. */
const FLAGS = 0x0303;
/** The cache says that it is little-endian. */
const LITTLE_ENDIAN = 2;

export interface CachedLibrary {
  path: string;
  /** For which glibc-hwcaps level: `x86-64-v3`; '' for any CPU. */
  level: string;
}

/** Names and where they lead, best first. A cache in a form not known here counts as empty. */
export function readLdCache(bytes: Uint8Array): Map<string, CachedLibrary[]> {
  const libraries = new Map<string, CachedLibrary[]>();
  const cache = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // An old-format cache may stand in front; Debian has written the new one alone for years.
  if (cache.length < HEADER_BYTES || cache.toString('latin1', 0, MAGIC.length) !== MAGIC) return libraries;
  const count = cache.readUInt32LE(20);
  if (HEADER_BYTES + count * ENTRY_BYTES > cache.length) return libraries;
  const text = (at: number): string => {
    const end = cache.indexOf(0, at);
    return cache.toString('utf8', at, end < 0 ? cache.length : end);
  };
  for (let i = 0, at = HEADER_BYTES; i < count; i++, at += ENTRY_BYTES) {
    if (cache.readUInt32LE(at) !== FLAGS) continue;
    const name = text(cache.readUInt32LE(at + 4));
    const path = text(cache.readUInt32LE(at + 8));
    const level = /\/glibc-hwcaps\/([^/]+)\//.exec(path)?.[1] ?? '';
    const list = libraries.get(name) ?? [];
    list.push({ path, level });
    libraries.set(name, list);
  }
  for (const list of libraries.values())
    list.sort((a, b) => (a.level === b.level ? 0 : a.level < b.level ? 1 : -1));
  return libraries;
}

/** A cache of these libraries, by name. ld.so searches it by halving, in its own order. */
export function writeLdCache(libraries: ReadonlyMap<string, string>): Uint8Array {
  const entries = [...libraries].sort(([a], [b]) => compareNames(b, a));
  const stringsAt = HEADER_BYTES + entries.length * ENTRY_BYTES;
  const cache = Buffer.alloc(stringsAt);
  cache.write(MAGIC, 0, 'latin1');
  cache.writeUInt32LE(entries.length, 20);
  cache.writeUInt8(LITTLE_ENDIAN, 28);
  const strings: Buffer[] = [];
  let end = stringsAt;
  const add = (text: string): number => {
    const at = end;
    strings.push(Buffer.from(`${text}\0`));
    end += Buffer.byteLength(text) + 1;
    return at;
  };
  entries.forEach(([name, path], i) => {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    cache.writeUInt32LE(FLAGS, at);
    cache.writeUInt32LE(add(name), at + 4);
    cache.writeUInt32LE(add(path), at + 8);
  });
  cache.writeUInt32LE(end - stringsAt, 24);
  return Buffer.concat([cache, ...strings]);
}

/** Numbers in names count by value: libx.so.10 comes after libx.so.9. */
export function compareNames(a: string, b: string): number {
  const pieces = (name: string): (number | string)[] =>
    (name.match(/\d+|[^\d]/g) ?? []).map((piece) => (/^\d/.test(piece) ? Number(piece) : piece));
  const [left, right] = [pieces(a), pieces(b)];
  for (let i = 0; ; i++) {
    const [x, y] = [left[i], right[i]];
    if (x === undefined || y === undefined) return (x === undefined ? 0 : 1) - (y === undefined ? 0 : 1);
    if (x === y) continue;
    if (typeof x === 'number') return typeof y === 'number' ? x - y : 1;
    if (typeof y === 'number') return -1;
    return x.charCodeAt(0) - y.charCodeAt(0);
  }
}
