import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { LockstepError } from '../errors.js';
import type { GuestTreeEntry } from '../guest-tree-answer.js';
import type { Machine, SnapshotInfo } from '../machine.js';
import type { SideReport } from './side-report.js';

/** One line of JSON each way: what `lockstep cp` and `lockstep status` say to a running machine. */
export type ControlRequest =
  | { op: 'read' | 'list' | 'stat' | 'tree'; path: string }
  | { op: 'status' }
  | { op: 'hand-over' }
  | { op: 'snapshot'; path: string; force: boolean };

export type ControlReply =
  | { ok: true; data: string }
  | { ok: true; files: { name: string; type: string; sizeBytes: number }[] }
  | { ok: true; tree: (Omit<GuestTreeEntry, 'contents'> & { data: string })[] }
  | { ok: true; report: SideReport }
  | { ok: true; asked: true }
  | { ok: true; snapshot: SnapshotInfo }
  | { ok: false; code: string; message: string; hint?: string; errno?: number };

/** Of a side of a pair. */
export interface ControlOptions {
  /** Why the machine cannot be asked now; undefined: it can. */
  refusal?: () => LockstepError | undefined;
  /** Where the side stands. */
  report?: () => SideReport;
  handOver?: () => void;
}

async function answer(
  machine: Machine,
  { refusal, report, handOver }: ControlOptions,
  line: string,
): Promise<ControlReply> {
  try {
    const request = JSON.parse(line) as ControlRequest;
    const { op } = request;
    if (op === 'status') {
      if (report) return { ok: true, report: report() };
      throw new LockstepError('ERR_LOCKSTEP_STATE', 'this machine is no side of a pair');
    }
    if (op === 'hand-over') {
      if (!handOver) throw new LockstepError('ERR_LOCKSTEP_STATE', 'this machine is no side of a pair');
      handOver();
      return { ok: true, asked: true };
    }
    const { path } = request;
    const refused = refusal?.();
    if (refused) throw refused;
    if (op === 'snapshot') {
      return { ok: true, snapshot: await machine.snapshot(path, { force: request.force }) };
    }
    if (op === 'read')
      return { ok: true, data: Buffer.from(await machine.readFile(path)).toString('base64') };
    if (op === 'list') return { ok: true, files: await machine.listFiles(path) };
    if (op === 'stat') return { ok: true, files: [await machine.statFile(path)] };
    if (op === 'tree') {
      const entries = await machine.readTree(path);
      const tree = entries.map(({ contents, ...rest }) => ({
        ...rest,
        data: Buffer.from(contents).toString('base64'),
      }));
      return { ok: true, tree };
    }
    return { ok: false, code: 'ERR_LOCKSTEP_INVALID_ARGUMENT', message: `unknown request ${String(op)}` };
  } catch (error) {
    const { code = 'ERR_LOCKSTEP_INVALID_ARGUMENT', message, errno } = error as NodeJS.ErrnoException;
    const hint = error instanceof LockstepError ? error.hint : undefined;
    return { ok: false, code, message, hint, errno };
  }
}

async function serve(machine: Machine, options: ControlOptions, socket: Socket): Promise<void> {
  socket.on('error', () => {});
  for await (const line of createInterface({ input: socket })) {
    socket.write(`${JSON.stringify(await answer(machine, options, line))}\n`);
  }
}

/** A socket that a killed process left behind would be in the way; one that somebody listens at is not ours. */
export async function removeStale(path: string): Promise<void> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const socket = connect(path);
  const code = await new Promise<string | undefined>((resolve) => {
    socket.once('connect', () => resolve(undefined));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  socket.destroy();
  if (code === 'ECONNREFUSED') rmSync(path, { force: true });
}

/** Answers `lockstep cp` and `lockstep status` on a Unix socket that only this user can open. */
export async function serveControl(
  path: string,
  machine: Machine,
  options: ControlOptions = {},
): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    void serve(machine, options, socket);
  });
  await removeStale(path);
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(
          new LockstepError('ERR_LOCKSTEP_LISTEN', `cannot listen at ${path}: ${cause.message}`, { cause }),
        ),
      );
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
  server.unref();
  return {
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      try {
        rmSync(path, { force: true });
      } catch {
        // The directory is another user's than this process is now. Whoever listens there next removes it.
      }
    },
  };
}
