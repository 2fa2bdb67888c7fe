import type { Image } from '../image.js';
import { bytesByGroup, type Group, type GroupOptions, groupsOf } from '../learn/groups.js';
import { placesOf } from '../learn/places.js';
import { readProfile } from '../learn/profile.js';
import type { PriorityFlags } from './options.js';
import { bytes } from './report.js';

const NAMES: Readonly<Record<Group, string>> = { 0: 'start', 1: 'soon', 2: 'rest', 3: 'last' };

/** By the file's path, then by the group's name: bytes. */
export type FileGroups = Map<string, Record<string, number>>;

export async function groupOptions({ profile, first, last }: PriorityFlags): Promise<GroupOptions> {
  return { ...(profile !== undefined && { profile: await readProfile(profile) }), first, last };
}

/** Of each file, how many of its bytes are in which group of those that are fetched one after the other. */
export async function fileGroups(image: Image, options: GroupOptions): Promise<FileGroups> {
  const info = await image.inspect();
  const places = await placesOf(info, async (at, length) => image.bytes.subarray(at, at + length));
  const groups = groupsOf(info, places, options);
  return new Map(
    places.map((place) => {
      const sizes = [...bytesByGroup(info, place, groups)].sort(([a], [b]) => a - b);
      return [place.name, Object.fromEntries(sizes.map(([group, size]) => [NAMES[group], size]))];
    }),
  );
}

/** `start`, or where a file has parts of several groups, `start 12.0 KiB, rest 1.2 MiB`. */
export function describeGroups(groups: Record<string, number> | undefined): string {
  const parts = Object.entries(groups ?? {});
  if (parts.length <= 1) return parts[0]?.[0] ?? '';
  return parts.map(([name, size]) => `${name} ${bytes(size)}`).join(', ');
}
