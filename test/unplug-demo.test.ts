/** `lockstep demo`: the host of a mail server unplugged, what it does where it cannot, and that it leaves nothing behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { judgeMailbox } from '../lib/cli/demo/mailbox.js';
import { Transcript } from '../lib/cli/demo/transcript.js';
import { command, lockstep, run, scratch } from './helpers/command.js';

const USERS = 12;
const MAILS = 60;
const SMALL = ['demo', '--users', `${USERS}`, '--mails', `${MAILS}`];

test.serial('what was acknowledged before and after A was unplugged is in the mailbox, once', async (t) => {
  const directory = scratch(t);
  const { status, stdout, stderr } = await run([...SMALL, '--directory', directory]);
  const text = stdout.toString();
  t.is(status, 0, text + stderr);
  for (const line of [
    /^Packing an unmodified mail server$/m,
    /^ {2}it answers: 220 .*SMTP/m,
    /^ {2}>>> A is unplugged: its cable out, and kill -9 \d+ <<<$/m,
    /^ {2}>>> B is live: process \d+, the shadow <<<$/m,
    /ms {2}detection, the link breaks$/m,
    /ms {2}claim, the arbiter answers$/m,
    /ms {2}catch-up, the rest of the log is relived$/m,
    /ms {2}first output leaves the new side$/m,
    /ms {2}first new answer is here$/m,
    /ms {2}for the median user$/m,
    /^ {2}720 mails acknowledged with 250/m,
    /^ {2}720 mails in the mailbox: each acknowledged one once/m,
    /^ {2}12 connections, one a user/m,
    /^ {2}primary\.log: .* all equal/m,
    /^ {2}shadow\.log: .* all equal/m,
    /^All as it should be\.$/m,
  ])
    t.regex(text, line);

  // The same from the files, without the demo's own judgement: mails, their users, their connections.
  const mailbox = join(directory, 'mail/new');
  const mails = readdirSync(mailbox).map((name) => readFileSync(join(mailbox, name), 'utf8'));
  const fields = (name: string) => mails.map((mail) => new RegExp(`^${name}: (.*)$`, 'm').exec(mail)?.[1]);
  t.is(mails.length, USERS * MAILS);
  t.is(new Set(fields('X-MailFrom')).size, USERS);
  t.is(new Set(fields('X-Peer')).size, USERS);
  const [from, to] = [fields('X-MailFrom'), fields('X-RcptTo')];
  t.is(new Set(from.map((name, index) => `${name} ${to[index]}`)).size, USERS * MAILS);
  // The primary's log ends where it was killed; the machine went on in the other.
  const logged = async (name: string) =>
    JSON.parse((await run(['log', 'info', '--json', join(directory, name)])).stdout.toString());
  t.is((await logged('primary.log')).takeovers, 0);
  t.is((await logged('shadow.log')).takeovers, 1);
});

/** Processes whose command line names the directory. */
function mentioning(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return line.includes(directory) ? [line] : [];
      } catch {
        return [];
      }
    });
}

for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGKILL', null],
] as const) {
  test.serial(`${name} in the middle ends it with all that it started`, async (t) => {
    const directory = scratch(t);
    const argv = [lockstep, 'demo', '--users', '12', '--mails', '100000', '--directory', directory];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'exit');
    const namespaces: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      if (!/^ {2}\d+ mails, /.test(line)) continue;
      const { pid } = child;
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
      namespaces.push(...children.map((one) => `/proc/${one}`));
      t.true(mentioning(directory).length > 2);
      child.kill(name);
      break;
    }
    const [code] = await ended;
    t.is(code, status);
    // Four hosts' holders, a program at the switch, two sides and the users; those killed by the kernel may take a moment.
    t.true(namespaces.length >= 12 + 2 + 5, `${namespaces.length}`);
    const left = () => [...namespaces.filter((path) => existsSync(path)), ...mentioning(`${directory}/`)];
    for (let tries = 0; left().length > 0 && tries < 100; tries++) await sleep(50);
    t.deepEqual(left(), []);
  });
}

test.serial('SIGTERM ends the console demo with both sides', async (t) => {
  const directory = scratch(t);
  const argv = [lockstep, 'demo', '--console', '--lines', '100000', '--directory', directory];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) {
    if (!/^ +3 {2}/.test(line)) continue;
    child.kill('SIGTERM');
    break;
  }
  t.deepEqual(await ended, [143, null]);
  for (let tries = 0; mentioning(`${directory}/`).length > 0 && tries < 100; tries++) await sleep(50);
  t.deepEqual(mentioning(`${directory}/`), []);
});

