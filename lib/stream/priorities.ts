/** In which order the blocks of an image are fetched. */
import { native } from '../addon.js';
import type { ImageFront } from '../image/image-file.js';

export interface Priorities {
  /** All blocks, the first ones first. */
  sequence: Uint32Array;
  /** How many of them belong to each group; a machine starts when the first group is there. */
  groups: number[];
}

/** Without having learned anything: what no machine can be made without, then the file as it stands. */
export function priorities(front: Uint8Array, image: ImageFront): Priorities {
  const blocks = Math.ceil(image.contentBytes / image.blockBytes);
  const first = native().neededFirst(front);
  const needed = new Set(first);
  const rest = Array.from({ length: blocks }, (_, block) => block).filter((block) => !needed.has(block));
  return { sequence: Uint32Array.from([...first, ...rest]), groups: [first.length, rest.length] };
}
