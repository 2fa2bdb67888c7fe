import type { ImageInfo } from '../image/image-file.js';
import type { Manifest, ManifestFile, ProgramManifest } from '../image/manifest.js';
import { openImage } from './guest.js';
import type { PriorityFlags } from './options.js';
import { describeGroups, type FileGroups, fileGroups, groupOptions } from './priorities.js';
import { bytes, count } from './report.js';

/** Directories indented; files with sizes, links with targets, why each is there, and how soon it is fetched. */
export function tree(files: ManifestFile[], groups: FileGroups): string[] {
  const sorted = [...files].sort((a, b) => (a.path < b.path ? -1 : 1));
  return sorted
    .filter(({ path }) => path !== '/')
    .map(({ path, bytes: size, mode, target, why }) => {
      const parts = path.split('/').filter(Boolean);
      const kind = Number.parseInt(mode, 8) & 0o170000;
      const suffix = kind === 0o040000 ? '/' : kind === 0o120000 ? ` -> ${target}` : `  ${bytes(size)}`;
      const reason = why === 'directory' ? '' : `  (${why})`;
      const when = describeGroups(groups.get(path));
      return `${'  '.repeat(parts.length)}${parts.at(-1)}${suffix}${when && `  [${when}]`}${reason}`;
    });
}

function describeProgram(manifest: ProgramManifest, groups: FileGroups | null): string[] {
  const { sites, env } = manifest;
  const sitesOf = (
    name: string,
    list: { file: string; address: string; instruction: string; reason?: string }[],
  ) =>
    list.map(
      (site) =>
        `  ${name} ${site.file} ${site.address} ${site.instruction}${site.reason ? `: ${site.reason}` : ''}`,
    );
  return [
    `program      ${manifest.argv.map((word) => JSON.stringify(word)).join(' ')}`,
    `found at     ${manifest.program}`,
    `directory    ${manifest.cwd}`,
    `environment  ${Object.entries(env)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ')}`,
    `files        ${manifest.files.length}`,
    ...(groups ? tree(manifest.files, groups) : []),
    ...manifest.missing.map(({ library, neededBy }) => `missing      ${library}, which ${neededBy} needs`),
    `instructions ${sites.replaced.length} replaced, ${sites.left.length} left, ${sites.watch.length} to watch`,
    ...sites.calls.map(({ file, count }) => `  calls    ${file}: ${count} system calls stay in the guest`),
    ...sitesOf('replaced', sites.replaced),
    ...sitesOf('left    ', sites.left),
    ...sitesOf('watch   ', sites.watch),
  ];
}

function describeOrigin(manifest: Manifest, groups: FileGroups | null): string[] {
  switch (manifest.kind) {
    case 'program':
      return describeProgram(manifest, groups);
    case 'bare':
      return [`entry        ${manifest.entry}`];
    case 'snapshot':
      return [
        `taken        after event ${manifest.event}, at ${new Date(manifest.timeUs / 1000).toISOString()} in the guest`,
        ...(manifest.vendor ? [`CPU          ${manifest.cpuModel}, ${manifest.vendor}`] : []),
        ...(manifest.net ? ['network      a card, which --net joins to something'] : []),
        `from         ${manifest.from}`,
        ...describeOrigin(manifest.of, groups),
      ];
  }
}

function kindOf(manifest: Manifest): string {
  if (manifest.kind === 'program') return 'Linux program';
  return manifest.kind === 'bare'
    ? `bare guest, ${manifest.mode} mode`
    : `snapshot of a ${kindOf(manifest.of)}`;
}

function describe(info: ImageInfo, groups: FileGroups | null): string {
  const { manifest } = info;
  return [
    `kind         ${kindOf(manifest)}`,
    `size         ${bytes(fileBytes(info))} in ${count(info.segments.length, 'segment')}`,
    `sha256       ${info.sha256}`,
    `memory       ${bytes(info.memoryBytes)}`,
    ...describeOrigin(manifest, groups),
  ].join('\n');
}

function fileBytes({ contentOffset, contentBytes }: ImageInfo): number {
  return contentOffset + contentBytes;
}

/** `lockstep image inspect`. */
export default async function inspect(
  flags: PriorityFlags & { tree?: boolean; json?: boolean },
  path: string,
): Promise<number> {
  const image = await openImage(path);
  const info = await image.verify();
  const text = flags.json
    ? JSON.stringify({ version: 1, bytes: fileBytes(info), ...info })
    : describe(info, flags.tree ? await fileGroups(image, await groupOptions(flags)) : null);
  process.stdout.write(`${text}\n`);
  return 0;
}
