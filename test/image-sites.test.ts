import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { Decoder, DecoderOptions, Mnemonic } from 'iced-x86';
import { functionRanges } from '../lib/image/eh-frame.js';
import { parseElf } from '../lib/image/elf.js';
import { applyPatches } from '../lib/image/patch.js';
import { describeSite, findSites } from '../lib/image/sites.js';
import { makeProgram } from './image-fixtures.js';

const PROGRAMS = ['/bin/busybox', '/sbin/ldconfig', '/bin/bash-static'];
const SOUGHT = /^(cpuid|rdtscp|rdtsc|rdrand|rdseed|rdpid)\b/;
const WATCHED = /^(xgetbv|xsave\w*|xbegin|sgdt|sidt|sldt|str|smsw|lsl|tpause|umwait|rdpru)\b/;

/** What binutils finds: lines of `address TAB bytes TAB instruction`. */
function objdump(file: string): { address: number; instruction: string }[] {
  const text = execFileSync('objdump', ['-d', '--no-show-raw-insn', file], {
    maxBuffer: 1 << 28,
    encoding: 'latin1',
  });
  const found: { address: number; instruction: string }[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*([0-9a-f]+):\s+(\S.*)$/.exec(line);
    if (match)
      found.push({ address: Number.parseInt(match[1] as string, 16), instruction: match[2] as string });
  }
  return found;
}

for (const file of PROGRAMS) {
  test(`${file}: the sites are those that objdump sees`, (t) => {
    const sites = findSites(parseElf(readFileSync(file), file));
    const lines = objdump(file);
    const expected = lines.filter(({ instruction }) => SOUGHT.test(instruction));
    t.deepEqual(
      sites.replaced.map((site) => `${site.address.toString(16)} ${site.name}`),
      expected.map(({ address, instruction }) => `${address.toString(16)} ${instruction.trim()}`),
    );
    t.is(sites.replaced.filter((site) => site.name === 'cpuid').length, 29);
    t.is(sites.replaced.filter((site) => site.name === 'rdtsc').length, 1);
    const watched = lines.filter(({ instruction }) => WATCHED.test(instruction));
    t.deepEqual(
      sites.watch.map((site) => site.address),
      watched.map(({ address }) => address),
    );
    t.true(watched.length >= 4);
  });

  test(`${file}: only the sites change, each to an OUT of the same length`, (t) => {
    const bytes = readFileSync(file);
    const { replaced } = findSites(parseElf(bytes, file));
    const patched = applyPatches(bytes, { replaced, calls: [] });
    t.is(patched.length, bytes.length);
    const changed = new Set<number>();
    for (let i = 0; i < bytes.length; i++) if (bytes[i] !== patched[i]) changed.add(i);
    for (const site of replaced) {
      const before = decode(bytes, site.offset);
      t.is(before.text, site.name === 'cpuid' ? Mnemonic.Cpuid : Mnemonic.Rdtsc);
      t.is(before.length, site.length);
      t.is(decode(patched, site.offset).text, Mnemonic.Out);
      t.is(patched[site.offset + 1], site.name === 'cpuid' ? 0xc0 : 0xc1);
      for (let i = 0; i < site.length; i++) changed.delete(site.offset + i);
    }
    t.is(changed.size, 0);
  });
}

test('a patched program has nothing left for objdump to find', (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'lockstep-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const copy = path.join(directory, 'busybox');
  const bytes = readFileSync('/bin/busybox');
  writeFileSync(copy, applyPatches(bytes, findSites(parseElf(bytes, copy))));
  const lines = objdump(copy);
  t.is(lines.filter(({ instruction }) => SOUGHT.test(instruction)).length, 0);
  t.is(lines.filter(({ instruction }) => /^out\s+%al,\$0xc0/.test(instruction)).length, 29);
  t.is(lines.filter(({ instruction }) => /^out\s+%al,\$0xc1/.test(instruction)).length, 1);
});

test('a file without section headers gives the same sites', (t) => {
  for (const file of PROGRAMS) {
    const bytes = readFileSync(file);
    const whole = findSites(parseElf(bytes, file));
    const ranges = functionRanges(parseElf(bytes, file));
    bytes.writeBigUInt64LE(0n, 40);
    bytes.writeUInt16LE(0, 60);
    const elf = parseElf(bytes, file);
    t.is(elf.sections.length, 0);
    t.is(functionRanges(elf).length, ranges.length);
    t.deepEqual(findSites(elf), whole);
  }
});

