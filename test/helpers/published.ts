/** Images for streams: a program with files that do not compress, so that their sizes mean something on a line. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Image } from '../../lib/index.js';
import { type PublishResult, publish } from '../../lib/stream/publish.js';
import type { Random } from './random.js';

export interface Made {
  image: Image;
  /** Its file. */
  path: string;
  /** What was published: `app.lsm` and its packs are here. */
  site: string;
  published: PublishResult;
  /** What the program prints once it has read all of its files. */
  answer: string;
}

export interface MakeOptions {
  files?: number;
  fileBytes?: number;
  /** Called with each file's content, for another version of the same. */
  change?: (index: number, content: Buffer) => void;
}

const noise = (bytes: number, random: Random): Buffer =>
  Buffer.from(
    Uint32Array.from({ length: Math.ceil(bytes / 4) }, () => random.between(0, 2 ** 32 - 1)).buffer,
    0,
    bytes,
  );

/** Greets, reads a line, then hashes all its files. The same random numbers make the same image. */
export async function makePublished(
  directory: string,
  random: Random,
  { files = 24, fileBytes = 100_000, change = () => {} }: MakeOptions = {},
): Promise<Made> {
  const tree = join(directory, 'tree');
  mkdirSync(tree, { recursive: true });
  let answer = '';
  for (let index = 0; index < files; index++) {
    const name = String(index).padStart(4, '0');
    const content = noise(fileBytes, random);
    change(index, content);
    answer += `${createHash('sha256').update(content).digest('hex')}  /tree/${name}\n`;
    writeFileSync(join(tree, name), content);
  }
  const image = await Image.fromProgram({
    argv: ['busybox', 'sh', '-c', 'echo ready; read -r x; exec busybox sha256sum /tree/*'],
    files: [{ host: tree, guest: '/tree' }],
  });
  const path = join(directory, 'app.lsm');
  await image.write(path, { force: true });
  const site = join(directory, 'site');
  const published = await publish(path, site);
  return { image, path, site, published, answer };
}
