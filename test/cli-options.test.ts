import test from 'ava';
import { compareAnswers } from '../lib/cli/demo/judge.js';
import { environment, packedFile, whole } from '../lib/cli/options.js';
import { bytes, statusOfEnd, statusOfError } from '../lib/cli/report.js';
import { DivergenceError, fromNative, LockstepError } from '../lib/errors.js';

test('--file takes HOST and HOST:GUEST', (t) => {
  t.deepEqual(packedFile('/etc/passwd', []), [{ host: '/etc/passwd' }]);
  t.deepEqual(packedFile('a:/b', [{ host: 'x' }]), [{ host: 'x' }, { host: 'a', guest: '/b' }]);
  t.throws(() => packedFile(':/b', []));
  t.throws(() => packedFile('a:', []));
});

test('--env takes K=V, and of the caller only what is named', (t) => {
  process.env.LOCKSTEP_TEST = 'mine';
  t.deepEqual(environment('A=b=c', { X: 'y' }), { X: 'y', A: 'b=c' });
  t.deepEqual(environment('LOCKSTEP_TEST', {}), { LOCKSTEP_TEST: 'mine' });
  t.deepEqual(environment('LOCKSTEP_TEST_ABSENT', {}), {});
  t.throws(() => environment('=v', {}));
});

test('numbers are whole', (t) => {
  t.is(whole('42'), 42);
  for (const text of ['', '-1', '1.5', '0x10', '9007199254740993', 'x'])
    t.throws(() => whole(text), undefined, text);
});

test('exit statuses are those of a shell', (t) => {
  const detail = '';
  t.is(statusOfEnd({ reason: 'exited', status: 3, detail }), 3);
  t.is(statusOfEnd({ reason: 'signal', status: 13, detail }), 141);
  t.is(statusOfEnd({ reason: 'panic', status: 0, detail }), 125);
  t.is(statusOfError(new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_FOUND', '')), 127);
  t.is(statusOfError(new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', '')), 126);
  t.is(statusOfError(new LockstepError('ERR_LOCKSTEP_KVM', '')), 125);
});

test('what the addon throws becomes one LockstepError', (t) => {
  const native = Object.assign(new Error('no'), {
    code: 'ERR_LOCKSTEP_KVM',
    hint: 'do',
    operation: 'KVM_RUN',
    errno: 22,
  });
  const error = fromNative(native) as LockstepError;
  t.true(error instanceof LockstepError);
  t.like(error, { code: 'ERR_LOCKSTEP_KVM', hint: 'do', syscall: 'KVM_RUN', errno: 22, message: 'no' });
  const other = new TypeError('mine');
  t.is(fromNative(other), other);
});

test('a divergence says where', (t) => {
  const divergence = {
    event: 7,
    kind: 'register',
    where: 'rax',
    expected: '0x1',
    actual: '0x2',
    before: [],
  } as const;
  const error = new DivergenceError({ ...divergence, before: [] }, '');
  t.is(error.name, 'DivergenceError');
  t.regex(error.message, /event 7: rax is 0x2, and was 0x1/);
  t.is(statusOfError(error), 1);
});

test('sizes are for people', (t) => {
  t.deepEqual([0, 1023, 1024, 1536, 5 << 20].map(bytes), ['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '5.0 MiB']);
});

test('answers are judged: lost, twice, out of order, different', (t) => {
  const host = ['a', 'b', 'c'];
  t.deepEqual(compareAnswers(host, ['a', 'b', 'c']), []);
  t.is(compareAnswers(host, ['a', 'b']).length, 1);
  t.is(compareAnswers(host, ['a', 'b', 'b', 'c']).length, 2);
  t.is(compareAnswers(host, ['b', 'a', 'c']).length, 1);
  t.is(compareAnswers(host, ['a', 'c']).length, 2);
});
