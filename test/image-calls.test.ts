/** System calls that stay in the guest: which the packer replaces, and that programs do not see a difference. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { callOf } from '../lib/image/calls.js';
import { parseElf } from '../lib/image/elf.js';
import { applyPatches } from '../lib/image/patch.js';
import { findSites } from '../lib/image/sites.js';
import { command, run, scratch } from './helpers/command.js';
import { checkWorkload } from './helpers/replays.js';

const directory = mkdtempSync(join(tmpdir(), 'lockstep-calls-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

async function compile(name: string, source: string, ...flags: string[]): Promise<string> {
  const file = join(directory, `${name}.c`);
  writeFileSync(file, source);
  const program = join(directory, name);
  const { status, stderr } = await command(['cc', ...flags, file, '-o', program]);
  if (status !== 0) throw new Error(stderr.toString());
  return program;
}

/** Each function of the assembly, and whether its system call may be replaced. */
const FUNCTIONS: [name: string, replaced: boolean, body: string][] = [
  ['plain', true, 'mov $39, %eax; syscall; ret'],
  ['compared', true, 'xor %eax, %eax; syscall; cmp $-4096, %rax; ja 1f; ret; 1: ud2'],
  ['uncompared', false, 'xor %eax, %eax; syscall; ret'],
  ['by_register', false, 'mov %edi, %eax; syscall; ret'],
  ['too_high', false, 'mov $452, %eax; syscall; ret'],
  ['clones', false, 'mov $56, %eax; syscall; ret'],
  ['red_zone', false, 'mov %rdi, -8(%rsp); mov $39, %eax; syscall; mov -8(%rsp), %rax; ret'],
  ['red_zone_far', false, 'call plain; mov $39, %eax; syscall; movss %xmm0, -128(%rsp); ret'],
  [
    'framed_leaf',
    false,
    'push %rbp; mov %rsp, %rbp; mov %edi, -4(%rbp); mov $39, %eax; syscall; pop %rbp; ret',
  ],
  ['framed', true, 'push %rbp; mov %rsp, %rbp; call plain; mov $39, %eax; syscall; pop %rbp; ret'],
  ['address', false, 'lea 8(%rsp), %rdi; mov $39, %eax; syscall; ret'],
  ['above', true, 'sub $24, %rsp; mov %rdi, 8(%rsp); mov $39, %eax; syscall; add $24, %rsp; ret'],
  ['jumped_into', false, 'test %edi, %edi; mov $3, %eax; jnz 1f; mov $39, %eax; 1: syscall; ret'],
  ['jumped_to', true, 'test %edi, %edi; jnz 1f; nop; 1: mov $39, %eax; syscall; ret'],
  ['blind', false, 'mov $39, %eax; syscall; jmp *%rdi'],
  ['from_far', false, 'mov $39, %eax; from_far_inside: syscall; ret'],
  ['far', true, 'mov $39, %eax; syscall; jmp from_far_inside'],
  ['torn', false, 'mov $39, %eax; syscall; jmp 1f; .byte 0x0f, 0xff, 0xff, 0x06; 1: ret'],
];

test('what is replaced, and what is left because it could be seen', async (t) => {
  const assembly = FUNCTIONS.map(
    ([name, , body]) =>
      `.globl ${name}\\n.type ${name}, @function\\n${name}: .cfi_startproc\\n${body}\\n.cfi_endproc\\n.size ${name}, . - ${name}\\n`,
  ).join('');
  const source = `__asm__(".text\\n${assembly.replaceAll('"', '\\"')}");`;
  const program = await compile('functions', source, '-shared', '-nostdlib', '-fPIC', '-Wl,-Bsymbolic');
  const elf = parseElf(readFileSync(program), program);
  const { calls } = findSites(elf);
  const symbols = execFileSync('nm', ['-S', program], { encoding: 'latin1' });
  for (const [name, replaced] of FUNCTIONS) {
    const [, start, bytes] = new RegExp(`^(\\w+) (\\w+) T ${name}$`, 'm').exec(symbols) ?? [];
    const first = Number.parseInt(start as string, 16);
    const last = first + Number.parseInt(bytes as string, 16);
    t.is(
      calls.some(({ address }) => address >= first && address < last),
      replaced,
      name,
    );
  }
});

test('a call goes through the table, by number and kind', (t) => {
  const site = { address: 0, offset: 0 };
  t.deepEqual([...callOf({ ...site, number: 39, length: 7 })], [0xff, 0x14, 0x25, 0x70, 0xe2, 0, 0]);
  t.deepEqual(
    [...callOf({ ...site, number: 0, length: 10 })],
    [0xff, 0x14, 0x25, 0x08, 0xe0, 0, 0, 0x0f, 0x1f, 0],
  );
});

