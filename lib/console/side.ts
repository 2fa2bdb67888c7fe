import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { fromNative, LockstepError } from '../errors.js';
import type { TlsOptions } from '../tls.js';
import { parseAddress } from './address.js';
import {
  type ChannelOffset,
  type ClientMessage,
  encode,
  MessageReader,
  type ServerMessage,
} from './console-message.js';

const RETRY_MS = 20;

export interface SideHandlers {
  /** What HELLO says: asked for at each connect. */
  hello(): { pairId: string; have: ChannelOffset[] };
  message(side: Side, message: ServerMessage): void;
  /** Connected, or no longer. */
  changed(side: Side, connected: boolean): void;
  failed(error: unknown): void;
}

/** Trying again would not help: the other side's certificate is wrong, this one's is, or it speaks no TLS. */
function isRefusal(error: Error & { code?: string }): boolean {
  return /^(ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/.test(error.code ?? '');
}

function refusal(address: string, error: Error): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_TLS', `no TLS with ${address}: ${error.message}`, {
    hint: 'Both need certificates of one authority: `lockstep keys DIR`, and --tls DIR on each.',
  });
}

/** One address of a pair: connected, and connected again whenever that is lost. */
export class Side {
  readonly address: string;
  readonly #handlers: SideHandlers;
  readonly #tls: TlsOptions | undefined;
  #socket: Socket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #connected = false;
  #referenced = true;
  #closed = false;

  constructor(address: string, handlers: SideHandlers, tls?: TlsOptions) {
    this.address = address;
    this.#tls = tls;
    this.#handlers = handlers;
  }

  get connected(): boolean {
    return this.#connected;
  }

  connect(): void {
    const where = parseAddress(this.address);
    const tls = 'host' in where ? this.#tls : undefined;
    const socket = tls ? this.#connectTls(where, tls) : connect(where);
    const reader = new MessageReader();
    this.#socket = socket;
    if (!this.#referenced) socket.unref();
    socket.on(tls ? 'secureConnect' : 'connect', () => {
      this.#connected = true;
      this.send({ type: 'hello', ...this.#handlers.hello() });
      this.#handlers.changed(this, true);
    });
    socket.on('data', (bytes) => {
      try {
        for (const message of reader.push(bytes)) {
          if (this.#socket !== socket) return;
          this.#handlers.message(this, message);
        }
      } catch (error) {
        this.#handlers.failed(fromNative(error));
      }
    });
    // A refused or reset connection is nothing special: 'close' follows, and the next attempt.
    socket.on('error', (error) => {
      if (tls && isRefusal(error)) this.#handlers.failed(refusal(this.address, error));
    });
    socket.on('close', () => this.#lost(socket));
  }

  /** A side is known by its authority; names mean nothing. */
  #connectTls(where: NetConnectOpts, tls: TlsOptions): Socket {
    const certain = { ...tls, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined } as const;
    // tls.connect() knows no `noDelay`, and a small message would wait for the answer to the one before.
    return connectTls({ ...where, ...certain }).setNoDelay(true);
  }

  send(message: ClientMessage): void {
    if (this.#connected) this.#socket?.write(encode(message));
  }

  /** Breaks off and connects again: the side is not, or no longer, the one to talk to. */
  reset(): void {
    this.#socket?.destroy();
  }

  /** Hangs up for good, after what was sent. Resolves when the socket is gone. */
  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    const socket = this.#socket;
    if (!socket || socket.destroyed) return Promise.resolve();
    return new Promise((resolve) => {
      socket.once('close', () => resolve());
      if (this.#connected) socket.end(() => socket.destroy());
      else socket.destroy();
    });
  }

  ref(): void {
    this.#referenced = true;
    this.#socket?.ref();
    this.#retry?.ref();
  }

  unref(): void {
    this.#referenced = false;
    this.#socket?.unref();
    this.#retry?.unref();
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    const connected = this.#connected;
    this.#connected = false;
    if (connected) this.#handlers.changed(this, false);
    if (this.#closed) return;
    this.#retry = setTimeout(() => this.connect(), RETRY_MS);
    if (!this.#referenced) this.#retry.unref();
  }
}
