import { fromNative, LockstepError } from './errors.js';
import type { NativeMachine } from './native.js';

export interface GuestFile {
  name: string;
  type: 'file' | 'directory' | 'link' | 'pipe' | 'other';
  sizeBytes: number;
}

const TYPES: Record<string, GuestFile['type']> = { f: 'file', d: 'directory', l: 'link', p: 'pipe' };

/** Lines of "TYPE SIZE NAME", as the guest kernel answers them. */
export function parseListing(bytes: Uint8Array): GuestFile[] {
  const lines = Buffer.from(bytes).toString().split('\n').filter(Boolean);
  return lines.map((line) => {
    const [, letter = '', size = '0', name = ''] = /^(\S) (\d+) (.*)$/.exec(line) ?? [];
    return { name, type: TYPES[letter] ?? 'other', sizeBytes: Number(size) };
  });
}

/** One control request: 'R'ead, 'L'ist or 'S'tat (native/guest/abi.h). */
export async function readGuestFile(
  machine: NativeMachine,
  op: 'R' | 'L' | 'S',
  path: string,
): Promise<Uint8Array> {
  if (!path.startsWith('/')) {
    throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} is no absolute path of the guest`);
  }
  try {
    return await machine.control(op.charCodeAt(0), path);
  } catch (cause) {
    throw fromNative(cause);
  }
}
