import { LockstepError } from '../errors.js';
import type { ImageInfo } from '../image/image-file.js';
import type { ManifestFile, ProgramManifest } from '../image/manifest.js';
import { Image } from '../image.js';
import { Recording } from '../recording.js';
import { bytes, count } from './report.js';

async function open(path: string): Promise<Image> {
  try {
    return await Image.open(path);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    // A log holds an image as well; when it is neither, the first answer is the better one.
    const recording = await Recording.open(path).catch(() => undefined);
    if (!recording) throw error;
    return await recording.image();
  }
}

/** Directories indented; files with their sizes, links with their targets, and why each is there. */
export function tree(files: ManifestFile[]): string[] {
  const sorted = [...files].sort((a, b) => (a.path < b.path ? -1 : 1));
  return sorted
    .filter(({ path }) => path !== '/')
    .map(({ path, bytes: size, mode, target, why }) => {
      const parts = path.split('/').filter(Boolean);
      const kind = Number.parseInt(mode, 8) & 0o170000;
      const suffix = kind === 0o040000 ? '/' : kind === 0o120000 ? ` -> ${target}` : `  ${bytes(size)}`;
      const reason = why === 'directory' ? '' : `  (${why})`;
      return `${'  '.repeat(parts.length)}${parts.at(-1)}${suffix}${reason}`;
    });
}

function describeProgram(manifest: ProgramManifest, withTree: boolean): string[] {
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
    ...(withTree ? tree(manifest.files) : []),
    ...manifest.missing.map(({ library, neededBy }) => `missing      ${library}, which ${neededBy} needs`),
    `instructions ${sites.replaced.length} replaced, ${sites.left.length} left, ${sites.watch.length} to watch`,
    ...sites.calls.map(({ file, count }) => `  calls    ${file}: ${count} system calls stay in the guest`),
    ...sitesOf('replaced', sites.replaced),
    ...sitesOf('left    ', sites.left),
    ...sitesOf('watch   ', sites.watch),
  ];
}

function describe(info: ImageInfo, size: number, withTree: boolean): string {
  const { manifest } = info;
  return [
    `kind         ${manifest.kind === 'program' ? 'Linux program' : `bare guest, ${info.mode} mode`}`,
    `size         ${bytes(size)} in ${count(info.segments.length, 'segment')}`,
    `sha256       ${info.sha256}`,
    `memory       ${bytes(info.memoryBytes)}`,
    ...(manifest.kind === 'program'
      ? describeProgram(manifest, withTree)
      : [`entry        ${manifest.entry}`]),
  ].join('\n');
}

/** `lockstep image inspect`. */
export default async function inspect(
  flags: { tree?: boolean; json?: boolean },
  path: string,
): Promise<number> {
  const image = await open(path);
  const info = await image.inspect();
  const text = flags.json
    ? JSON.stringify({ version: 1, bytes: image.bytes.length, ...info })
    : describe(info, image.bytes.length, flags.tree ?? false);
  process.stdout.write(`${text}\n`);
  return 0;
}
