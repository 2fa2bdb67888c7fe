/**
 * The console protocol's messages, as native/link/README.md specifies them:
 * `u32 length of what follows, u8 type, fields`, all little-endian.
 */
import { LockstepError } from '../errors.js';

export const CONSOLE_VERSION = 1;
const MESSAGE_MAX = 64 * 1024 + 1024;
/** Data bytes in one message. */
export const CHUNK_MAX = 64 * 1024;

export interface ChannelOffset {
  channel: number;
  offset: number;
}

export type ClientMessage =
  | { type: 'hello'; pairId: string; have: ChannelOffset[] }
  | { type: 'output-ack'; channel: number; offset: number }
  | { type: 'input'; offset: number; bytes: Uint8Array }
  | { type: 'input-eof'; offset: number }
  | { type: 'signal'; number: number }
  | { type: 'window'; rows: number; columns: number };

export type ServerMessage =
  | {
      type: 'welcome';
      version: number;
      pairId: string;
      generation: number;
      inputOffset: number;
      inputEnded: boolean;
      inputWindow: number;
      outputStart: ChannelOffset[];
    }
  | { type: 'output'; channel: number; offset: number; bytes: Buffer }
  | { type: 'input-ack'; offset: number; eof: boolean }
  | { type: 'ended'; reason: number; status: number; totals: ChannelOffset[] }
  | { type: 'error'; code: string; text: string };

const u8 = (value: number) => Buffer.of(value);
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const u16 = (value: number) => Buffer.of(value & 0xff, value >> 8);
const text8 = (text: string) => Buffer.concat([u8(Buffer.byteLength(text)), Buffer.from(text)]);
const offsets = (list: ChannelOffset[]) =>
  Buffer.concat([u8(list.length), ...list.flatMap(({ channel, offset }) => [u8(channel), u64(offset)])]);

function fields(message: ClientMessage): [type: number, ...Uint8Array[]] {
  switch (message.type) {
    case 'hello':
      return [0x01, u32(CONSOLE_VERSION), text8(message.pairId), offsets(message.have)];
    case 'output-ack':
      return [0x02, u8(message.channel), u64(message.offset)];
    case 'input':
      return [0x03, u64(message.offset), message.bytes];
    case 'input-eof':
      return [0x04, u64(message.offset)];
    case 'signal':
      return [0x05, u8(message.number)];
    case 'window':
      return [0x06, u16(message.rows), u16(message.columns)];
  }
}

export function encode(message: ClientMessage): Buffer {
  const [type, ...parts] = fields(message);
  const body = Buffer.concat([u8(type), ...parts]);
  return Buffer.concat([u32(body.length), body]);
}

function broken(what: string): LockstepError {
  return new LockstepError(
    'ERR_LOCKSTEP_CONSOLE_PROTOCOL',
    `the console's server broke the protocol: ${what}`,
  );
}

/** Reads fields off one message; running past its end throws. */
class FieldReader {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw broken('a message ends early.');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#at);
  }

  u8(): number {
    return this.take(1).readUInt8();
  }

  u32(): number {
    return this.take(4).readUInt32LE();
  }

  u64(): number {
    const value = Number(this.take(8).readBigUInt64LE());
    if (!Number.isSafeInteger(value)) throw broken('an offset out of range.');
    return value;
  }

  text8(): string {
    return this.take(this.u8()).toString();
  }

  text16(): string {
    return this.take(this.take(2).readUInt16LE()).toString();
  }

  offsets(): ChannelOffset[] {
    return Array.from({ length: this.u8() }, () => ({ channel: this.u8(), offset: this.u64() }));
  }

  done(): void {
    if (this.#at !== this.#bytes.length) throw broken('a message is longer than its fields.');
  }
}

function parse(type: number, read: FieldReader): ServerMessage {
  switch (type) {
    case 0x81:
      return {
        type: 'welcome',
        version: read.u32(),
        pairId: read.text8(),
        generation: read.u64(),
        inputOffset: read.u64(),
        inputEnded: read.u8() !== 0,
        inputWindow: read.u32(),
        outputStart: read.offsets(),
      };
    case 0x82:
      return { type: 'output', channel: read.u8(), offset: read.u64(), bytes: read.rest() };
    case 0x83:
      return { type: 'input-ack', offset: read.u64(), eof: read.u8() !== 0 };
    case 0x84:
      return { type: 'ended', reason: read.u8(), status: read.u32(), totals: read.offsets() };
    case 0x85:
      return { type: 'error', code: read.text8(), text: read.text16() };
    default:
      throw broken(`a message of unknown type ${type}.`);
  }
}

/** Cuts a byte stream into messages. */
export class MessageReader {
  #unread: Buffer = Buffer.alloc(0);

  /** The whole messages in what has come so far; throws ERR_LOCKSTEP_CONSOLE_PROTOCOL. */
  *push(bytes: Buffer): Generator<ServerMessage> {
    this.#unread = this.#unread.length === 0 ? bytes : Buffer.concat([this.#unread, bytes]);
    while (this.#unread.length >= 4) {
      const length = this.#unread.readUInt32LE();
      if (length < 1 || length > MESSAGE_MAX) throw broken('a message of impossible length.');
      if (this.#unread.length < 4 + length) return;
      const read = new FieldReader(this.#unread.subarray(5, 4 + length));
      const message = parse(this.#unread.readUInt8(4), read);
      read.done();
      this.#unread = this.#unread.subarray(4 + length);
      yield message;
    }
  }
}
