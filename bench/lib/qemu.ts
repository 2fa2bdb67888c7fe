/** QEMU with the same few bytes as its whole BIOS: no other code runs in it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { within } from './measure.js';

const QEMU = 'qemu-system-x86_64';
const LIMIT_MS = 120_000;
const BIOS_BYTES = 64 * 1024;

/** QEMU's path, or null where it is not installed. */
export function findQemu(): string | null {
  for (const directory of (process.env.PATH ?? '').split(':')) {
    const path = join(directory, QEMU);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here.
    }
  }
  return null;
}

/** A BIOS that jumps to `code` at F000:0000 on reset. */
export function writeBios(path: string, code: Uint8Array): void {
  const bios = Buffer.alloc(BIOS_BYTES, 0xf4);
  bios.set(code, 0);
  bios.set([0xea, 0x00, 0x00, 0x00, 0xf0], BIOS_BYTES - 16); // ljmp $0xf000,$0
  writeFileSync(path, bios);
}

export type QemuMode = 'plain' | 'record' | 'replay';

/** Milliseconds that QEMU takes with this BIOS, its own start included; the code ends it through port 0x604. */
export async function timeQemu(qemu: string, bios: string, mode: QemuMode, log: string): Promise<number> {
  const icount = mode === 'plain' ? [] : ['-icount', `shift=auto,rr=${mode},rrfile=${log}`];
  const begun = performance.now();
  const child = spawn(
    qemu,
    [
      ...['-machine', 'pc,accel=tcg', '-m', '16', '-nodefaults', '-display', 'none', '-net', 'none'],
      ...['-bios', bios, '-serial', 'null', '-monitor', 'none', '-no-reboot'],
      ...['-device', 'isa-debug-exit,iobase=0x604,iosize=4', ...icount],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [status] = await within(LIMIT_MS, `QEMU, ${mode}`, once(child, 'close'), () => child.kill('SIGKILL'));
  // isa-debug-exit makes (value << 1) | 1 of what was written.
  if (status !== 1) throw new Error(`QEMU, ${mode}, ended with ${status}: ${said.trim()}`);
  return performance.now() - begun;
}
