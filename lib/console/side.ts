import { connect, type Socket } from 'node:net';
import { fromNative } from '../errors.js';
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

/** One address of a pair: connected, and connected again whenever that is lost. */
export class Side {
  readonly address: string;
  readonly #handlers: SideHandlers;
  #socket: Socket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #connected = false;
  #referenced = true;
  #closed = false;

  constructor(address: string, handlers: SideHandlers) {
    this.address = address;
    this.#handlers = handlers;
  }

  get connected(): boolean {
    return this.#connected;
  }

  connect(): void {
    const socket = connect(parseAddress(this.address));
    const reader = new MessageReader();
    this.#socket = socket;
    if (!this.#referenced) socket.unref();
    socket.on('connect', () => {
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
    socket.on('error', () => {});
    socket.on('close', () => this.#lost(socket));
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
