/** One line about an Ethernet frame, for people. */

const PROTOCOLS: Record<number, string> = { 1: 'icmp', 6: 'tcp', 17: 'udp' };
const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg'];

function ipv4(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

export function describePacket(frame: Uint8Array): string {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const length = `${bytes.length} bytes`;
  if (bytes.length < 14) return length;
  const type = bytes.readUInt16BE(12);
  if (type === 0x0806 && bytes.length >= 42) {
    const what = bytes.readUInt16BE(20) === 1 ? 'who has' : 'answer';
    return `${length} arp ${what} ${ipv4(bytes, 28)} > ${ipv4(bytes, 38)}`;
  }
  if (type !== 0x0800 || bytes.length < 34)
    return `${length} ethertype 0x${type.toString(16).padStart(4, '0')}`;
  const protocol = bytes.readUInt8(23);
  const name = PROTOCOLS[protocol] ?? `ip protocol ${protocol}`;
  const [from, to] = [ipv4(bytes, 26), ipv4(bytes, 30)];
  const ports = 14 + (bytes.readUInt8(14) & 15) * 4;
  const isFragment = (bytes.readUInt16BE(20) & 0x1fff) !== 0;
  if ((protocol !== 6 && protocol !== 17) || isFragment || bytes.length < ports + 4)
    return `${length} ${name} ${from} > ${to}`;
  const line = `${length} ${name} ${from}:${bytes.readUInt16BE(ports)} > ${to}:${bytes.readUInt16BE(ports + 2)}`;
  if (protocol !== 6 || bytes.length < ports + 14) return line;
  const flags = bytes.readUInt8(ports + 13);
  return `${line} ${TCP_FLAGS.filter((_name, bit) => (flags >> bit) & 1).join(',')}`;
}
