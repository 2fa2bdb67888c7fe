import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import test from 'ava';
import { type ArchivedFile, readArchive } from '../lib/image/archive.js';
import { fromElf, fromFlat } from '../lib/image/bare-image.js';
import { S_IFDIR, S_IFLNK, S_IFMT } from '../lib/image/file-entries.js';
import {
  blockRange,
  frontBytes,
  IMAGE_HEADER_BYTES,
  inspectFront,
  inspectImage,
  isBlock,
} from '../lib/image/image-file.js';
import * as ports from '../lib/image/ports.js';
import { packProgram } from '../lib/image/program-image.js';
import { scratch } from './helpers/command.js';
import { makeElf, makeKernel, makeProgram } from './image-fixtures.js';

const kernel = makeKernel();
const ABI = ['abi.h', 'vdso.h'].map((name) => new URL(`../native/guest/${name}`, import.meta.url).pathname);

/** Writes an image's files into a directory, found as the kernel finds them. */
function unpack(image: Uint8Array, to: string): ArchivedFile[] {
  const boot = bootOf(image);
  const index = segmentAt(image, Number(boot.readBigUInt64LE(16)));
  const contents = segmentAt(image, Number(index.readBigUInt64LE(16)));
  const files = readArchive(index);
  for (const { path: name, mode, bytes, at } of files) {
    const place = path.join(to, name);
    const data = contents.subarray(at, at + bytes);
    const type = mode & S_IFMT;
    if (type === S_IFDIR) mkdirSync(place, { recursive: true });
    else if (type === S_IFLNK) symlinkSync(data, place);
    else writeFileSync(place, data);
    if (type !== S_IFLNK) chmodSync(place, mode & 0o7777);
  }
  return files;
}

function bootOf(image: Uint8Array): Buffer {
  return segmentAt(image, ports.LS_GPA_BOOT);
}

function segmentAt(image: Uint8Array, gpa: number): Buffer {
  const segment = inspectImage(image).segments.find((s) => s.gpa === gpa);
  if (segment === undefined) throw new Error(`no segment at ${gpa}`);
  return Buffer.from(image.subarray(segment.fileOffset, segment.fileOffset + segment.bytes));
}

test('the constants are those of abi.h', (t) => {
  const text = ABI.map((file) => readFileSync(file, 'utf8')).join('\n');
  const constants = Object.entries(ports);
  t.true(constants.length >= 13);
  for (const [name, value] of constants) {
    const match = new RegExp(`^#define ${name} (0x[0-9a-f]+|[0-9]+)`, 'm').exec(text);
    t.is(BigInt(match?.[1] ?? -1), BigInt(value), name);
  }
});

test('the boot block has the layout of abi.h', async (t) => {
  const directory = scratch(t);
  const fields = ['archive_gpa', 'archive_bytes', 'free_gpa', 'strings_gpa', 'argc', 'envc'];
  const source = `#include "${ABI[0]}"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) { printf("${'%zu '.repeat(9)}", ${fields
    .map((field) => `offsetof(struct ls_boot, ${field})`)
    .join(', ')}, sizeof(struct ls_boot), sizeof(struct ls_archive), sizeof(struct ls_archive_entry)); }`;
  writeFileSync(path.join(directory, 'a.c'), source);
  execFileSync('gcc', ['-o', path.join(directory, 'a'), path.join(directory, 'a.c')]);
  const offsets = execFileSync(path.join(directory, 'a'), { encoding: 'utf8' }).trim().split(' ').map(Number);
  t.deepEqual(offsets, [16, 24, 32, 40, 48, 52, 144, 40, 24]);

  const { image } = await packProgram({
    argv: ['busybox', 'echo', 'grüße'],
    kernel,
    env: { A: 'b=c' },
    cwd: '/tmp',
  });
  const boot = bootOf(image);
  t.is(boot.toString('latin1', 0, 8), 'LSBOOT1\0');
  t.is(boot.length, 144);
  const strings = segmentAt(image, Number(boot.readBigUInt64LE(40)));
  t.deepEqual(strings.toString().split('\0'), [
    ...['busybox', 'echo', 'grüße'],
    ...['PATH=/usr/local/bin:/usr/bin:/bin', 'HOME=/root', 'LANG=C.UTF-8', 'LD_BIND_NOW=1', 'A=b=c'],
    ...['/tmp', '/usr/bin/busybox', ''],
  ]);
  t.deepEqual([boot.readUInt32LE(48), boot.readUInt32LE(52)], [3, 5]);
  const stringsGpa = Number(boot.readBigUInt64LE(40));
  t.is(stringsGpa % (2 << 20), 0);
  // The stand-in kernel's zeroed memory ends at 3.5 MiB.
  t.true(stringsGpa >= 0x380000);
  const index = segmentAt(image, Number(boot.readBigUInt64LE(16)));
  t.is(index.length, Number(boot.readBigUInt64LE(24)));
  const end = Number(index.readBigUInt64LE(16)) + Number(index.readBigUInt64LE(24));
  t.is(Number(boot.readBigUInt64LE(32)), Math.ceil(end / 4096) * 4096);
  for (const at of [8, 56, 64, 72, 80, 88, 96, 104])
    t.is(boot.readBigUInt64LE(at), 0n, 'left to the monitor');
});

