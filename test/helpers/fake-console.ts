import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a client sent, as far as the tests look at it. */
export interface Received {
  type: number;
  body: Buffer;
}

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
const offsets = (list: [number, number][]) =>
  Buffer.concat([
    Buffer.of(list.length),
    ...list.flatMap(([channel, offset]) => [Buffer.of(channel), u64(offset)]),
  ]);
const text8 = (text: string) => Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);

export const PAIR_ID = 'a'.repeat(32);

/** One side of a pair, as far as a console client can see: written from the protocol, not from the client. */
export class FakeSide {
  readonly address: string;
  readonly #server: Server;
  #socket: Socket | undefined;
  #messages: Received[] = [];
  #wake: (() => void) | undefined;

  constructor(path: string) {
    this.address = `unix:${path}`;
    this.#server = createServer((socket) => {
      this.#socket = socket;
      let unread: Buffer = Buffer.alloc(0);
      socket.on('error', () => {});
      socket.on('data', (bytes: Buffer) => {
        unread = Buffer.concat([unread, bytes]);
        while (unread.length >= 4 && unread.length >= 4 + unread.readUInt32LE()) {
          const length = unread.readUInt32LE();
          this.#messages.push({ type: unread.readUInt8(4), body: unread.subarray(5, 4 + length) });
          unread = unread.subarray(4 + length);
        }
        this.#wake?.();
      });
    }).listen(path);
  }

  /** The next message of this type; others before it are skipped. */
  async expect(type: number): Promise<Buffer> {
    for (;;) {
      const message = this.#messages.shift();
      if (message?.type === type) return message.body;
      if (message) continue;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** All input until `bytes` of it came, from the offset of the first message on. */
  async input(bytes: number): Promise<{ offset: number; text: string }> {
    let text = '';
    let offset = -1;
    while (text.length < bytes) {
      const body = await this.expect(0x03);
      if (offset < 0) offset = Number(body.readBigUInt64LE());
      text += body.subarray(8).toString();
    }
    return { offset, text };
  }

  welcome({
    generation = 1,
    input = 0,
    ended = false,
    window = 65536,
    output = [] as [number, number][],
  } = {}) {
    this.send(0x81, [
      u32(1),
      text8(PAIR_ID),
      u64(generation),
      u64(input),
      Buffer.of(ended ? 1 : 0),
      u32(window),
      offsets(output),
    ]);
  }

  output(offset: number, text: string, channel = 0) {
    this.send(0x82, [Buffer.of(channel), u64(offset), Buffer.from(text)]);
  }

  inputAck(offset: number, eof = false) {
    this.send(0x83, [u64(offset), Buffer.of(eof ? 1 : 0)]);
  }

  ended(status: number, totals: [number, number][], reason = 0) {
    this.send(0x84, [Buffer.of(reason), u32(status), offsets(totals)]);
  }

  error(code: string) {
    this.send(0x85, [text8(code), Buffer.of(4, 0), Buffer.from('text')]);
  }

  send(type: number, parts: Buffer[]) {
    const body = Buffer.concat([Buffer.of(type), ...parts]);
    this.#socket?.write(Buffer.concat([u32(body.length), body]));
  }

  /** As a killed process would. */
  die() {
    this.#socket?.destroy();
    this.#server.close();
  }
}

/** Two sides in a directory of their own. */
export function fakePair() {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'));
  const primary = new FakeSide(join(directory, 'primary'));
  const shadow = new FakeSide(join(directory, 'shadow'));
  const remove = () => {
    primary.die();
    shadow.die();
    rmSync(directory, { recursive: true, force: true });
  };
  return { primary, shadow, addresses: [primary.address, shadow.address], remove };
}
