import { invalid } from '../options.js';
import { guestImage } from './guest.js';
import { tree } from './image-inspect.js';
import type { GuestFlags, PriorityFlags } from './options.js';
import { fileGroups, groupOptions } from './priorities.js';
import { bytes, count, say } from './report.js';

/** `lockstep image --tree PROGRAM`: what would be packed, and why. */
export default async function imageTree(
  flags: GuestFlags & PriorityFlags & { tree?: boolean; json?: boolean },
  program: string[],
): Promise<number> {
  if (!flags.tree) throw invalid('say what to do: image pack, image inspect, or image --tree PROGRAM');
  const image = await guestImage(program, flags, false);
  const { manifest } = await image.inspect();
  if (manifest.kind !== 'program') throw invalid('only a Linux program has files');
  const { missing } = manifest;
  const groups = await fileGroups(image, await groupOptions(flags));
  const files = manifest.files.map((file) => ({ ...file, groups: groups.get(file.path) }));
  const lines = [
    ...tree(manifest.files, groups),
    ...missing.map(({ library, neededBy }) => `missing: ${library}, which ${neededBy} needs`),
  ];
  process.stdout.write(`${flags.json ? JSON.stringify({ version: 1, files, missing }) : lines.join('\n')}\n`);
  say(flags, `${count(files.length, 'file')}, image ${bytes(image.bytes.length)}`);
  return 0;
}