test.serial('without root it says why, and shows the console demo', async (t) => {
  const directory = scratch(t);
  // Another user, who may use the files and devices of this one all the same: only root is missing.
  const rights = ['--inh-caps', '+dac_override', '--ambient-caps', '+dac_override'];
  const user = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', ...rights];
  const argv = [process.execPath, lockstep, 'demo', '--lines', '20', '--directory', directory];
  const prefix = process.getuid?.() === 0 ? user : [];
  const { status, stdout, stderr } = await command([...prefix, ...argv]);
  const lines = stdout.toString().split('\n');
  t.is(status, 0, stdout.toString() + stderr);
  t.is(lines[0], 'No hosts to unplug here (this user is not root): the console demo instead');
  t.true(lines.includes('  20 answers: none lost, none twice, none out of order, none different'));
  t.true(lines.includes('All as it should be.'));
});

test.serial('--console shows it where hosts could be had', async (t) => {
  const { status, stdout } = await run(['demo', '--console', '--lines', '20', '--directory', scratch(t)]);
  t.is(status, 0, stdout.toString());
  t.regex(stdout.toString(), /^Packing an unmodified program$/m);
});

test('what a user saw acknowledged is what got a 250 of its own, wherever its words are cut', (t) => {
  const said = (line: string) => `./smtp-source: ${line}\n`;
  const mail = (number: number, reply: string) =>
    [
      'MAIL FROM:<u@c>',
      '<<< 250 OK',
      `RCPT TO:<${number}box@a>`,
      '<<< 250 OK',
      'DATA',
      '<<< 354 End',
      '.',
      reply,
    ]
      .map(said)
      .join('');
  const text =
    ['<<< 220 lockstep', 'HELO c', '<<< 250 lockstep'].map(said).join('') +
    mail(1, '<<< 250 OK') +
    mail(2, '<<< 451 no') +
    mail(3, '<<< 250 OK') +
    mail(4, 'fatal: lost connection while sending message');
  for (const size of [1, 2, 7, 64, text.length]) {
    const acknowledged: number[] = [];
    const transcript = new Transcript((number) => acknowledged.push(number));
    for (let at = 0; at < text.length; at += size) transcript.take(text.slice(at, at + size));
    t.deepEqual(acknowledged, [1, 3], `${size}`);
    t.is(transcript.last, 'fatal: lost connection while sending message');
  }
});

test('a mail that is lost, twice, unfinished, unacknowledged or over a second connection is seen', (t) => {
  const users = new Map([
    ['one@c', [1, 2, 3]],
    ['two@c', [1, 2]],
  ]);
  const judge = (mails: [string, number, string][], unfinished = 0) => {
    const directory = scratch(t);
    for (const name of ['new', 'tmp']) mkdirSync(join(directory, name));
    for (const [index, [from, number, peer]] of mails.entries())
      writeFileSync(
        join(directory, 'new', `${index}`),
        `From: <${from}>\nX-Peer: ${peer}\nX-MailFrom: ${from}\nX-RcptTo: ${number}box@a\n\nX-Peer: body\n`,
      );
    for (let i = 0; i < unfinished; i++) writeFileSync(join(directory, 'tmp', `${i}`), '');
    const { messages, wrong } = judgeMailbox(directory, users);
    rmSync(directory, { recursive: true });
    t.is(messages, mails.length);
    return wrong;
  };
  const good: [string, number, string][] = [
    ['one@c', 1, 'p'],
    ['one@c', 2, 'p'],
    ['two@c', 1, 'q'],
    ['one@c', 3, 'p'],
    ['two@c', 2, 'q'],
  ];
  t.deepEqual(judge(good), []);
  t.deepEqual(judge(good.slice(1)), ['mail 1 of one@c was acknowledged, and is there 0 times']);
  t.deepEqual(judge([...good, ['two@c', 2, 'q']]), [
    'mail 2 of two@c was acknowledged, and is there 2 times',
  ]);
  t.deepEqual(judge([...good, ['two@c', 3, 'q']]), ['mail 3 of two@c is there unacknowledged']);
  t.deepEqual(judge([...good.slice(0, 4), ['two@c', 2, 'r']]), ['two@c came over 2 connections']);
  t.deepEqual(judge([...good, ['three@c', 1, 'q']]), ["5 in the mailbox is no user's mail"]);
  t.deepEqual(judge(good, 2), ['2 mails in the mailbox are unfinished']);
});
