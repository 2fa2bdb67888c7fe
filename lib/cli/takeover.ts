import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../control/control-client.js';
import type { ControlReply, ControlRequest } from '../control/control-server.js';
import type { SideReport } from '../control/side-report.js';
import { type ErrorCode, LockstepError } from '../errors.js';
import { say } from './report.js';

interface Flags {
  control: string;
  /** `migrate`: how long to wait for a shadow. */
  timeout?: number;
  quiet?: boolean;
}

const LOOK_MS = 50;
/** The side that hands over claims back after a second; far more than either takes. */
const SWITCH_MS = 30_000;

async function asked(control: string, op: 'status' | 'hand-over'): Promise<ControlReply & { ok: true }> {
  const reply = await ask(control, { op } satisfies ControlRequest);
  if (reply.ok) return reply;
  const { code, message, hint } = reply;
  throw new LockstepError(code as ErrorCode, message, { hint });
}

async function report(control: string): Promise<SideReport> {
  const reply = await asked(control, 'status');
  if ('report' in reply) return reply.report;
  throw new LockstepError('ERR_LOCKSTEP_STATE', 'this machine is no side of a pair');
}

async function untilProtected({ control, timeout = 0, ...flags }: Flags): Promise<void> {
  for (let waited = 0; ; waited += LOOK_MS) {
    const { role, protected: isProtected } = await report(control);
    if (role === 'primary' && isProtected) return;
    if (role === 'primary' && waited === 0) say(flags, 'waiting for a shadow to join: `lockstep shadow`');
    if (role !== 'primary' || waited >= timeout)
      throw new LockstepError(
        'ERR_LOCKSTEP_STATE',
        role === 'primary' ? 'no shadow stands by to go on' : `this side is not live: ${role}`,
        { hint: 'Ask the live side, when a shadow has joined it.' },
      );
    await sleep(LOOK_MS);
  }
}

/** `lockstep takeover`, and `lockstep migrate`, which waits for the shadow first. */
export default async function takeover(flags: Flags): Promise<number> {
  await untilProtected(flags);
  const { generation } = await report(flags.control);
  await asked(flags.control, 'hand-over');
  for (let waited = 0; waited < SWITCH_MS; waited += LOOK_MS) {
    // It has ended, and answers no more, once the other side has won.
    const now = await report(flags.control).catch(() => undefined);
    if (!now || now.role === 'fenced') {
      say(flags, 'the shadow goes on');
      return 0;
    }
    if (now.generation > generation) break;
    await sleep(LOOK_MS);
  }
  throw new LockstepError(
    'ERR_LOCKSTEP_STATE',
    'the shadow did not come to it: the machine goes on where it was',
  );
}
