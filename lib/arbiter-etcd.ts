import { randomUUID } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { type Deferred, deferred } from './deferred.js';
import { type EndMarks, type PairEnd, parseEnd } from './end-marks.js';
import { LockstepError } from './errors.js';
import { invalid } from './options.js';
import { packageRoot } from './package-root.js';

export interface EtcdOptions {
  /** `HOST:PORT` of each server. All are asked at once, and the first answer counts. */
  endpoints: string[];
  /** What keys begin with. Default `lockstep/`. They are small, and stay until the machine is over. */
  prefix?: string;
  /** After so long a try counts as unanswered, and another follows. Default 200 ms. */
  timeoutMs?: number;
  /** PEM texts, as for Node's own tls. Without it connections are plain. */
  tls?: { ca: string; cert?: string; key?: string };
  /** For servers with authentication. */
  auth?: { username: string; password: string };
}

/** @internal */
export interface EtcdWorkerData {
  name: string;
  endpoints: string[];
  prefix: string;
  timeoutMs: number;
  answerMsMax: number;
  credentials: EtcdOptions['tls'];
  auth: EtcdOptions['auth'];
}

/** @internal */
export type EtcdWorkerNotice =
  | { answers: true }
  | { answers: false; why: string }
  | { request: number; found?: string }
  | { request: number; failed: string };

/** @internal To write down how a pair's machine ended, or, without `end`, to look that up. */
export interface EtcdWorkerRequest {
  request: number;
  pairId: string;
  end?: string;
}

/** What a worker's answer may take beyond etcd's. */
const WORKER_MS = 50;
const RESTART_MS = 1000;
/** From its package's directory, because the command line's modules are bundled elsewhere. */
const WORKER = new URL('dist/arbiter-etcd-worker.js', packageRoot);

/** Throws what is wrong with `HOST:PORT`. @internal */
export function checkEndpoint(endpoint: string): void {
  const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^:/\s[\]]+):(\d{1,5})$/.exec(endpoint)?.[1] ?? 0);
  if (port < 1 || port > 65_535) throw invalid(`${endpoint} is no etcd server: write HOST:PORT`);
}

/** @internal */
export function etcdUnreachable(endpoints: string[], afterMs: number, reason: string): LockstepError {
  const why = reason ? `: ${reason}` : '';
  return new LockstepError(
    'ERR_LOCKSTEP_ARBITER_UNREACHABLE',
    `etcd at ${endpoints.join(', ')} did not answer within ${afterMs} ms${why}`,
    { hint: 'Check that it runs, and its address, certificates and user: `etcdctl endpoint health`.' },
  );
}

/** The worker thread that asks etcd. It is there while a side of a pair uses it, and keeps no process alive. */
export class EtcdClerk implements EndMarks {
  /** How the core finds it. */
  readonly name: string = `etcd-${randomUUID()}`;
  readonly #data: EtcdWorkerData;
  #worker: Worker | undefined;
  #users = 0;
  #answers: Deferred<void> = deferred();
  #why = '';
  readonly #asked = new Map<number, Deferred<string | undefined>>();
  #requests = 0;

  constructor({ endpoints, prefix = 'lockstep/', timeoutMs = 200, tls, auth }: EtcdOptions) {
    if (endpoints.length === 0) throw invalid('an etcd arbiter needs at least one endpoint');
    endpoints.forEach(checkEndpoint);
    if (!(timeoutMs >= 10 && timeoutMs <= 60_000)) {
      throw invalid(`timeoutMs (${timeoutMs}) must be from 10 to 60,000`);
    }
    const { name } = this;
    const answerMsMax = timeoutMs + WORKER_MS;
    this.#data = { name, endpoints, prefix, timeoutMs, answerMsMax, credentials: tls, auth };
  }

  /** Resolves when etcd answers; each caller must release() once. Rejects when it does not within `connectMs`. */
  async acquire(connectMs: number): Promise<void> {
    this.#users++;
    if (!this.#worker) this.#start();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(etcdUnreachable(this.#data.endpoints, connectMs, this.#why)),
        connectMs,
      );
    });
    try {
      await Promise.race([this.#answers.promise, late]);
    } catch (error) {
      this.release();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  release(): void {
    if (--this.#users > 0) return;
    void this.#worker?.terminate();
    this.#worker = undefined;
    this.#answers = deferred();
  }

  async record(pairId: string, end: PairEnd): Promise<void> {
    await this.#ask({ pairId, end: JSON.stringify(end) });
  }

  async find(pairId: string): Promise<PairEnd | undefined> {
    const found = await this.#ask({ pairId });
    return found === undefined ? undefined : parseEnd(found);
  }

  async #ask(question: Omit<EtcdWorkerRequest, 'request'>): Promise<string | undefined> {
    const { endpoints, answerMsMax } = this.#data;
    const request = ++this.#requests;
    const asked: Deferred<string | undefined> = deferred();
    const late = () => asked.reject(etcdUnreachable(endpoints, answerMsMax, ''));
    const timer = setTimeout(late, this.#worker ? answerMsMax : 0);
    this.#asked.set(request, asked);
    this.#worker?.postMessage({ ...question, request } satisfies EtcdWorkerRequest);
    try {
      return await asked.promise;
    } finally {
      clearTimeout(timer);
      this.#asked.delete(request);
    }
  }

  #start(): void {
    const worker = new Worker(WORKER, {
      workerData: this.#data,
      execArgv: [],
      // A library never logs on its own, and neither does what it uses.
      env: { ...process.env, GRPC_VERBOSITY: 'NONE' },
    });
    this.#worker = worker;
    worker.on('message', (notice: EtcdWorkerNotice) => {
      if ('request' in notice) {
        const { endpoints, answerMsMax } = this.#data;
        const asked = this.#asked.get(notice.request);
        if ('failed' in notice) asked?.reject(etcdUnreachable(endpoints, answerMsMax, notice.failed));
        else asked?.resolve(notice.found);
      } else if (notice.answers) this.#answers.resolve();
      else this.#why = notice.why;
    });
    worker.on('error', (error) => {
      this.#why = error.message;
    });
    worker.once('exit', () => {
      // Nobody told it to: whoever asks meanwhile hears that the arbiter is unreachable.
      const again = () => this.#users > 0 && this.#worker === worker && this.#start();
      setTimeout(again, RESTART_MS).unref();
    });
    // Last: a listener for messages holds the process.
    worker.unref();
  }
}
