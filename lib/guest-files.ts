import { LockstepError } from './errors.js';

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

export function requireAbsolute(path: string): void {
  if (path.startsWith('/')) return;
  throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} is no absolute path of the guest`);
}
