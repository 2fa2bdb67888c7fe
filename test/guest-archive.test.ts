/** The guest's initial file system: what the kernel makes of it, and that it believes nothing it says. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { inspectImage, writeImage } from '../lib/image/image-file.js';
import { LS_GPA_BOOT } from '../lib/image/ports.js';
import { Image } from '../lib/image.js';
import { Machine } from '../lib/machine.js';
import { scratch } from './helpers/command.js';

const HEADER_BYTES = 40;
const ENTRY_BYTES = 24;

async function packed(argv: string[], host: string): Promise<Image> {
  return Image.fromProgram({ argv, files: [{ host, guest: '/t' }] });
}

async function run(image: Image): Promise<{ out: string; reason: string; detail: string }> {
  const machine = await Machine.create(image, { stdin: 'ignore', stderr: 'ignore' });
  try {
    await machine.start();
    const [out, { reason, detail }] = await Promise.all([text(machine.stdout), machine.ended]);
    return { out, reason, detail };
  } finally {
    await machine.close();
  }
}

/** The image with other bytes in its archive's index. */
async function damaged(image: Image, change: (index: Buffer) => void): Promise<Image> {
  const { mode, entry, memoryBytes, manifest, segments } = inspectImage(image.bytes);
  const parts = segments.map(({ gpa, bytes, fileOffset }) => ({
    gpa,
    bytes: Buffer.from(image.bytes.subarray(fileOffset, fileOffset + bytes)),
  }));
  const boot = parts.find(({ gpa }) => gpa === LS_GPA_BOOT)?.bytes as Buffer;
  const at = Number(boot.readBigUInt64LE(16));
  change(parts.find(({ gpa }) => gpa === at)?.bytes as Buffer);
  return Image.fromBytes(
    writeImage({ mode, entry, memoryMiB: memoryBytes / 2 ** 20, segments: parts, manifest }),
  );
}

/** Each line says what a call found; the tree is changed on the way, in directories nobody has read before. */
const SCRIPT = String.raw`
  chdir '/t' or die; $| = 1;
  sub list { opendir my $d, $_[0] or die; join ' ', sort grep !/^\.\.?$/, readdir $d }
  sub slurp { open my $f, '<', $_[0] or return "no $_[0]"; local $/; <$f> }
  sub put { open my $f, $_[0], $_[1] or die; print $f $_[2] }
  for (qw(. sub sub/deep sub/deep/empty a)) { my @s = stat $_; print "$s[3] $s[9] $_\n" }
  print rmdir('sub') ? "removed\n" : "not empty\n";
  rmdir 'sub/deep/empty' or die; print list('sub/deep'), "\n";
  put '>', 'two/new', 'x'; print list('two'), "\n";
  rename 'sub', 'moved' or die; print slurp('moved/b'), slurp('link/c'), "\n";
  unlink 'moved/deep/c' or die; put '>', 'moved/deep/new', 'x'; print list('moved/deep'), "\n";
  mkdir 'other' or die; rename 'moved/deep', 'other/deep' or die;
  print list('other/deep'), ' and ', list('moved'), "\n";
  put '>>', 'large', 'x'; print length slurp('large'), substr(slurp('large'), -4, 4), "\n";
  print list('.'), "\n"`;

test('directories that are read when they are looked into are like any other', async (t) => {
  const directory = scratch(t);
  mkdirSync(path.join(directory, 'sub/deep/empty'), { recursive: true });
  mkdirSync(path.join(directory, 'two'));
  for (const name of ['a', 'sub/b', 'sub/deep/c', 'sub/deep/d', 'two/old'])
    writeFileSync(path.join(directory, name), name);
  symlinkSync('sub/deep', path.join(directory, 'link'));
  writeFileSync(path.join(directory, 'large'), 'large\n'.repeat(2000));
  const { out, reason, detail } = await run(await packed(['perl', '-e', SCRIPT], directory));
  t.is(reason, 'exited', detail);
  t.deepEqual(out.trim().split('\n'), [
    ...['4 1577836800 .', '3 1577836800 sub', '3 1577836800 sub/deep', '2 1577836800 sub/deep/empty'],
    ...['1 1577836800 a', 'not empty', 'c d', 'new old', 'sub/bno link/c', 'd new', 'd new and b'],
    ...['12001ge', 'x', 'a large link moved other two'],
  ]);
});

test('an archive that is damaged ends the machine with a sentence, and nothing else', async (t) => {
  const directory = scratch(t);
  writeFileSync(path.join(directory, 'file'), 'contents\n');
  mkdirSync(path.join(directory, 'sub'));
  const image = await packed(['busybox', 'ls', '-lR', '/t'], directory);
  const good = await run(image);
  t.is(good.reason, 'exited', good.detail);

  const count = (index: Buffer): number => index.readUInt32LE(8);
  /** The entry of a name in the root or in /t. */
  const entryOf = (index: Buffer, name: string): number => {
    const names = HEADER_BYTES + ENTRY_BYTES * count(index);
    for (let i = 0; i < count(index); i++) {
      const at = HEADER_BYTES + ENTRY_BYTES * i;
      const start = names + index.readUInt32LE(at + 16);
      if (index.toString('utf8', start, start + index.readUInt16LE(at + 20)) === name) return at;
    }
    throw new Error(`no ${name}`);
  };
  const nameOf = (index: Buffer, at: number): number =>
    HEADER_BYTES + ENTRY_BYTES * count(index) + index.readUInt32LE(at + 16);
  const cases: [string, RegExp, (index: Buffer) => void][] = [
    ['magic', /no boot archive/, (index) => index.writeUInt8(0, 0)],
    ['no entries', /cut off/, (index) => index.writeUInt32LE(0, 8)],
    ['many entries', /cut off/, (index) => index.writeUInt32LE(0xffffffff, 8)],
    ['many names', /cut off/, (index) => index.writeUInt32LE(0xffffffff, 12)],
    ['contents outside', /cut off/, (index) => index.writeBigUInt64LE(1n << 63n, 16)],
    ['contents too long', /cut off/, (index) => index.writeBigUInt64LE((1n << 64n) - 1n, 24)],
    ['a root that is a file', /entry/, (index) => index.writeUInt16LE(0o100644, HEADER_BYTES + 22)],
    ['a directory in itself', /entry/, (index) => index.writeUInt32LE(1, entryOf(index, 't'))],
    ['a directory that ends nowhere', /entry/, (i) => i.writeBigUInt64LE(1n << 40n, entryOf(i, 't') + 8)],
    ['a file outside', /entry/, (index) => index.writeBigUInt64LE(1n << 40n, entryOf(index, 'file'))],
    ['a file too long', /entry/, (i) => i.writeBigUInt64LE((1n << 64n) - 1n, entryOf(i, 'file') + 8)],
    ['a device', /entry/, (index) => index.writeUInt16LE(0o020666, entryOf(index, 'file') + 22)],
    ['a name outside', /entry/, (index) => index.writeUInt32LE(0xffffffff, entryOf(index, 'file') + 16)],
    ['a name too long', /entry/, (index) => index.writeUInt16LE(256, entryOf(index, 'file') + 20)],
    ['a slash in a name', /entry/, (index) => index.write('/', nameOf(index, entryOf(index, 'file')))],
    ['no name', /entry/, (index) => index.writeUInt16LE(0, entryOf(index, 'file') + 20)],
  ];
  for (const [what, message, change] of cases) {
    const { reason, detail } = await run(await damaged(image, change));
    t.is(reason, 'panic', what);
    t.regex(detail, message, what);
  }
});
