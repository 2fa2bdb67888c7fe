import { readFileSync } from 'node:fs';
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises';
import { guestKernelPath } from './addon.js';
import { LockstepError } from './errors.js';
import type { ElfImageOptions, FlatOptions } from './image/bare-image.js';
import {
  frontBytes,
  IMAGE_HEADER_BYTES,
  type ImageInfo,
  inspectFront,
  inspectImage,
} from './image/image-file.js';
import type { ProgramOptions } from './image/program-image.js';

/** Options of {@link Image.fromProgram}. */
export type ImageProgramOptions = Omit<ProgramOptions, 'kernel'>;

/**
 * What a machine starts from: a Linux program with its files and the guest kernel, a bare guest, or the snapshot of a
 * machine that ran ({@link Machine.snapshot}). Immutable; the same input packs to the same bytes.
 */
export class Image {
  /** Of a snapshot that stays where it is until somebody needs it: its file. @internal */
  readonly path: string | undefined;
  readonly #name: string;
  #bytes: Uint8Array | undefined;
  #info: ImageInfo | undefined;

  private constructor(bytes: Uint8Array | undefined, name: string, path?: string) {
    this.path = path;
    this.#bytes = bytes;
    this.#name = name;
  }

  /** The image file. That of a snapshot is read here, and not verified. */
  get bytes(): Uint8Array {
    this.#bytes ??= readFileSync(this.path as string);
    return this.#bytes;
  }

  /** Of a machine that ran: what it is restored with is its own. */
  get isSnapshot(): boolean {
    return this.#info?.mode === 'snapshot';
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

  /**
   * Reads an image file and checks it; of a snapshot only the front, whose content is read when a machine uses it
   * ({@link Image.verify} checks all). The file must not change as long as machines restored from it run. Throws
   * ERR_LOCKSTEP_SYSTEM and ERR_LOCKSTEP_NOT_AN_IMAGE.
   */
  static async open(path: string): Promise<Image> {
    try {
      await using file = await open(path);
      const info = inspectFront(await readFront(file, path), path);
      const { size } = await file.stat();
      if (info.mode === 'snapshot' && size === info.contentOffset + info.contentBytes) {
        const image = new Image(undefined, path, path);
        const { state: _, blockHashes: __, ...front } = info;
        image.#info = front;
        return image;
      }
      return await Image.fromBytes(await file.readFile(), path);
    } catch (cause) {
      if (cause instanceof LockstepError) throw cause;
      const { message, errno, syscall } = cause as NodeJS.ErrnoException;
      throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot read ${path}: ${message}`, {
        cause,
        errno,
        syscall,
      });
    }
  }

  /** Takes the bytes of an image file and checks them. Throws ERR_LOCKSTEP_NOT_AN_IMAGE. */
  static async fromBytes(bytes: Uint8Array, name = 'the image'): Promise<Image> {
    const image = new Image(bytes, name);
    await image.inspect();
    return image;
  }

  /** Mode, segments, identity, and the manifest: program, files, and every instruction replaced or left. */
  async inspect(): Promise<ImageInfo> {
    this.#info ??= inspectImage(this.bytes, this.#name);
    return this.#info;
  }

  /** The same, with every byte of the image verified: also those of a snapshot that was only opened. */
  async verify(): Promise<ImageInfo> {
    return inspectImage(this.path === undefined ? this.bytes : await readFile(this.path), this.#name);
  }

  /** Writes the image file. An existing one is kept unless `force`. */
  async write(path: string, { force = false }: { force?: boolean } = {}): Promise<void> {
    try {
      // What the program has in memory is for nobody else.
      const mode = this.isSnapshot ? 0o600 : 0o666;
      await writeFile(path, this.bytes, { flag: force ? 'w' : 'wx', mode });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
      throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} exists already`, {
        hint: 'Use `force` to overwrite it.',
        cause,
      });
    }
  }
}

/** Cut short where the file is; whoever checks it says so. */
async function readFront(file: FileHandle, name: string): Promise<Uint8Array> {
  const read = async (bytes: number) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  };
  return await read(frontBytes(await read(IMAGE_HEADER_BYTES), name));
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