test('function ranges are those of readelf', (t) => {
  for (const file of PROGRAMS) {
    const text = execFileSync('readelf', ['--debug-dump=frames', file], {
      maxBuffer: 1 << 28,
      encoding: 'latin1',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const expected = [...text.matchAll(/FDE cie=\S+ pc=([0-9a-f]+)\.\.([0-9a-f]+)/g)]
      .map(
        (match) =>
          [Number.parseInt(match[1] as string, 16), Number.parseInt(match[2] as string, 16)] as const,
      )
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    t.true(expected.length > 1000);
    t.deepEqual(
      functionRanges(parseElf(readFileSync(file), file)).map(({ start, end }) => [start, end]),
      expected.map(([start, end]) => [start, end]),
    );
  }
});

test('every encoding has its port and length', (t) => {
  const cases: [number[], string, number][] = [
    [[0x0f, 0xa2], 'cpuid', 0xc0],
    [[0x0f, 0x31], 'rdtsc', 0xc1],
    [[0x0f, 0x01, 0xf9], 'rdtscp', 0xc2],
    [[0x0f, 0xc7, 0xf0], 'rdrand eax', 0x80],
    [[0x41, 0x0f, 0xc7, 0xf7], 'rdrand r15d', 0x8f],
    [[0x48, 0x0f, 0xc7, 0xf1], 'rdrand rcx', 0x91],
    [[0x49, 0x0f, 0xc7, 0xf2], 'rdrand r10', 0x9a],
    [[0x0f, 0xc7, 0xff], 'rdseed edi', 0xa7],
    [[0x66, 0x49, 0x0f, 0xc7, 0xfa], 'rdseed r10', 0xba],
    [[0xf3, 0x0f, 0xc7, 0xf8], 'rdpid rax', 0xd0],
    [[0xf3, 0x41, 0x0f, 0xc7, 0xf9], 'rdpid r9', 0xd9],
  ];
  for (const [code, name, port] of cases) {
    const bytes = makeProgram([...code, 0xc3]);
    const { replaced } = findSites(parseElf(bytes, name));
    t.deepEqual(replaced.map(describeSite), [name]);
    const patched = applyPatches(bytes, { replaced, calls: [] });
    t.deepEqual([...patched.subarray(120)], [0xe6, port, ...code.slice(2).map(() => 0x90), 0xc3], name);
  }
});

test('16-bit RDRAND and RDSEED are listed and left', (t) => {
  const bytes = makeProgram([0x66, 0x0f, 0xc7, 0xf0, 0x66, 0x0f, 0xc7, 0xf9, 0xc3]);
  const sites = findSites(parseElf(bytes, 'x'));
  t.is(sites.replaced.length, 0);
  t.deepEqual(
    sites.watch.map((site) => site.instruction),
    ['rdrand (16 bit)', 'rdseed (16 bit)'],
  );
});

test('constants and tables with the same bytes are left and named', (t) => {
  // mov eax, 0xa20f310f; jmp +4; cpuid's bytes as data, rdtsc's too; ret
  const bytes = makeProgram([0xb8, 0x0f, 0x31, 0x0f, 0xa2, 0xeb, 0x04, 0x0f, 0xa2, 0x0f, 0x31, 0xc3]);
  const sites = findSites(parseElf(bytes, 'x'));
  t.deepEqual(sites.replaced, []);
  t.deepEqual(
    sites.left.map(({ address, reason }) => [address, reason.replace(/ or an .*/, '')]),
    [
      [0x400001, 'bytes inside the instruction at 0x400000'],
      [0x400003, 'bytes inside the instruction at 0x400000'],
      [0x400007, 'not reached from an entry point, a symbol'],
      [0x400009, 'not reached from an entry point, a symbol'],
    ],
  );
});

test('code is followed through calls and both sides of a branch; main is found through RDI', (t) => {
  const code = new Array(0x80).fill(0xcc);
  // jz +6; rdtsc; call 0x20; lea rdi,[rip -> 0x40] comes before the first call
  code.splice(0, 7, 0x48, 0x8d, 0x3d, 0x39, 0, 0, 0);
  code.splice(7, 2, 0x74, 0x07);
  code.splice(9, 7, 0x0f, 0x31, 0xe8, 0x10, 0, 0, 0);
  code.splice(16, 3, 0x0f, 0xa2, 0xf4);
  code.splice(0x20, 3, 0x0f, 0xa2, 0xc3);
  code.splice(0x40, 3, 0x0f, 0x31, 0xc3);
  code.splice(0x60, 3, 0x0f, 0xa2, 0xc3);
  const sites = findSites(parseElf(makeProgram(code), 'x'));
  t.deepEqual(
    sites.replaced.map((site) => site.address - 0x400000),
    [9, 16, 0x20, 0x40],
  );
  t.deepEqual(
    sites.left.map((site) => site.address - 0x400000),
    [0x60],
  );
});

test('--patch and --leave', (t) => {
  const bytes = makeProgram([0x0f, 0x31, 0xc3, 0x0f, 0xa2, 0xc3]);
  const elf = parseElf(bytes, 'x');
  const plain = findSites(elf);
  t.deepEqual(
    [plain.replaced.map((s) => s.address), plain.left.map((s) => s.address)],
    [[0x400000], [0x400003]],
  );
  const turned = findSites(elf, { patch: [0x400003], leave: [0x400000] });
  t.deepEqual(
    [turned.replaced.map((s) => s.address), turned.left.map((s) => s.address)],
    [[0x400003], [0x400000]],
  );
  t.is(turned.left[0]?.reason, 'asked for by --leave');
  t.throws(() => findSites(elf, { patch: [0x400001] }), {
    code: 'ERR_LOCKSTEP_INVALID_ARGUMENT',
    message: /0x400001/,
  });
  t.throws(() => findSites(elf, { leave: [0x999999] }), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
});

function decode(bytes: Uint8Array, offset: number): { text: Mnemonic; length: number } {
  const decoder = new Decoder(64, bytes.subarray(offset, offset + 15), DecoderOptions.None);
  const instruction = decoder.decode();
  const result = { text: instruction.mnemonic, length: instruction.length };
  instruction.free();
  decoder.free();
  return result;
}
