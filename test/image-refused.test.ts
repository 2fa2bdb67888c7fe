// What the packer refuses, and how it says so.
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { inspectImage } from '../lib/image/image-file.js';
import { packProgram } from '../lib/image/program-image.js';
import { scratch } from './helpers/command.js';
import { makeKernel } from './image-fixtures.js';

const kernel = makeKernel();

test('programs that cannot run say why', async (t) => {
  const directory = scratch(t);
  const put = (name: string, bytes: Uint8Array | string, mode = 0o755): string => {
    writeFileSync(path.join(directory, name), bytes, { mode });
    return path.join(directory, name);
  };
  const good = readFileSync('/bin/busybox');
  const changed = (offset: number, value: number): Uint8Array => {
    const copy = Buffer.from(good);
    copy[offset] = value;
    return copy;
  };
  const relocatable = path.join(directory, 'o.o');
  writeFileSync(path.join(directory, 'o.c'), 'int f(void) { return 1; }');
  execFileSync('gcc', ['-c', '-o', relocatable, path.join(directory, 'o.c')]);
  chmodSync(relocatable, 0o755);
  const cases: [string, RegExp][] = [
    [put('text', 'just text'), /is not an ELF file/],
    [put('empty', ''), /is empty/],
    [put('script', '#!/no/such/sh\necho\n'), /\/no\/such\/sh, the interpreter of .*script, is not there/],
    [
      put('by-env', '#!/usr/bin/env no-such-sh\n'),
      /asks env for 'no-such-sh', which is nowhere on the guest's PATH/,
    ],
    [put('magic', '\x7fELF'), /cut off/],
    [put('arm', changed(18, 183)), /built for AArch64/],
    [put('i386', Uint8Array.from([...changed(18, 3)].map((v, i) => (i === 4 ? 1 : v)))), /built for i386/],
    [put('x32', changed(4, 1)), /32-bit/],
    [put('big', changed(5, 2)), /big-endian/],
    [put('cut', good.subarray(0, 100000)), /damaged or cut-off/],
    [put('far', changed(64 + 16 + 6, 0x1f)), /outside the address space/],
    [put('plain', good, 0o644), /no execute permission/],
    ['/lib/x86_64-linux-gnu/libm.so.6', /shared library|no execute permission/],
    [relocatable, /object or core file/],
    ['/usr/bin/', /is not a file/],
  ];
  for (const [file, message] of cases) {
    await t.throwsAsync(
      packProgram({ argv: [file], kernel }),
      { code: 'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', message },
      file,
    );
  }
  for (const name of ['no-such-program-xyz', './no-such', '']) {
    await t.throwsAsync(packProgram({ argv: [name], kernel }), { code: 'ERR_LOCKSTEP_PROGRAM_NOT_FOUND' });
  }
});

test('a cut or garbled ELF file is an error of ours, never another', async (t) => {
  const seed = Number(process.env.LOCKSTEP_SEED ?? Date.now() % 2 ** 31);
  t.log(`seed ${seed}`);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const directory = scratch(t);
  const file = path.join(directory, 'garbled');
  const good = readFileSync('/sbin/ldconfig');
  // Headers, section headers and .eh_frame are what is parsed.
  const areas = [
    [0, 1000],
    [Number(good.readBigUInt64LE(40)), 37 * 64],
    [0xd4158, 0x14000],
  ] as const;
  for (let i = 0; i < 60; i++) {
    const bytes = Buffer.from(good);
    const [start, size] = areas[i % areas.length] as readonly [number, number];
    for (let n = 0; n < 20; n++) bytes[start + random(size)] = random(256);
    writeFileSync(file, i % 4 === 3 ? bytes.subarray(0, random(bytes.length)) : bytes, { mode: 0o755 });
    const error = await packProgram({ argv: [file], kernel }).then(
      () => null,
      (e: unknown) => e,
    );
    if (error !== null)
      t.regex(String((error as { code?: string }).code), /^ERR_LOCKSTEP_/, String((error as Error).stack));
  }
});

test('wrong options are refused', async (t) => {
  const code = 'ERR_LOCKSTEP_INVALID_ARGUMENT';
  const argv = ['busybox'];
  await t.throwsAsync(packProgram({ argv: [], kernel }), { code });
  for (const memoryMiB of [0, 3, 255, 2.5, -2, Number.NaN])
    await t.throwsAsync(packProgram({ argv, kernel, memoryMiB }), { code });
  await t.throwsAsync(packProgram({ argv, kernel, cwd: 'tmp' }), { code });
  await t.throwsAsync(packProgram({ argv: ['busybox', 'a\0b'], kernel }), { code });
  await t.throwsAsync(packProgram({ argv, kernel, env: { 'A=B': '' } }), { code });
  await t.throwsAsync(packProgram({ argv, kernel, files: [{ host: '/dev/null' }] }), {
    code,
    message: /device/,
  });
  const twice = { host: '/etc/passwd', guest: '/a' };
  await t.throwsAsync(packProgram({ argv, kernel, files: [twice, twice] }), { code, message: /twice/ });
  await t.throwsAsync(packProgram({ argv, kernel, files: [twice, { host: '/etc/passwd', guest: '/a/b' }] }), {
    code,
  });
  const missing = await t.throwsAsync(packProgram({ argv, kernel, files: [{ host: '/no/such' }] }), {
    code: 'ERR_LOCKSTEP_SYSTEM',
  });
  t.like(missing, { errno: 2, syscall: 'stat' });
  t.regex(missing?.message ?? '', /\/no\/such cannot be packed: it does not exist/);
  for (const bad of [
    new Uint8Array(0),
    makeKernel('LSKERN2\0'),
    makeKernel('LSKERN1\0', 2),
    readFileSync('/bin/busybox'),
  ]) {
    await t.throwsAsync(packProgram({ argv, kernel: bad }), { code: 'ERR_LOCKSTEP_NOT_BUILT' });
  }
});

test('what does not fit is refused with the size that would do', async (t) => {
  const error = await t.throwsAsync(packProgram({ argv: ['busybox'], kernel, memoryMiB: 4 }), {
    code: 'ERR_LOCKSTEP_IMAGE_TOO_LARGE',
  });
  const enough = Number(/at least (\d+) MiB/.exec((error as Error & { hint: string }).hint)?.[1]);
  const { image } = await packProgram({ argv: ['busybox'], kernel, memoryMiB: enough });
  t.is(inspectImage(image).memoryBytes, enough << 20);
  await t.throwsAsync(packProgram({ argv: ['busybox'], kernel, memoryMiB: enough - 2 }), {
    code: 'ERR_LOCKSTEP_IMAGE_TOO_LARGE',
  });
  await t.throwsAsync(
    packProgram({ argv: ['busybox'], kernel, memoryMiB: 16, files: [{ host: '/usr/lib' }] }),
    {
      code: 'ERR_LOCKSTEP_IMAGE_TOO_LARGE',
    },
  );
});
