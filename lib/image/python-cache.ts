/**
 * Python's compiled modules (.pyc) carry the time of their source, which in the guest is another:
 * without the new time Python would compile all it imports at every start.
 */
import type { TreeEntry } from './guest-tree.js';

const FLAGS = 4;
const MTIME = 8;
const SOURCE_BYTES = 12;
const HEADER_BYTES = 16;

/** The entries, with those .pyc files dated anew that were valid beside their source on the host. */
export function redated(entries: readonly TreeEntry[], mtimeSeconds: number): readonly TreeEntry[] {
  const sources = new Map(entries.filter(({ path }) => path.endsWith('.py')).map((one) => [one.path, one]));
  for (const entry of entries) {
    const name = /^(.*)\/__pycache__\/([^/]+)\.cpython-\d+(\.opt-\d)?\.pyc$/.exec(entry.path);
    const source = name ? sources.get(`${name[1]}/${name[2]}.py`) : undefined;
    if (!source || entry.asData || entry.data.length < HEADER_BYTES) continue;
    const header = Buffer.from(entry.data.subarray(0, HEADER_BYTES));
    const isTimed = header.readUInt32LE(FLAGS) === 0;
    const isValid =
      header.readUInt32LE(MTIME) === (source.hostSeconds ?? -1) % 2 ** 32 &&
      header.readUInt32LE(SOURCE_BYTES) === source.data.length % 2 ** 32;
    if (!isTimed || !isValid) continue;
    header.writeUInt32LE(mtimeSeconds % 2 ** 32, MTIME);
    entry.data = Buffer.concat([header, entry.data.subarray(HEADER_BYTES)]);
  }
  return entries;
}
