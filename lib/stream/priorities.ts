/** In which order the blocks of an image are fetched. */
import { native } from '../addon.js';
import type { ImageFront } from '../image/image-file.js';
import { arrange } from '../learn/arrange.js';
import { Group, type GroupOptions, groupsOf } from '../learn/groups.js';
import { placesOf, type ReadFile } from '../learn/places.js';

/** An image as it is published. */
export interface Prioritised {
  front: Uint8Array;
  image: ImageFront;
  /** Reads its content. */
  read: ReadFile;
  /** All blocks, the first ones first. */
  sequence: Uint32Array;
  /** How many of them belong to each group; a machine starts when the first group is there. */
  groups: number[];
}

export function hasPriorities({ profile, first, last }: GroupOptions): boolean {
  return profile !== undefined || [first, last].some((patterns) => patterns && patterns.length > 0);
}

/** Where something is known of what is needed first, that gets blocks of its own: another image, of the same memory. */
export async function prioritise(
  front: Uint8Array,
  image: ImageFront,
  read: ReadFile,
  options: GroupOptions,
): Promise<Prioritised> {
  const places = await placesOf(image, read);
  const known = hasPriorities(options)
    ? await arrange(image, places, options, read)
    : { front, image, read, groups: groupsOf(image, places) };
  // What no machine can be made without belongs to the first group, whatever was learned.
  for (const block of native().neededFirst(known.front)) known.groups[block] = Group.START;
  const lists = Object.values(Group).map((group) =>
    known.groups.flatMap((one, block) => (one === group ? [block] : [])),
  );
  const { front: first, image: arranged, read: from } = known;
  return {
    front: first,
    image: arranged,
    read: from,
    sequence: Uint32Array.from(lists.flat()),
    groups: lists.map((list) => list.length),
  };
}
