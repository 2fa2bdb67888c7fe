import { readFile, writeFile } from 'node:fs/promises';
import { guestKernelPath } from './addon.js';
import { LockstepError } from './errors.js';
import type { ElfImageOptions, FlatOptions } from './image/bare-image.js';
import type { ImageInfo } from './image/image-file.js';
import type { ProgramOptions } from './image/program-image.js';

/** Options of {@link Image.fromProgram}. */
export type ImageProgramOptions = Omit<ProgramOptions, 'kernel'>;

/**
 * What a machine starts from: a Linux program with its files and the guest kernel, or a bare guest. Immutable;
 * the same input packs to the same bytes.
 */
export class Image {
  /** The image file. */
  readonly bytes: Uint8Array;
  readonly #name: string;
  #info: ImageInfo | undefined;

  private constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.#name = name;
  }

  /**
   * Packs an unmodified Linux program with all it needs. Throws ERR_LOCKSTEP_PROGRAM_NOT_FOUND and
   * ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE.
   */
  static async fromProgram(options: ImageProgramOptions): Promise<Image> {
    const [kernel, { packProgram }] = await Promise.all([readKernel(), import('./image/program-image.js')]);
    const { image } = await packProgram({ ...options, kernel });
    return new Image(image, 'the image');
  }

  /** Packs a static ELF file as a bare guest, started in long mode. */
  static async fromElf(options: ElfImageOptions): Promise<Image> {
    const { fromElf } = await import('./image/bare-image.js');
    return new Image(fromElf(options), 'the image');
  }

  /** Packs flat bytes as a bare guest. */
  static async fromFlat(options: FlatOptions): Promise<Image> {
    const { fromFlat } = await import('./image/bare-image.js');
    return new Image(fromFlat(options), 'the image');
  }

  /** Reads an image file and checks it. Throws ERR_LOCKSTEP_SYSTEM and ERR_LOCKSTEP_NOT_AN_IMAGE. */
  static async open(path: string): Promise<Image> {
    const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
      const { message, errno, syscall } = cause;
      throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot read ${path}: ${message}`, {
        cause,
        errno,
        syscall,
      });
    });
    return Image.fromBytes(bytes, path);
  }

  /** Takes the bytes of an image file and checks them. Throws ERR_LOCKSTEP_NOT_AN_IMAGE. */
  static async fromBytes(bytes: Uint8Array, name = 'the image'): Promise<Image> {
    const image = new Image(bytes, name);
    await image.inspect();
    return image;
  }

  /** Mode, segments, identity, and the manifest: program, files, and every instruction replaced or left. */
  async inspect(): Promise<ImageInfo> {
    const { inspectImage } = await import('./image/image-file.js');
    this.#info ??= inspectImage(this.bytes, this.#name);
    return this.#info;
  }

  /** Writes the image file. An existing one is kept unless `force`. */
  async write(path: string, { force = false }: { force?: boolean } = {}): Promise<void> {
    try {
      await writeFile(path, this.bytes, { flag: force ? 'w' : 'wx' });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
      throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} exists already`, {
        hint: 'Use `force` to overwrite it.',
        cause,
      });
    }
  }
}

async function readKernel(): Promise<Uint8Array> {
  try {
    return await readFile(guestKernelPath);
  } catch (cause) {
    throw new LockstepError('ERR_LOCKSTEP_NOT_BUILT', `the guest kernel is not built: ${guestKernelPath}`, {
      hint: 'Run `npm rebuild lockstep` (in a checkout: `npm run build`) and read its messages.',
      cause,
    });
  }
}
