/** Fetches the manifest of what is streamed: from any mirror, again where it comes damaged. */
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../addon.js';
import { LockstepError } from '../errors.js';
import { invalid } from '../options.js';
import type { Mirrors } from './mirrors.js';
import { decodePublished, type Published } from './published.js';
import type { Piece } from './source.js';

export interface Manifest {
  published: Published;
  /** Its address, for people. */
  name: string;
  /** Its own size. */
  bytes: number;
  /** Blocks that have to be there before a machine starts: the first group, and what no machine is made without. */
  first: number[];
  /** Those of them that are not in the first group. */
  besides: number[];
}

const MANIFEST_BYTES_MAX = 2 ** 30;
const DAMAGED_MAX = 3;
const AGAIN_MS = 50;

interface FetchOptions {
  sha256: string | undefined;
  timeoutMs: number;
  signal: AbortSignal | undefined;
}

export async function fetchManifest(mirrors: Mirrors, options: FetchOptions): Promise<Manifest> {
  const { sha256, timeoutMs, signal } = options;
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256))
    throw invalid(
      `${sha256} is no SHA-256`,
      'It is the one that `lockstep publish` and `image inspect` print.',
    );
  const limit = AbortSignal.timeout(timeoutMs);
  const stop = signal ? AbortSignal.any([signal, limit]) : limit;
  let damaged = 0;
  for (;;) {
    let source: Awaited<ReturnType<Mirrors['take']>> | undefined;
    try {
      source = await mirrors.take(stop);
      const file = await readAll(await source.openManifest(stop));
      const published = await decodePublished(file, source.name);
      mirrors.answered(source);
      if (sha256 !== undefined && published.image.sha256 !== sha256)
        throw new LockstepError(
          'ERR_LOCKSTEP_STREAM_OTHER',
          `the image published at ${source.name} is another one: ${published.image.sha256}`,
        );
      return { published, name: source.name, bytes: file.length, ...firstOf(published) };
    } catch (error) {
      if (signal?.aborted) throw error;
      if (limit.aborted) throw unreachable(mirrors, error);
      if (error instanceof LockstepError) {
        damaged++;
        if (damaged >= DAMAGED_MAX || error.code === 'ERR_LOCKSTEP_STREAM_OTHER') throw error;
      }
      if (source) mirrors.failed(source, (error as Error).message);
      else await sleep(AGAIN_MS);
    }
  }
}

function firstOf({ sequence, groups, front }: Published): Pick<Manifest, 'first' | 'besides'> {
  const group = new Set(sequence.subarray(0, groups[0] ?? 0));
  const besides = native()
    .neededFirst(front)
    .filter((block) => !group.has(block));
  return { first: [...group, ...besides], besides };
}

async function readAll({ body }: Piece): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MANIFEST_BYTES_MAX) throw new Error('it sends more than any manifest has');
  }
  return Buffer.concat(chunks);
}

function unreachable(mirrors: Mirrors, cause: unknown): LockstepError {
  return new LockstepError(
    'ERR_LOCKSTEP_STREAM_UNREACHABLE',
    `nothing to stream from: ${mirrors.trouble ?? 'no answer'}`,
    { cause, hint: 'Is the address that of the manifest, and does the server run?' },
  );
}