test('the same input gives the same bytes; another input others', async (t) => {
  const directory = scratch(t);
  const file = path.join(directory, 'data');
  writeFileSync(file, 'hello');
  const options = { argv: ['busybox', 'cat', '/data'], kernel, files: [{ host: file, guest: '/data' }] };
  const first = await packProgram(options);
  utimesSync(file, 1, 2);
  const second = await packProgram(options);
  t.true(Buffer.from(first.image).equals(second.image));
  t.false(Buffer.from(first.image).equals((await packProgram({ ...options, env: { X: '1' } })).image));
  writeFileSync(file, 'hellO');
  t.not(inspectImage((await packProgram(options)).image).sha256, inspectImage(first.image).sha256);
});

test('the archive holds what was packed', async (t) => {
  const directory = scratch(t);
  const tree = path.join(directory, 'tree');
  mkdirSync(path.join(tree, 'sub', 'empty'), { recursive: true });
  for (const [name, text] of [
    ['b', 'two\n'],
    ['a', ''],
    ['sub/ü', 'x'.repeat(4099)],
  ] as const) {
    writeFileSync(path.join(tree, name), text);
  }
  chmodSync(path.join(tree, 'b'), 0o640);
  symlinkSync('sub/ü', path.join(tree, 'link'));
  symlinkSync('/nowhere', path.join(tree, 'dangling'));
  const { image, manifest } = await packProgram({
    argv: ['/bin/busybox'],
    kernel,
    files: [{ host: tree, guest: '/t' }],
  });
  const out = path.join(directory, 'out');
  const unpackedFiles = unpack(image, out);
  const names = unpackedFiles.map((file) => file.path);
  t.deepEqual(
    [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    ['/', ...manifest.files.map((file) => file.path)],
  );
  for (const name of ['/bin', '/dev', '/etc', '/proc', '/root', '/t/sub/empty', '/tmp', '/usr/bin/busybox'])
    t.true(names.includes(name), name);
  execFileSync('diff', ['-r', '--no-dereference', tree, path.join(out, 't')]);
  const listing = execFileSync('stat', ['-c', '%a', 't/b', 'tmp', 'usr/bin/busybox'], {
    cwd: out,
    encoding: 'utf8',
  });
  t.deepEqual(listing.trim().split('\n'), ['640', '1777', '755']);
  // What is mapped where it lies begins at a page, and shares no page.
  const [large, ...small] = ['/t/sub/ü', '/t/b', '/t/link'].map((name) =>
    unpackedFiles.find((file) => file.path === name),
  );
  t.is((large?.at ?? 1) % 4096, 0);
  for (const file of small) t.true((file?.at ?? 0) < (large?.at ?? 0));

  const busybox = manifest.files.find((file) => file.path === '/usr/bin/busybox');
  const unpacked = readFileSync(path.join(out, 'usr/bin/busybox'));
  t.is(busybox?.sha256, createHash('sha256').update(unpacked).digest('hex'));
  t.is(unpacked.length, readFileSync('/bin/busybox').length);
  t.is(manifest.sites.replaced.length, 30);
  for (const site of manifest.sites.replaced) {
    const offset = Number(site.address) - 0x400000;
    t.deepEqual(
      [...unpacked.subarray(offset, offset + 2)],
      [0xe6, site.instruction === 'cpuid' ? 0xc0 : 0xc1],
    );
  }
});

test('a file that grows leaves most blocks of the image as they were', async (t) => {
  const directory = scratch(t);
  const sizes = Array.from({ length: 400 }, (_, i) => (i % 3 === 0 ? 700 : 5000) + ((i * 7919) % 40) * 900);
  const bytesOf = (i: number, size: number) => createHash('shake256', { outputLength: size }).update(`${i}`);
  sizes.forEach((size, i) => {
    writeFileSync(path.join(directory, `f${i}`), bytesOf(i, size).digest());
  });
  const files = [{ host: directory, guest: '/d' }];
  const blocks = async (): Promise<Set<string>> => {
    const { image } = await packProgram({ argv: ['busybox'], kernel, files });
    const { blockHashes } = inspectFront(image);
    const hex = Buffer.from(blockHashes).toString('hex');
    return new Set(hex.match(/.{64}/g));
  };
  const before = await blocks();
  for (const [name, size] of [
    ['f3', 60_000],
    ['f1', 200_000],
    ['new', 100],
  ] as const) {
    writeFileSync(path.join(directory, name), bytesOf(1000, size).digest());
    const after = await blocks();
    const others = [...after].filter((block) => !before.has(block)).length;
    t.true(others < after.size / 8, `${name}: ${others} of ${after.size} blocks are others`);
    writeFileSync(
      path.join(directory, name),
      bytesOf(Number(name.slice(1)), sizes[Number(name.slice(1))] ?? 0).digest(),
    );
    if (name === 'new') rmSync(path.join(directory, name));
  }
});

test('programs and libraries among the files are patched, executable or not, unless kept as data', async (t) => {
  const directory = scratch(t);
  const code = makeProgram([0x0f, 0xa2, 0xc3]);
  writeFileSync(path.join(directory, 'tool'), code, { mode: 0o755 });
  writeFileSync(path.join(directory, 'library'), code, { mode: 0o644 });
  const files = [
    { host: directory, guest: '/d' },
    { host: path.join(directory, 'tool'), guest: '/kept', patch: false },
  ];
  const { image, manifest } = await packProgram({ argv: ['busybox'], kernel, files });
  const sites = manifest.sites.replaced.filter((site) => site.file !== '/usr/bin/busybox');
  const site = { address: '0x400000', instruction: 'cpuid' };
  t.deepEqual(
    sites,
    ['/d/library', '/d/tool'].map((file) => ({ file, ...site })),
  );
  const hash = createHash('sha256').update(code).digest('hex');
  const same = manifest.files.filter((file) => file.sha256 === hash).map((file) => file.path);
  t.deepEqual(same, ['/kept']);
  t.deepEqual(inspectImage(image).manifest, manifest);
});

test('patch and leave reach the program', async (t) => {
  const { manifest } = await packProgram({ argv: ['busybox'], kernel });
  const site = manifest.sites.replaced[0];
  t.truthy(site);
  const changed = await packProgram({ argv: ['busybox'], kernel, leave: [BigInt(site?.address ?? 0)] });
  t.is(changed.manifest.sites.replaced.length, 29);
  t.true(
    changed.manifest.sites.left.some((left) => left.address === site?.address && /--leave/.test(left.reason)),
  );
  await t.throwsAsync(packProgram({ argv: ['busybox'], kernel, patch: [1n] }), {
    code: 'ERR_LOCKSTEP_INVALID_ARGUMENT',
  });
});

test('an image with any byte changed or cut off is none', async (t) => {
  const { image } = await packProgram({ argv: ['busybox'], kernel });
  const info = inspectImage(image);
  const front = Buffer.from(image.subarray(0, info.contentOffset));
  t.is(
    info.sha256,
    createHash('sha256')
      .update(Buffer.from(front).fill(0, 72, 104))
      .digest('hex'),
  );
  t.is(info.mode, 'program');
  t.is(info.contentOffset + info.contentBytes, image.length);
  for (const segment of info.segments) t.is(segment.fileOffset % 4096, 0);
  const code = 'ERR_LOCKSTEP_NOT_AN_IMAGE';
  const inFront = [0, 7, 8, 12, 16, 24, 32, 36, 40, 48, 56, 64, 68, 72, 103, 104, 112, 500, front.length - 1];
  const places = [...inFront, front.length, front.length + 50_000, image.length - 1];
  for (const at of places) {
    const copy = Buffer.from(image);
    copy[at] = (copy[at] as number) ^ 0x10;
    t.throws(() => inspectImage(copy), { code }, `byte ${at}`);
    if (at < front.length) t.throws(() => inspectFront(copy), { code }, `byte ${at}`);
  }
  for (const length of [0, 1, 8, 103, 104, 4096, front.length, image.length - 1])
    t.throws(() => inspectImage(image.subarray(0, length)), { code });
  t.throws(() => inspectImage(Buffer.concat([image, new Uint8Array(1)])), { code, message: /goes on/ });
});

test('the front of an image tells each block from every other', async (t) => {
  const { image } = await packProgram({ argv: ['busybox'], kernel });
  const size = frontBytes(image.subarray(0, IMAGE_HEADER_BYTES));
  const front = inspectFront(image.subarray(0, size));
  t.is(front.contentOffset, size);
  t.is(front.state.length, 0);
  const count = Math.ceil(front.contentBytes / front.blockBytes);
  t.is(front.blockHashes.length, 32 * count);
  for (let block = 0; block < count; block++) {
    const { start, end } = blockRange(front, block);
    const bytes = Buffer.from(image.subarray(start, end));
    t.true(isBlock(front, block, bytes));
    bytes[block % bytes.length] = (bytes[block % bytes.length] as number) ^ 1;
    t.false(isBlock(front, block, bytes));
    t.false(isBlock(front, block, bytes.subarray(1)));
  }
  t.is(blockRange(front, count - 1).end, image.length);
});

test('flat and ELF images', (t) => {
  const bytes = Uint8Array.from([0xf4, 0xf4]);
  const flat = inspectImage(
    fromFlat({ bytes, mode: 'real', loadAddress: 0x1000, entry: 0x1001, memoryMiB: 4 }),
  );
  t.like(flat, {
    mode: 'real',
    entry: 0x1001,
    memoryBytes: 4 << 20,
    segments: [{ gpa: 0x1000, bytes: 2, fileOffset: 4096 }],
  });
  t.is(inspectImage(fromFlat({ bytes, mode: 'long', loadAddress: 0x200000 })).entry, 0x200000);

  const elf = makeElf(0x7e0000100001, [
    { vaddr: 0x7e0000100000, paddr: 0x100000, flags: 5, bytes },
    {
      vaddr: 0x7e0000200000,
      paddr: 0x200000,
      flags: 6,
      bytes: Uint8Array.from([1, 2, 3]),
      memoryBytes: 4096,
    },
  ]);
  const long = inspectImage(fromElf({ bytes: elf }));
  t.is(long.mode, 'long');
  t.is(long.entry, 0x100001);
  t.deepEqual(
    long.segments.map(({ gpa, bytes: size }) => [gpa, size]),
    [
      [0x100000, 2],
      [0x200000, 3],
    ],
  );

  const code = 'ERR_LOCKSTEP_INVALID_ARGUMENT';
  t.throws(() => fromFlat({ bytes: new Uint8Array(0), mode: 'real', loadAddress: 0 }), { code });
  t.throws(() => fromFlat({ bytes, mode: 'real', loadAddress: 0x20000 }), { code, message: /above 0xffff/ });
  t.throws(() => fromFlat({ bytes, mode: 'long', loadAddress: 0x1000, entry: 0x1002 }), { code });
  t.throws(() => fromFlat({ bytes, mode: 'long', loadAddress: -1 }), { code });
  t.throws(() => fromFlat({ bytes, mode: 'long', loadAddress: 256 << 20 }), {
    code: 'ERR_LOCKSTEP_IMAGE_TOO_LARGE',
  });
  t.throws(() => fromElf({ bytes }), { code: 'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE' });
});

test('the decoder is loaded only when there is something to decode', (t) => {
  const script = `
    import { createRequire } from 'node:module'
    import { findSites } from './lib/image/sites.ts'
    import { parseElf } from './lib/image/elf.ts'
    import { makeProgram } from './test/image-fixtures.ts'
    const loaded = () => Object.keys(createRequire(import.meta.url).cache).some((name) => name.includes('iced-x86'))
    findSites(parseElf(makeProgram([0xc3]), 'x'))
    const before = loaded()
    findSites(parseElf(makeProgram([0x0f, 0xa2, 0xc3]), 'x'))
    console.log(before, loaded())`;
  const root = new URL('..', import.meta.url).pathname;
  const tsx = createRequire(import.meta.url).resolve('tsx');
  const text = execFileSync(process.execPath, ['--import', tsx, '--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
  });
  t.is(text.trim(), 'false true');
});