for (const file of ['/bin/busybox', '/lib/x86_64-linux-gnu/libc.so.6', '/bin/bash-static']) {
  test(`${file}: objdump sees a call in place of each, and nothing else changed`, (t) => {
    const bytes = readFileSync(file);
    const { calls } = findSites(parseElf(bytes, file));
    t.true(calls.length > 100);
    const patched = applyPatches(bytes, { replaced: [], calls });
    const changed = new Set<number>();
    for (let i = 0; i < bytes.length; i++) if (bytes[i] !== patched[i]) changed.add(i);
    for (const { offset, length } of calls) for (let i = 0; i < length; i++) changed.delete(offset + i);
    t.is(changed.size, 0);
    const copy = join(scratch(t), 'patched');
    writeFileSync(copy, patched);
    const lines = (path: string) => {
      const text = execFileSync('objdump', ['-d', '--no-show-raw-insn', path], { maxBuffer: 1 << 28 });
      return text.toString('latin1').split('\n');
    };
    const before = lines(file).filter((line) => /\tsyscall/.test(line)).length;
    const after = lines(copy);
    t.is(after.filter((line) => /\tsyscall/.test(line)).length, before - calls.length);
    t.is(after.filter((line) => /\tcall +\*0x[ef][0-9a-f]{3}$/.test(line)).length, calls.length);
  });
}

/** Asks for the same in two ways, by the instruction and by the C library, and prints where they differ. */
const SAME = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int rang;
static void ring(int signal) { rang += signal == SIGALRM; }

static void *write_later(void *end) {
    usleep(60000);
    write(*(int *)end, "z", 1);
    return NULL;
}

static void leave(int **mark) { **mark = 1; }
static void *unwound(void *mark) {
    int *done __attribute__((cleanup(leave))) = mark;
    char byte;
    int ends[2];
    pipe(ends);
    read(ends[0], &byte, 1);
    return done;
}

int main(void) {
    char text[8] = "";
    int ends[2], done = 0;
    pipe(ends);
    printf("pid %d\\n", getpid() == syscall(SYS_getpid));
    ssize_t n = read(99, text, 1);
    printf("no file %zd %d\\n", n, errno);
    n = write(ends[1], "abc", 3);
    printf("write %zd\\n", n);
    n = read(ends[0], text, 8);
    printf("read %zd %s\\n", n, text);

    /* Broken off and restarted: the alarm rings while read() waits, and writes what it waits for. */
    struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval soon = {.it_value = {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    struct timespec nap = {0, 50000000}, left = {9, 9};
    int error = nanosleep(&nap, &left) ? errno : 0;
    printf("slept: %d, rang %d, left %d\\n", error == EINTR, rang, left.tv_sec == 0 && left.tv_nsec > 0);
    action.sa_flags = SA_RESTART;
    setitimer(ITIMER_REAL, &soon, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, write_later, ends + 1);
    n = read(ends[0], text, 1);
    printf("restarted: %zd, rang %d\\n", n, rang);
    pthread_join(thread, NULL);

    /* A thread that is cancelled in a call leaves its functions in order. */
    pthread_create(&thread, NULL, unwound, &done);
    usleep(10000);
    pthread_cancel(thread);
    void *how;
    pthread_join(thread, &how);
    printf("cancelled %d, cleaned up %d\\n", how == PTHREAD_CANCELED, done);

    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
    printf("time goes on %d\\n", b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec > a.tv_nsec));
    n = clock_gettime(99, &a);
    printf("bad clock %zd %d\\n", n, errno);
    printf("vdso %d\\n", getauxval(AT_SYSINFO_EHDR) && !memcmp((void *)getauxval(AT_SYSINFO_EHDR), "\\177ELF", 4));
    return 0;
}
`;

for (const flags of [
  ['-O2', '-pthread', '-fexceptions'],
  ['-O0', '-static', '-pthread', '-fexceptions'],
]) {
  test.serial(`${flags.join(' ')}: errors, restarts, cancellation and time are as on the host`, async (t) => {
    const name = flags.includes('-static') ? 'same-static' : 'same';
    const program = await compile(name, SAME, ...flags);
    t.is(await checkWorkload(t, { name, argv: [program] }, 2), 0);
  });
}

test('inspect says how many calls stay in the guest, and --leave leaves one', async (t) => {
  const image = join(scratch(t), 'x.image');
  await run(['image', 'pack', '-o', image, '--', 'busybox', 'true']);
  const { stdout } = await run(['image', 'inspect', image]);
  const [, count] = /\/busybox: (\d+) system calls stay in the guest/.exec(stdout.toString()) ?? [];
  t.true(Number(count) > 100);
  const { calls } = findSites(parseElf(readFileSync('/bin/busybox'), 'busybox'));
  const leave = `0x${(calls[0]?.address as number).toString(16)}`;
  await run(['image', 'pack', '--force', '-o', image, '--leave', leave, '--', 'busybox', 'true']);
  const again = await run(['image', 'inspect', image]);
  t.regex(again.stdout.toString(), new RegExp(`: ${Number(count) - 1} system calls stay`));
});
