import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';

const MIB = 1 << 20;
const PAGE = 4096;

interface Mapping {
  start: number;
  bytes: number;
}

/** The guest's memory in a process that runs a machine: its one anonymous mapping of exactly that size. */
function findGuest(pid: number, mib: number): Mapping {
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0\s*$/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    const start = Number.parseInt(from, 16);
    const bytes = Number.parseInt(to, 16) - start;
    if (bytes === mib * MIB) return { start, bytes };
  }
  throw new Error(`process ${pid} has no mapping of ${mib} MiB`);
}

/** The parts of it that the host has pages for, as far as they touch. */
function resident(pid: number, { start, bytes }: Mapping): Mapping[] {
  const entries = Buffer.alloc((bytes / PAGE) * 8);
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r');
  readSync(pagemap, entries, 0, entries.length, (start / PAGE) * 8);
  closeSync(pagemap);
  const runs: Mapping[] = [];
  for (let page = 0; page < bytes / PAGE; page++) {
    if ((entries.readUInt8(page * 8 + 7) & 0x80) === 0) continue;
    const last = runs.at(-1);
    const at = start + page * PAGE;
    if (last && last.start + last.bytes === at) last.bytes += PAGE;
    else runs.push({ start: at, bytes: PAGE });
  }
  return runs;
}

/** Overwrites every occurrence of `text` in the guest's memory, from outside; the number of them. */
export function corruptText(pid: number, text: string, by: string, mib = 256): number {
  const needle = Buffer.from(text);
  const memory = openSync(`/proc/${pid}/mem`, 'r+');
  let found = 0;
  try {
    for (const { start, bytes } of resident(pid, findGuest(pid, mib))) {
      const content = Buffer.alloc(bytes);
      readSync(memory, content, 0, bytes, start);
      for (let at = content.indexOf(needle); at >= 0; at = content.indexOf(needle, at + 1)) {
        writeSync(memory, Buffer.from(by), 0, needle.length, start + at);
        found++;
      }
    }
  } finally {
    closeSync(memory);
  }
  return found;
}

/** Overwrites one byte of guest-physical memory, from outside. */
export function corruptByte(pid: number, address: number, mib = 256): void {
  const memory = openSync(`/proc/${pid}/mem`, 'r+');
  try {
    const at = findGuest(pid, mib).start + address;
    const byte = Buffer.alloc(1);
    readSync(memory, byte, 0, 1, at);
    byte[0] = (byte[0] as number) ^ 0x20;
    writeSync(memory, byte, 0, 1, at);
  } finally {
    closeSync(memory);
  }
}
